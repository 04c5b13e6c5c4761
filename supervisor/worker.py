"""A worker: one process running one release, as the core knows it. It decides nothing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .job import Job
from .states import WORKER, WorkerState, advance

if TYPE_CHECKING:
    from .generation import Generation
    from .timers import Timer


@dataclass(slots=True)
class Clock:
    """What is left of a worker's `warm_timeout`, and of what it may ask for beyond it."""

    left_s: float
    extra_s: float = 0.0  # granted already
    since: float | None = None  # it runs


class Asked(NamedTuple):
    """A control request to a worker, on whose behalf, and whether its clock runs meanwhile."""

    method: str
    params: list[Any]
    purpose: object = None
    is_timed: bool = False


class Worker:
    """One process running one release."""

    __slots__ = (
        "asks", "capabilities", "cause", "clock", "ended_jobs", "excess", "exit", "generation",
        "id", "jitter", "jobs", "overdue", "pid", "signal", "slot", "started_at", "state", "timer",
    )  # fmt: skip

    def __init__(self, worker_id: str, generation: Generation, slot: int) -> None:
        self.id = worker_id
        self.generation = generation
        self.slot = slot
        self.state = WorkerState.STARTING
        self.pid = 0
        self.jobs: dict[str, Job] = {}  # what it has borrowed
        self.asks: deque[Asked] = deque()  # control requests; the first is under way
        self.capabilities: frozenset[str] = frozenset()
        self.cause = ""  # why we end it: drain, cancel, stop, memory, retire, …; "" = we do not
        self.overdue: set[str] = set()  # jobs that outlived kill_grace after cancel or deadline
        self.ended_jobs = 0
        self.exit: int | None = None  # how its process ended: its status, or the signal's name
        self.signal: str | None = None
        self.started_at = 0.0  # its process
        self.jitter = 0.0  # in [0, 1): by how much it is recycled before `max_jobs`
        self.excess = ""  # what it took when it was killed for its memory
        self.clock = Clock(generation.spec.warm_timeout_s)
        self.timer: Timer | None = None  # of the clock, or of the way out

    def turn(self, event: str) -> None:
        """Take one step of the worker's machine."""
        self.state = advance(WORKER, self.state, event)

    @property
    def asked(self) -> str:
        """The control request under way, or ""."""
        return self.asks[0].method if self.asks else ""

    def can_take(self, limit: int) -> bool:
        """May it be lent another job? Not while it must be killed once the others are done."""
        return self.state is WorkerState.READY and len(self.jobs) < limit and not self.overdue

    @property
    def is_alive(self) -> bool:
        """Has it not been reaped yet?"""
        return self.state is not WorkerState.EXITED

    def __repr__(self) -> str:
        return f"<{self.id} {self.state.value} of {self.generation!r}>"
