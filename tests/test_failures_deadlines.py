"""Jobs that end within a millisecond of their deadline, again and again: one outcome for each."""

from __future__ import annotations

import select
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from .conftest import PluginFile
from .pipes import Hold, plugin_text
from .wire import Supervisor, Wire, raw_worker

PLUGINS = Path(__file__).parent / "plugins"
STARTS = ("exec", "spawn", "forkserver")
DONE, LATE, LOST = 0, 1002, 1003


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """It takes no answer that nobody waits for, so no second one either."""
    with Supervisor(tmp_path_factory.mktemp("s"), "-o", "watch=off", stdio=True) as supervisor:
        yield supervisor.wire


def outcome(wire: Wire, msgid: int) -> int:
    error = wire.answer(msgid).error
    return error[0] if error else DONE


def counts(wire: Wire, plugin: str) -> dict[str, Any]:
    found: dict[str, Any] = wire.call("status", {})["plugins"][plugin]["counts"]
    return found


@pytest.mark.parametrize("start", STARTS)
def test_a_job_that_ends_at_its_deadline_is_done_or_late(wire: Wire, start: str) -> None:
    spec = {"source": str(PLUGINS / "takes_its_time.py"), "start": start, "concurrency": 8}
    wire.call("add", start, spec)
    seen: Counter[int] = Counter()
    for turn in range(25):
        asked = [
            wire.ask("run", start, "run", [10 + (lane - 4) / 4, bool(turn % 2)], {"timeout_ms": 10})
            for lane in range(8)
        ]
        seen.update(outcome(wire, msgid) for msgid in asked)
    assert set(seen) <= {DONE, LATE}
    assert counts(wire, start) == {
        "accepted": 200, "done": seen[DONE], "failed": seen[LATE], "cancelled": 0, "lost": 0,
        "rerun": 0,
    }  # fmt: skip
    wire.call("remove", start)


def test_a_worker_that_cannot_cancel_answers_late_and_nobody_hears_it(wire: Wire) -> None:
    wire.call("add", "raw", raw_worker("speaks_by_hand.py"))
    seen: Counter[int] = Counter()
    for turn in range(200):
        args = ["here", "", 4 + turn % 20 / 10]
        seen[outcome(wire, wire.ask("run", "raw", "run", args, {"timeout_ms": 5}))] += 1
    assert set(seen) == {DONE, LATE}
    found = counts(wire, "raw")
    assert (found["accepted"], found["done"], found["failed"]) == (200, seen[DONE], seen[LATE])
    wire.call("remove", "raw")


def test_a_complete_answer_wins_over_the_death_behind_it(wire: Wire) -> None:
    for turn in range(8):
        wire.call("add", f"raw{turn}", raw_worker("speaks_by_hand.py"))
        assert wire.call("run", f"raw{turn}", "run", ["answers and dies"]) == "answers and dies"
        wire.call("remove", f"raw{turn}")


@pytest.mark.parametrize("start", STARTS)
def test_a_straggler_that_ends_at_the_drain_timeout_is_done_or_lost(
    wire: Wire, plugin_file: PluginFile, tmp_path: Path, start: str
) -> None:
    path = str(plugin_file("job.py", plugin_text("1.0.0", pure=False)))
    spec = {"source": path, "start": start, "drain_timeout": "10ms", "kill_grace": "50ms"}
    wire.call("add", start, spec)
    seen: Counter[int] = Counter()
    for turn in range(5):
        with closing(Hold(tmp_path, f"hold{turn}")) as hold:
            straggler = wire.ask("run", start, "run", [turn, hold.path])
            hold.wait_for(1)
            wire.call("reload", [start], {"force": True, "wait": "cut"})
            select.select([], [], [], (8 + turn) / 1000)  # the drain began a moment ago
            hold.release(1)
            seen[outcome(wire, straggler)] += 1
    assert set(seen) <= {DONE, LOST}
    found = counts(wire, start)
    assert (found["accepted"], found["done"], found["lost"]) == (5, seen[DONE], seen[LOST])
    wire.call("remove", start)
