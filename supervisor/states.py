"""The small machines of the core, each an enum and a table with a row for every state.

A terminal state has an empty row. An input that a row does not have raises and changes
nothing. The state diagram in the README is generated from these tables; they are what the
code runs on. What people see as a plugin's state is derived (`Plugin.state`), never stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar


class WorkerState(Enum):
    """The life of one worker process."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    KILLING = "killing"
    EXITED = "exited"


class JobState(Enum):
    """The life of one job; the last four are its outcomes."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


class Gate(Enum):
    """May the queue hand out jobs?"""

    OPEN = "open"
    HELD = "held"  # by a changeover
    SHUT = "shut"  # by the operator


class Restart(Enum):
    """How one generation answers the deaths of its workers."""

    RUNNING = "running"
    BACKOFF = "backoff"
    FAILED = "failed"


class Step(Enum):
    """The steps of a changeover, and its four ends."""

    STAGE = "stage"
    WARM = "warm"
    CHECK = "check"
    HOLD = "hold"
    DRAIN = "drain"
    EXPORT = "export"
    ADOPT = "adopt"
    STOP = "stop"
    CUT = "cut"
    PARK = "park"
    WATCH = "watch"
    RETIRE = "retire"
    DONE = "done"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"


class IllegalTransition(RuntimeError):
    """A machine was given an input that its state has no row for: a bug in the core."""


S = TypeVar("S", bound=Enum)
Table = Mapping[S, Mapping[str, S]]

_W = WorkerState
WORKER: Table[WorkerState] = {
    _W.STARTING: {"load": _W.READY, "kill": _W.KILLING, "exit": _W.EXITED},
    _W.READY: {"drain": _W.DRAINING, "stop": _W.STOPPING, "kill": _W.KILLING, "exit": _W.EXITED},
    _W.DRAINING: {"return": _W.READY, "stop": _W.STOPPING, "kill": _W.KILLING, "exit": _W.EXITED},
    _W.STOPPING: {"kill": _W.KILLING, "exit": _W.EXITED},
    _W.KILLING: {"exit": _W.EXITED},
    _W.EXITED: {},
}

_J = JobState
JOB: Table[JobState] = {
    _J.QUEUED: {
        "dispatch": _J.RUNNING,
        "fail": _J.FAILED,
        "cancel": _J.CANCELLED,
        "lose": _J.LOST,
    },
    _J.RUNNING: {
        "requeue": _J.QUEUED,
        "finish": _J.DONE,
        "fail": _J.FAILED,
        "cancel": _J.CANCELLED,
        "lose": _J.LOST,
    },
    _J.DONE: {},
    _J.FAILED: {},
    _J.CANCELLED: {},
    _J.LOST: {},
}

_G = Gate
GATE: Table[Gate] = {
    _G.OPEN: {"hold": _G.HELD, "release": _G.OPEN, "pause": _G.SHUT, "resume": _G.OPEN},
    _G.HELD: {"hold": _G.HELD, "release": _G.OPEN, "pause": _G.SHUT, "resume": _G.HELD},
    _G.SHUT: {"hold": _G.SHUT, "release": _G.SHUT, "pause": _G.SHUT, "resume": _G.OPEN},
}

_R = Restart
RESTART: Table[Restart] = {
    _R.RUNNING: {"back_off": _R.BACKOFF, "fail": _R.FAILED},
    _R.BACKOFF: {"back_off": _R.BACKOFF, "restart": _R.RUNNING, "fail": _R.FAILED},
    _R.FAILED: {},
}

_S = Step
PLANS: Mapping[str, tuple[Step, ...]] = {
    "overlap": (
        _S.STAGE, _S.WARM, _S.CHECK, _S.ADOPT, _S.CUT, _S.DRAIN, _S.PARK, _S.WATCH, _S.RETIRE,
    ),
    "handoff": (
        _S.STAGE, _S.WARM, _S.CHECK, _S.HOLD, _S.DRAIN, _S.EXPORT, _S.ADOPT, _S.CUT, _S.PARK,
        _S.WATCH, _S.RETIRE,
    ),
    "stop-first": (
        _S.STAGE, _S.HOLD, _S.DRAIN, _S.STOP, _S.WARM, _S.CHECK, _S.ADOPT, _S.CUT, _S.WATCH,
    ),
}  # fmt: skip


def _changeover_table() -> Table[Step]:
    """Rows from the plans: `<plan>` goes on to the next step, the other inputs end it."""
    rows: dict[Step, dict[str, Step]] = {step: {} for step in Step}
    for plan, steps in PLANS.items():
        for here, there in zip(steps, (*steps[1:], Step.DONE), strict=True):
            rows[here][plan] = there
        for step in steps[: steps.index(Step.CUT)]:
            rows[step] |= {"refuse": Step.REFUSED, "supersede": Step.SUPERSEDED}
    rows[Step.STAGE]["finish"] = Step.DONE  # unchanged content: nothing to do
    for step in (Step.DRAIN, Step.WATCH):  # where a release that has been cut to may stand
        rows[step]["roll_back"] = Step.ROLLED_BACK
    return rows


CHANGEOVER: Table[Step] = _changeover_table()


def advance(table: Table[S], state: S, event: str) -> S:
    """The state after `event`; raises IllegalTransition when the table has no such row."""
    try:
        return table[state][event]
    except KeyError:
        raise IllegalTransition(f"{state} has no {event!r}") from None
