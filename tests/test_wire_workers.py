"""What a strange worker sends ends that call or that worker, and nothing else."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire import PLUGINS, Answer, Supervisor, Wire, packed, raw_worker

MIB = 1024 * 1024
KEYS = {"restart": "10ms..20ms", "crash_loop": "1000 in 60s", "kill_grace": "300ms"}


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    folder = tmp_path_factory.mktemp("workers")
    with Supervisor(folder, "-o", "allow_add=true", "-o", "max_spawns=4") as supervisor:
        with supervisor.connect() as wire:
            wire.call("add", "echo", {"source": str(PLUGINS / "echoes.py")})
        yield supervisor


@pytest.fixture
def wire(supervisor: Supervisor) -> Iterator[Wire]:
    with supervisor.connect() as wire:
        yield wire
        assert wire.call("run", "echo", "run", ["others are served"]) == "others are served"


@pytest.fixture
def strange(wire: Wire, request: pytest.FixtureRequest) -> Iterator[str]:
    """A plugin that misbehaves as the test's parameter says when it gets a job."""
    name = f"raw_{request.param}"
    wire.call("add", name, {**raw_worker("raw_strange.py", "job", request.param), **KEYS})
    yield name
    wire.call("remove", name)


def how(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("strange", names, indirect=True)


def pid_of(wire: Wire, plugin: str) -> int:
    (worker,) = wire.call("status", {"plugin": plugin})["plugins"][plugin]["workers"]
    return int(worker["pid"])


BREAKS = {
    "text": "wrote to stdout: 'Loading model...'",
    "c1": "c1",
    "bad_envelope": "not a request, response or notification",
    "far_too_deep": "1024",
    "floods": "67108864",
    "strays": "101 answers that nobody waits for",
    "closes_stdout": "closed its output",
    "items": "beyond its credit",
}


@how(*BREAKS)
def test_a_worker_that_breaks_the_protocol_is_replaced(wire: Wire, strange: str) -> None:
    before = pid_of(wire, strange)
    code, message, data = wire.refused("run", strange, "run", [])
    assert (code, data["reason"], data["executed"]) == (1003, "protocol", "maybe")
    what = BREAKS[strange.removeprefix("raw_")]
    assert what in message, "the caller is told what it did"
    lines = wire.call("logs", {"plugin": strange})
    assert any(what in line["message"] for line in lines), "and so is the operator"
    assert wire.call("run", strange, "run", ["behave"]) == "behaved"
    assert pid_of(wire, strange) != before


@how("text", "c1", "bad_envelope", "items", "too_deep", "odd_error")
def test_at_every_split_point_it_comes_to_the_same(wire: Wire, strange: str) -> None:
    whole = wire.answer(wire.ask("run", strange, "run", []))
    for at in itertools.count():  # 0: byte by byte
        cut = wire.answer(wire.ask("run", strange, "run", [at]))
        if cut.result == "nothing left to cut":
            break
        assert _outcome(cut) == _outcome(whole)
    assert at > 2


def _outcome(answer: Answer) -> Any:
    error, result = answer
    return result if error is None else (error[0], error[2].get("reason"))


@how("text")
def test_only_that_workers_jobs_are_lost(wire: Wire, strange: str) -> None:
    jobs = [wire.ask("run", strange, "run", []), wire.ask("run", strange, "run", ["behave"])]
    assert wire.fault(jobs[0])[0] == 1003
    assert wire.result(jobs[1]) == "behaved"


@how("huge")
def test_a_header_that_announces_2_gib_costs_nothing(
    supervisor: Supervisor, wire: Wire, strange: str
) -> None:
    before = rss_mib(supervisor)
    msgid = wire.ask("run", strange, "run", [], {"id": "announced"})
    assert wire.call("run", "echo", "run", [1]) == 1
    assert rss_mib(supervisor) - before < 64
    wire.call("cancel", "announced", {"mode": "kill"})
    assert wire.fault(msgid)[0] == 1001
    assert wire.call("run", strange, "run", ["behave"]) == "behaved"


def rss_mib(supervisor: Supervisor) -> int:
    statm = Path(f"/proc/{supervisor.process.pid}/statm").read_text()
    return int(statm.split()[1]) * 4096 // MIB


@how("too_deep", "big_answer")
def test_a_result_that_does_not_fit_is_that_jobs_trouble(wire: Wire, strange: str) -> None:
    before = pid_of(wire, strange)
    record = wire.call("run", strange, "run", [], {"record": True})
    code, _, data = record["error"]
    assert (record["state"], code, data["executed"]) == ("failed", 1004, "yes")
    assert wire.call("run", strange, "run", ["behave"]) == "behaved"
    assert pid_of(wire, strange) == before


@how("as_deep_as_may_be")
def test_a_result_may_be_too_deep_for_a_record(wire: Wire, strange: str) -> None:
    """There it is inside more containers than in the worker's answer."""
    result = wire.call("run", strange, "run", [])
    depth = 0
    while result is not None:
        (result,) = result
        depth += 1
    assert depth == 63
    for answer in (
        wire.call("run", strange, "run", [], {"record": True}),
        *wire.call("wait", [wire.call("submit", strange, "run", [])["job"]]),
    ):
        code, _, data = answer["error"]
        assert (answer["state"], answer["result"]) == ("failed", None)
        assert (code, data["executed"]) == (1004, "yes")


@how("few_strays", "twice", "odd_notifications", "asks", "text_error", "nvim_error", "odd_error",
     "own_code", "bomb")  # fmt: skip
def test_what_is_only_odd_is_borne(wire: Wire, strange: str) -> None:
    before = pid_of(wire, strange)
    error, result = wire.answer(wire.ask("run", strange, "run", []))
    behaviour = strange.removeprefix("raw_")
    expected: dict[str, Any] = {
        "few_strays": "after 99",
        "twice": "first",
        "odd_notifications": "still there",
    }
    if behaviour in expected:
        assert (error, result) == (None, expected[behaviour])
    elif behaviour == "asks":
        kind, msgid, (code, _, _), nothing = result
        assert (kind, msgid, code, nothing) == (1, 77, -32601, None)
    else:
        code, message, data = error
        assert code == (12345 if behaviour == "own_code" else 1000)
        assert data["executed"] == "yes"
        assert data["retryable"] is (behaviour == "own_code")
        assert data["job"]
        says = {"text_error": "just words", "nvim_error": "Vim says no", "own_code": "mine"}
        assert says.get(behaviour, "") in message
    assert wire.call("run", strange, "run", ["behave"]) == "behaved"
    assert pid_of(wire, strange) == before


@how("bomb")
def test_an_error_is_not_decoded_beyond_its_limit(
    supervisor: Supervisor, wire: Wire, strange: str
) -> None:
    before = rss_mib(supervisor)
    code, message, _ = wire.refused("run", strange, "run", [])
    assert code == 1000
    assert "bytes" in message
    assert rss_mib(supervisor) - before < 100


@how("fuzzes")
def test_mutated_messages_of_a_worker_end_it_or_are_borne(wire: Wire, strange: str) -> None:
    for _ in range(12):
        seed = random.randrange(2**32)
        print("seed", seed)
        options = {"id": f"seed-{seed}", "timeout_ms": 200, "stream": 100, "progress": True}
        error, result = wire.answer(wire.ask("run", strange, "run", [], options))
        assert result == "survived" or error[0] in (1000, 1002, 1003)
        assert wire.call("run", strange, "run", ["behave"]) == "behaved"


BAD_BOOTS = [
    ("hello", "nothing", "hello was answered with None"),
    ("hello", "a_list", "hello was answered with [1, 2]"),
    ("hello", "protocol_2", "'protocol': 2"),
    ("hello", "no_methods", "no methods"),
    ("hello", "odd_methods", "no methods"),
    ("load", "nothing", "load was answered with NoneType"),
    ("load", "a_list", "load was answered with list"),
    ("load", "protocol_2", "no methods"),
    ("load", "no_methods", "no methods"),
    ("load", "error", "the model is gone"),
    ("load", "text", "wrote to stdout: 'weights: 12 MB'"),
]


@pytest.mark.parametrize(("stage", "behaviour", "says"), BAD_BOOTS)
def test_a_bad_answer_at_boot_is_a_refusal_that_says_so(
    wire: Wire, stage: str, behaviour: str, says: str
) -> None:
    code, message, data = wire.refused("add", "bad", raw_worker("raw_strange.py", stage, behaviour))
    assert (code, data["plugin"]) == (1016, "bad")
    assert says in message
    assert wire.refused("run", "bad", "run", [])[0] == 1013


@pytest.mark.parametrize("stage", ["hello", "load"])
@pytest.mark.parametrize("behaviour", ["odd_state", "odd_capabilities", "odd_version"])
def test_odd_facts_at_boot_are_borne(wire: Wire, stage: str, behaviour: str) -> None:
    keys = raw_worker("raw_strange.py", stage, behaviour)
    answer = wire.call("add", "odd", keys)
    assert isinstance(answer["release"]["version"], str)
    assert wire.call("run", "odd", "run", [1]) == [1]
    wire.call("remove", "odd")


def test_64_mib_for_a_worker_that_does_not_read_delays_nobody(
    wire: Wire, supervisor: Supervisor
) -> None:
    wire.call("add", "stuck", {**raw_worker("never_reads.py"), **KEYS})
    first = wire.ask("run", "stuck", "run", [], {"id": "stuck-1"})
    begun = time.monotonic()
    for number in range(50):
        assert wire.call("run", "echo", "run", [number]) == number
    alone = time.monotonic() - begun
    wire.call("add", "stuck_too", {**raw_worker("never_reads.py"), "concurrency": 1, **KEYS})
    with supervisor.connect() as sender:
        head = packed("stuck_too", "run") + b"\xc6"
        size = 63 * MIB
        sender.expect(100)
        sender.write(b"\x94\x00\x64" + packed("run") + b"\x94" + head + size.to_bytes(4, "big"))
        sender.write(bytes(size) + packed({"id": "stuck-2"}))
        jobs = [sender.ask("run", "stuck_too", "run", [], {"id": "stuck-3"})]
        assert sender.call("cancel", "stuck-3")["state"] == "cancelled"
        assert sender.fault(jobs[0])[0] == 1001
        (job,) = sender.call("status", {"job": "stuck-2"})["jobs"]
        assert job["state"] == "running"  # its bytes are on their way
        begun = time.monotonic()
        for number in range(50):
            assert wire.call("run", "echo", "run", [number]) == number
        beside = time.monotonic() - begun
        assert beside < 10 * alone + 1.0
        assert sender.call("cancel", "stuck-2", {"mode": "kill"})["job"] == "stuck-2"
        assert sender.fault(100)[0] == 1001
    wire.call("cancel", "stuck-1", {"mode": "kill"})
    assert wire.fault(first)[0] == 1001
    assert wire.call("run", "stuck", "run", ["behave"]) == "behaved"
    wire.call("remove", "stuck")
    wire.call("remove", "stuck_too")
