"""The end of input and the end of the supervisor: what was accepted is finished and answered."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.pipes import Hold
from tests.wire import FAST, PATIENCE_S, PLUGINS, SERVE, Supervisor

pytest_plugins = ["tests.wire_fixtures"]


def stdio(tmp_path: Path, *options: str) -> Supervisor:
    return Supervisor(tmp_path, *options, stdio=True)


def test_the_end_of_input_finishes_what_was_accepted(tmp_path: Path, hold: Hold) -> None:
    """Also what waits behind a first load, which is not over when the input is."""
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.ask("add", "hold", {"source": str(PLUGINS / "holds.py")})
        jobs = [wire.ask("run", "hold", "run", [hold.path, n]) for n in range(3)]
        submitted = wire.ask("submit", "hold", "run", [hold.path, 3], {"notify": True})
        wire.end_input()
        hold.release(4)
        rest = wire.rest()
        assert [wire.result(job) for job in jobs] == [0, 1, 2]
        assert wire.result(submitted)["duplicate"] is False
        assert wire.note("job_done")[0]["result"] == 3
        assert rest[-1][1] == "goaway"
        assert supervisor.wait() == 0


def test_the_end_of_input_refuses_what_nobody_will_run(tmp_path: Path) -> None:
    """Behind a pause that nobody can end any more, and behind a release that fails."""
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.call("add", "echo", {"source": str(PLUGINS / "echoes.py")})
        wire.call("pause", "echo")
        paused = wire.ask("run", "echo", "run", [1])
        added = wire.ask("add", "broken", {"source": "broken.py"})
        behind = wire.ask("run", "broken", "run", [1])
        wire.end_input()
        code, _, data = wire.fault(paused)
        assert (code, data["executed"], data["retryable"]) == (1011, "no", True)
        assert wire.fault(added)[0] == 1016
        assert wire.fault(behind)[2]["executed"] == "no"
        assert wire.goaway()[0] == 2009
        assert supervisor.wait() == 0


def test_standard_input_and_output_are_left_as_they_were(tmp_path: Path) -> None:
    """Others may share them, and O_NONBLOCK belongs to all who do."""
    pipes = [os.pipe() for _ in range(2)]
    (in_fd, to_in), (from_out, out_fd) = pipes
    os.close(to_in)
    argv = [*SERVE, "--stdio", *FAST]
    subprocess.run(argv, stdin=in_fd, stdout=out_fd, timeout=PATIENCE_S, check=True, cwd=tmp_path)
    assert os.get_blocking(in_fd)
    assert os.get_blocking(out_fd)
    for fd in (in_fd, from_out, out_fd):
        os.close(fd)


def test_requests_may_come_from_a_regular_file(tmp_path: Path) -> None:
    requests = tmp_path / "requests"
    echo = {"source": str(PLUGINS / "echoes.py")}
    calls: list[tuple[str, list[Any]]] = [
        ("add", ["echo", echo]),
        ("run", ["echo", "run", [7]]),
    ]
    requests.write_bytes(b"".join(msgpack.packb((0, n, *call)) for n, call in enumerate(calls)))
    with requests.open("rb") as given:
        done = subprocess.run(
            [*SERVE, "--stdio", *FAST], stdin=given, capture_output=True, timeout=PATIENCE_S,
            check=True, cwd=tmp_path,
        )  # fmt: skip
    unpacker = msgpack.Unpacker()
    unpacker.feed(done.stdout)
    answers = list(unpacker)
    assert sorted(answer[1] for answer in answers[:2]) == [0, 1]
    assert [1, 1, None, 7] in answers
    assert answers[2][1] == "goaway"


def test_everything_is_written_before_the_exit(tmp_path: Path) -> None:
    """Many pipes full of answers."""
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.call("add", "echo", {"source": str(PLUGINS / "echoes.py")})
        jobs = [wire.ask("run", "echo", "run", [bytes(1 << 20)]) for _ in range(4)]
        wire.end_input()
        assert [len(wire.result(job)) for job in jobs] == [1 << 20] * 4
        assert wire.goaway()[0] == 2009
        assert supervisor.wait() == 0


def test_requests_under_way_are_answered_before_goaway(tmp_path: Path) -> None:
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.call("add", "echo", {"source": str(PLUGINS / "echoes.py"), "probation": "30s"})
        watched = wire.ask("reload", ["echo"], {"force": True, "wait": "watched"})
        assert wire.call("run", "echo", "run", [1]) == 1
        wire.end_input()
        assert wire.goaway()[0] == 2009
        assert wire.answer(watched) is not None
        assert supervisor.wait() == 0


@pytest.mark.parametrize("mode", ["drain", "now"])
def test_shutdown_answers_counts_then_goaway_then_the_end(
    tmp_path: Path, hold: Hold, mode: str
) -> None:
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.call("add", "hold", {"source": str(PLUGINS / "holds.py")})
        jobs = [wire.ask("run", "hold", "run", [hold.path, n]) for n in range(2)]
        hold.wait_for(1)
        last = wire.ask("shutdown", {"mode": mode})
        if mode == "drain":
            assert wire.refused("run", "hold", "run", [])[0] == 1011
            hold.release(2)
            assert [wire.result(job) for job in jobs] == [0, 1]
        else:
            codes = [wire.fault(job)[0] for job in jobs]
            assert codes == [1003, 1011]
        counts = wire.result(last)
        assert counts["accepted"] == 2
        assert counts["accepted"] == sum(counts[key] for key in ("done", "failed", "lost"))
        assert wire.goaway()[0] == 2009
        assert supervisor.wait() == 0


def test_shutdown_with_a_time_limit_kills_what_is_left(tmp_path: Path, hold: Hold) -> None:
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.call("add", "hold", {"source": str(PLUGINS / "holds.py")})
        job = wire.ask("run", "hold", "run", [hold.path])
        hold.wait_for(1)
        last = wire.ask("shutdown", {"timeout_ms": 50})
        code, _, data = wire.fault(job)
        assert (code, data["reason"], data["executed"]) == (1003, "stopped", "maybe")
        assert wire.result(last)["lost"] == 1
        assert supervisor.wait() == 0


def test_all_clients_are_told_of_a_shutdown(tmp_path: Path) -> None:
    with Supervisor(tmp_path, "-o", "allow_add=true") as supervisor:
        with supervisor.connect() as one, supervisor.connect() as other:
            other.call("ping", 1)
            assert one.call("shutdown")["accepted"] == 0
            assert one.goaway()[0] == other.goaway()[0] == 2009
        assert supervisor.wait() == 0


def test_a_socket_client_may_not_add_unless_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "changeover.toml").write_text(f'[plugins.e]\nsource = "{PLUGINS}/echoes.py"\n')
    with Supervisor(tmp_path) as supervisor, supervisor.connect() as wire:
        code, message, data = wire.refused("add", "x", {"source": "x.py"})
        assert (code, data["executed"], data["retryable"]) == (1021, "no", False)
        assert "allow_add" in message
        assert wire.refused("remove", "e")[0] == 1021
        assert wire.call("run", "e", "run", [1]) == 1


def test_an_input_that_ends_in_mid_message_is_told(tmp_path: Path) -> None:
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        asked = wire.ask("ping", 1)
        wire.write(b"\x94\x00\x07")
        wire.end_input()
        assert wire.result(asked) == 1
        assert wire.goaway()[0] == 2009
        assert supervisor.wait() == 1
        assert any("after 3 bytes" in line for line in supervisor.log)
