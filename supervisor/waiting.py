"""Waiting for a changeover to get as far as its caller wants."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Literal

from ..protocol.errors import Code, Fault
from .changeover import Changeover
from .core import Core
from .states import Step
from .status import release_facts

Level = Literal["cut", "drained", "watched"]
LEVELS: tuple[Level, ...] = ("drained", "cut", "watched")
SHOWN = {"stage": "staged", "warm": "warmed", "check": "checked", "adopt": "adopted",
         "hold": "held", "drain": "drained", "export": "exported", "stop": "stopped",
         "park": "parked", "watch": "watched", "retire": "retired"}  # fmt: skip


class ChangeWaiter:
    """One caller of `reload`, `rollback` or `add`. Sits in `Changeover.waiters`."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.future: asyncio.Future[Changeover] = asyncio.get_running_loop().create_future()

    def see(self, change: Changeover) -> None:
        """The changeover has moved."""
        if not self.future.done() and _is_far_enough(change, self.level):
            self.future.set_result(change)


def _is_far_enough(change: Changeover, level: Level) -> bool:
    if change.has_ended:
        return True
    if level == "cut":
        return change.has_cut
    return level == "drained" and change.step in (Step.WATCH, Step.RETIRE)


def notice(change: Changeover) -> None:
    """Tell everyone who waits for it."""
    for waiter in change.waiters:
        waiter.see(change)


async def wait_for(change: Changeover, level: Level, timeout_s: float | None) -> Changeover:
    """Return the changeover (or the one that took its place) once it is far enough.

    Raises Fault DEADLINE after `timeout_s`; the changeover goes on.
    """
    waiter = ChangeWaiter(level)
    change.waiters.append(waiter)
    waiter.see(change)
    try:
        return await asyncio.wait_for(waiter.future, timeout_s)
    except TimeoutError:
        raise Fault.new(
            Code.DEADLINE,
            f"{change.plugin}: not {level} within {timeout_s:g} s (at {change.step.value}); "
            "nothing is lost, it goes on",
            reason="timeout",
            plugin=change.plugin,
            stage=change.step.value,
        ) from None


def outcome(core: Core, change: Changeover) -> dict[str, Any]:
    """One element of the answer to `reload` and `rollback`."""
    until = change.watched_until
    old = change.old.release if change.old else None
    plugin = core.plugins.get(change.plugin)
    if not change.number and plugin is not None and plugin.live is not None:
        old = plugin.live.release  # it came to nothing: what serves is what served
    return {
        "name": change.plugin,
        "outcome": change.outcome or "done",
        "from": release_facts(old),
        "to": release_facts(change.release),
        "generation": change.number or None,
        "stage": change.stage,
        "cause": change.cause,
        "meanwhile": change.meanwhile,
        "drained": change.report.drained,
        "killed": change.report.killed,
        "lost": change.lost,
        "phases": phases(change),
        "watched_until": _time(core, until) if until is not None else None,
        "parked": change.parked is not None,
    }


def phases(change: Changeover) -> list[dict[str, Any]]:
    """What it has done so far: `{phase, ms, us, detail}`."""
    return [
        {"phase": SHOWN.get(name, name), **duration(took_s), "detail": detail}
        for name, took_s, detail in change.phases
    ]


def duration(seconds: float) -> dict[str, int]:
    """In whole milliseconds, as all durations on the wire, and in microseconds for a cut."""
    return {"ms": round(seconds * 1e3), "us": round(seconds * 1e6)}


def _time(core: Core, when: float) -> str:
    wall: datetime = core.desk.wall(when)
    return wall.isoformat(timespec="milliseconds")
