"""Clients come, go, die and come back; whoever stays notices nothing."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipes import Hold
from tests.wire import PATIENCE_S, PLUGINS, Supervisor, Wire, packed

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    folder = tmp_path_factory.mktemp("clients")
    with Supervisor(folder, "-o", "allow_add=true") as supervisor:
        with supervisor.connect() as wire:
            for name, file in {
                "echo": "echoes.py",
                "heed": "heeds.py",
                "yields": "yields.py",
            }.items():
                wire.call("add", name, {"source": str(PLUGINS / file)})
            wire.call("add", "hold", {"source": str(PLUGINS / "holds.py"), "kill_grace": "300ms"})
        yield supervisor


@pytest.fixture
def wire(supervisor: Supervisor) -> Iterator[Wire]:
    with supervisor.connect() as wire:
        yield wire
        assert wire.call("run", "echo", "run", ["still served"]) == "still served"


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    hold = Hold(tmp_path)
    yield hold
    hold.close()


def ended(watcher: Wire, job: str) -> str:
    """How a job ended, as a watcher of all jobs is told."""
    while True:
        name, facts = watcher.note("job_ended")
        if name == job:
            return str(facts["state"])


# -- a client that dies


def test_a_dead_clients_runs_are_cancelled_and_its_submits_go_on(
    supervisor: Supervisor, wire: Wire, hold: Hold
) -> None:
    wire.call("watch", ["jobs"])
    with supervisor.connect() as client:
        client.ask("run", "heed", "run", [hold.path], {"id": "run"})
        hold.wait_for(1)
        client.ask("run", "heed", "run", [hold.path], {"id": "queued"})
        client.call("submit", "echo", "run", [1], {"id": "submitted"})
        client.call("submit", "heed", "run", [hold.path], {"id": "kept"})
        assert ended(wire, "submitted") == "done"
    assert ended(wire, "queued") == "cancelled"
    assert ended(wire, "run") == "cancelled"
    hold.wait_for(1)
    hold.release(1)
    assert ended(wire, "kept") == "done"


def test_a_client_that_is_killed_is_one_that_has_left(
    supervisor: Supervisor, wire: Wire, hold: Hold
) -> None:
    """SIGKILL, in the middle of writing a message."""
    wire.call("watch", ["jobs"])
    request = packed([0, 1, "run", ["heed", "run", [hold.path], {"id": "orphan"}]])
    code = (
        "import socket, sys, signal; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(bytes.fromhex(sys.argv[2])); signal.pause()"
    )
    data = (request + request[:-3]).hex()
    client = subprocess.Popen([sys.executable, "-c", code, supervisor.path, data])
    hold.wait_for(1)
    client.send_signal(signal.SIGKILL)
    client.wait()
    assert ended(wire, "orphan") == "cancelled"
    record = wire.call("run", "heed", "run", [hold.path], {"record": True, "timeout_ms": 1})
    assert record["error"][0] == 1002


def test_on_disconnect_says_otherwise(supervisor: Supervisor, wire: Wire, hold: Hold) -> None:
    wire.call("watch", ["jobs"])
    with supervisor.connect() as client:
        options = {"id": "run-kept", "on_disconnect": "keep"}
        client.ask("run", "heed", "run", [hold.path], options)
        hold.wait_for(1)
        options = {"id": "submit-cancelled", "on_disconnect": "cancel"}
        client.call("submit", "heed", "run", [hold.path], options)
    assert ended(wire, "submit-cancelled") == "cancelled"
    hold.release(1)
    assert ended(wire, "run-kept") == "done"


def test_a_deaf_worker_of_a_dead_client_is_replaced(
    supervisor: Supervisor, wire: Wire, hold: Hold, tmp_path: Path
) -> None:
    wire.call("watch", ["jobs"])
    with supervisor.connect() as client:
        client.ask("run", "hold", "run", [hold.path], {"id": "deaf"})
        hold.wait_for(1)
    assert ended(wire, "deaf") == "cancelled"
    other = Hold(tmp_path, "other")
    msgid = wire.ask("run", "hold", "run", [other.path, "after"])
    other.wait_for(1)
    other.release(1)
    assert wire.result(msgid) == "after"
    other.close()


def test_a_job_lives_as_long_as_anybody_waits_for_it(
    supervisor: Supervisor, wire: Wire, hold: Hold
) -> None:
    with supervisor.connect() as first, supervisor.connect() as second:
        first.ask("run", "heed", "run", [hold.path], {"id": "shared"})
        hold.wait_for(1)
        second.ask("run", "heed", "run", [hold.path], {"id": "shared"})
        ours = wire.ask("run", "heed", "run", [hold.path], {"id": "shared"})
        assert second.call("ping", 1) == wire.call("ping", 1) == 1
        first.close()
        second.close()
    assert wire.call("status", {"job": "shared"})["jobs"][0]["state"] == "running"
    hold.release(1)
    assert wire.result(ours) == "went"
    assert hold.is_quiet()


def test_whoever_only_waits_does_not_keep_a_job_alive(
    supervisor: Supervisor, wire: Wire, hold: Hold
) -> None:
    with supervisor.connect() as client:
        client.ask("run", "heed", "run", [hold.path], {"id": "watched"})
        hold.wait_for(1)
        waiting = wire.ask("wait", ["watched"])
        assert wire.call("ping", 1) == 1
    (record,) = wire.result(waiting)
    assert (record["state"], record["error"][0]) == ("cancelled", 1001)
    assert record["error"][2]["reason"] == "disconnected"


# -- a client that comes back


def test_a_client_that_comes_back_finds_its_job(
    supervisor: Supervisor, wire: Wire, hold: Hold
) -> None:
    with supervisor.connect() as client:
        client.call("submit", "heed", "run", [hold.path], {"id": "again"})
        hold.wait_for(1)
    with supervisor.connect() as client:
        answer = client.call("submit", "heed", "run", [hold.path], {"id": "again"})
        assert answer == {"job": "again", "duplicate": True}
        waiting = client.ask("run", "heed", "run", [hold.path], {"id": "again"})
        assert client.refused("run", "heed", "run", [], {"id": "again"})[0] == 1014
        hold.release(1)
        assert client.result(waiting) == "went"
        (record,) = client.call("wait", ["again"])
        assert (record["attempts"], record["result"]) == (1, "went")
    assert hold.is_quiet(), "it ran once"


def test_a_stream_goes_on_for_whoever_comes_back(supervisor: Supervisor, wire: Wire) -> None:
    """It was left without credit; the new caller brings some."""
    options = {"id": "stream", "stream": 2}
    with supervisor.connect() as client:
        client.call("submit", "yields", "run", [5, False], options)
        assert [client.note("item")[1] for _ in range(2)] == [0, 1]
    with supervisor.connect() as client:
        msgid = client.ask("run", "yields", "run", [5, False], {**options, "stream": 9})
        assert client.result(msgid) == "end"
        assert client.notes == [("item", ["stream", seq, seq * 10]) for seq in (2, 3, 4)]


def test_what_was_kept_for_a_session_goes_with_it(supervisor: Supervisor, wire: Wire) -> None:
    with supervisor.connect() as client:
        client.call("submit", "echo", "run", [1], {"id": "gone"})
        client.call("run", "echo", "run", [2])
    assert wire.refused("wait", ["gone"])[0] == 1013


# -- a client that does not read


def test_a_client_that_does_not_read_delays_nobody_and_loses_nothing(
    supervisor: Supervisor, wire: Wire
) -> None:
    with supervisor.connect() as lazy:
        lazy.expect(*range(30))
        for number in range(30):
            data = packed([0, number, "run", ["echo", "run", [bytes(MIB)]]])
            lazy.write(data, reads=number > 8)  # beyond it the supervisor does not read either
            assert wire.call("run", "echo", "run", [number]) == number
        assert [len(lazy.result(number)) for number in range(30)] == [MIB] * 30


def test_a_client_that_dies_without_reading_is_forgotten(
    supervisor: Supervisor, wire: Wire, hold: Hold
) -> None:
    """Reading from it had stopped, so its end of input alone would not be seen."""
    wire.call("watch", ["jobs"])
    lazy = supervisor.connect()
    lazy.ask("run", "heed", "run", [hold.path], {"id": "unread"})
    hold.wait_for(1)
    for number in range(16):
        request = packed([0, 100 + number, "ping", [bytes(MIB)]])
        try:
            while request:
                request = request[os.write(lazy.write_fd, request) :]
        except BlockingIOError:
            if number >= 12:
                break
            assert wire.call("ping", number) == number
    lazy.close()
    assert ended(wire, "unread") == "cancelled"


def test_a_slow_watcher_is_told_that_it_lags(supervisor: Supervisor, wire: Wire) -> None:
    """Each of its watches; they are many here, so that few jobs make much to read."""
    with supervisor.connect() as lazy:
        watches = {lazy.call("watch", ["jobs"], {"plugin": "echo"})["watch"] for _ in range(60)}
        jobs = [wire.ask("run", "echo", "run", [n]) for n in range(1000)]
        assert [wire.result(job) for job in jobs] == list(range(1000))
        assert lazy.call("ping", "read everything") == "read everything"
        assert "lagged" not in [method for method, _ in lazy.notes]
        wire.call("run", "echo", "run", [1])
        assert lazy.call("ping", 1) == 1
        lagged = {params[0]: params[1] for method, params in lazy.notes if method == "lagged"}
        assert set(lagged) == watches
        told = sum(method == "job_ended" for method, _ in lazy.notes)
        assert told + sum(facts["dropped"] for facts in lagged.values()) == 60 * 1001
        assert all(facts["seq"] > 0 for facts in lagged.values())


def test_a_slow_client_is_told_the_newest_progress_only(supervisor: Supervisor, wire: Wire) -> None:
    with supervisor.connect() as lazy:
        message = "x" * 2000
        wire.call("watch", ["jobs"])
        msgid = lazy.ask(
            "run", "yields", "tells", [3000, message], {"progress": True, "id": "slow"}
        )
        assert ended(wire, "slow") == "done"
        assert lazy.result(msgid) == 3000
        told = [params[1]["done"] for method, params in lazy.notes if method == "progress"]
        assert len(told) < 2000, "two thousand of them fill what may lag"
        assert told == sorted(told)


# -- many clients


def test_many_clients_at_once_get_their_own_answers(supervisor: Supervisor, wire: Wire) -> None:
    clients = [supervisor.connect() for _ in range(30)]
    asked = [
        [client.ask("run", "echo", "run", [[number, n]]) for n in range(20)]
        for number, client in enumerate(clients)
    ]
    for number, client in reversed(list(enumerate(clients))):
        assert [client.result(job) for job in asked[number]] == [[number, n] for n in range(20)]
        client.close()


def test_nothing_is_left_of_clients_that_have_gone(supervisor: Supervisor, wire: Wire) -> None:
    fds = f"/proc/{supervisor.process.pid}/fd"
    assert wire.call("ping", 1) == 1
    before = len(os.listdir(fds))
    for round_ in range(100):
        with supervisor.connect() as client:
            if round_ % 2:
                client.call("watch", ["plugins"])
            client.ask("run", "echo", "run", [round_])
    wire.call("watch", ["jobs"])
    while len(os.listdir(fds)) > before:
        wire.call("run", "echo", "run", [1])


# -- a client on stdio


def test_a_reader_that_goes_ends_the_supervisor(tmp_path: Path, hold: Hold) -> None:
    """Nobody can be told any more, so there is nothing left to finish."""
    with Supervisor(tmp_path, stdio=True) as supervisor:
        wire = supervisor.wire
        wire.call("add", "hold", {"source": str(PLUGINS / "holds.py")})
        wire.ask("run", "hold", "run", [hold.path])
        hold.wait_for(1)
        wire.close()
        assert supervisor.wait() == 0


def test_a_breach_of_the_protocol_on_stdio_is_told_and_ends_it(tmp_path: Path) -> None:
    with Supervisor(tmp_path, stdio=True) as supervisor:
        wire = supervisor.wire
        assert wire.call("ping", 1) == 1
        wire.write(b"print('hello')\n")
        code, message = wire.goaway()
        assert (code, "print('hello')" in message) == (2000, True)
        assert supervisor.wait() == 1


def test_a_signal_ends_the_wait_for_a_reader(tmp_path: Path) -> None:
    """After the end of its input only the last answers are left, and nobody reads them."""
    with Supervisor(tmp_path, stdio=True) as supervisor:
        wire = supervisor.wire
        wire.call("add", "echo", {"source": str(PLUGINS / "echoes.py")})
        (worker,) = wire.call("status")["plugins"]["echo"]["workers"]
        pidfd = os.pidfd_open(worker["pid"])
        wire.ask("run", "echo", "run", [bytes(4 * MIB)])
        wire.end_input()
        assert select.select([pidfd], [], [], PATIENCE_S)[0]
        os.close(pidfd)
        supervisor.process.send_signal(signal.SIGTERM)
        assert supervisor.wait() == 0
