"""The nouns of the core: job, worker, generation, release, plugin.

They hold facts and answer questions about themselves; they decide nothing and know no I/O.
Times are seconds of the monotonic clock that the facts of the core carry.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ..protocol.errors import Fault
from ..protocol.plugin_version import PluginVersion
from .queue import JobQueue
from .spec import PluginSpec
from .states import GATE, JOB, RESTART, WORKER, Gate, JobState, Restart, WorkerState, advance

if TYPE_CHECKING:
    from .changeover import Changeover
    from .timers import Timer
    from .watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One exact content in the store. `number` belongs to the digest for ever."""

    number: int
    digest: str  # SHA-256, 64 hex digits
    hash: int  # FNV-1a 64
    path: str  # the staged entry
    shown: str  # the path that people know
    version: str = ""  # the author's, known once it was loaded

    def __str__(self) -> str:
        return f"{self.version} @{self.number}" if self.version else f"@{self.number}"


class Job:
    """One call. Mutable and slotted: this is the hot path."""

    __slots__ = (
        "args", "attempts", "cancel_reason", "deaths", "errors", "fault",
        "generation", "id", "idempotent", "item_seq", "key", "method", "options", "owner",
        "plugin", "queued_at", "queued_s", "ran_s", "release", "result", "seq", "started_at",
        "state", "timeout_s", "timer", "worker",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - the facts of a record
        self,
        job_id: str,
        plugin: str,
        method: str,
        args: bytes,
        *,
        key: str | None = None,
        idempotent: bool = False,
        timeout_s: float | None = None,
        owner: Any = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.id = job_id
        self.plugin = plugin
        self.method = method
        self.args = args
        self.key = key
        self.idempotent = idempotent
        self.timeout_s = timeout_s
        self.owner = owner  # whoever is answered: opaque to the core
        self.options = options  # passed on to the worker: progress, stream
        self.seq = 0  # its place among the plugin's jobs
        self.state = JobState.QUEUED
        self.attempts = 0
        self.errors = 0
        self.deaths: tuple[int, ...] = ()  # generations whose workers died unexplained under it
        self.cancel_reason: str | None = None  # asked for while it runs
        self.item_seq = 0  # items already sent to the caller
        self.worker: Worker | None = None
        self.generation = 0
        self.release: Release | None = None
        self.queued_at = 0.0
        self.queued_s = 0.0
        self.started_at = 0.0
        self.ran_s = 0.0
        self.result: bytes | None = None
        self.fault: Fault | None = None
        self.timer: Timer | None = None

    def turn(self, event: str) -> None:
        """Take one step of the job's machine."""
        self.state = advance(JOB, self.state, event)

    @property
    def has_ended(self) -> bool:
        """Has the caller its outcome?"""
        return not JOB[self.state]


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
        "asks", "capabilities", "cause", "clock", "ended_jobs", "generation", "id", "jobs",
        "overdue", "pid", "slot", "state", "timer",
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
        self.cause = ""  # why we end it: drain, cancel, stop, protocol, retire, …; "" = we do not
        self.overdue: set[str] = set()  # jobs that outlived kill_grace after cancel or deadline
        self.ended_jobs = 0
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a worker said of its release when it loaded it."""

    name: str = ""
    version: str = "0.0.0"
    methods: dict[str, tuple[bool, bool]] = field(default_factory=dict)  # pure, stream
    concurrency: int = 1
    frames: str = "independent"
    capabilities: frozenset[str] = frozenset()
    state_format: str = ""
    state_accepts: tuple[str, ...] = ()

    def is_pure(self, method: str) -> bool:
        """May a job of this method be run twice?"""
        return self.methods.get(method, (False, False))[0]


class Generation:
    """The workers that one changeover brought up."""

    def __init__(self, number: int, release: Release, spec: PluginSpec, reason: str) -> None:
        self.number = number
        self.release = release
        self.spec = spec
        self.reason = reason
        self.workers: dict[int, Worker] = {}  # by slot: the one that serves or will
        self.leaving: set[Worker] = set()  # being stopped or killed, not reaped yet
        self.restart = Restart.RUNNING
        self.back_off: Timer | None = None  # when the next worker is started
        self.unlucky = 0  # starts that failed by bad luck since the last that succeeded
        self.loaded = Loaded(concurrency=spec.concurrency)
        self.loaded_at = 0.0
        self.done = 0
        self.failed = 0

    def turn(self, event: str) -> None:
        """Take one step of the restart policy's machine."""
        self.restart = advance(RESTART, self.restart, event)

    @property
    def is_alive(self) -> bool:
        """Is any of its processes not reaped yet?"""
        return bool(self.leaving) or any(w.is_alive for w in self.workers.values())

    @property
    def borrowed(self) -> int:
        """Jobs that its workers hold, answered or not."""
        return sum(len(w.jobs) for w in self.workers.values()) + sum(
            len(w.jobs) for w in self.leaving
        )

    def ready(self) -> list[Worker]:
        """The workers that can take jobs."""
        return [w for w in self.workers.values() if w.state is WorkerState.READY]

    def __repr__(self) -> str:
        return f"<generation {self.number} {self.release}>"


@dataclass(slots=True)
class Counts:
    """Jobs by outcome since the plugin was added; `accepted` counts those without one too."""

    accepted: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    lost: int = 0
    rerun: int = 0

    def count(self, state: JobState) -> None:
        """One job has ended so."""
        setattr(self, state.value, getattr(self, state.value) + 1)


class Plugin:
    """A name that jobs are submitted to; owns the queue."""

    def __init__(self, spec: PluginSpec) -> None:
        self.name = spec.name
        self.spec = spec
        self.queue = JobQueue()
        self.lobby: deque[Job] = deque()  # not accepted yet: the queue is full
        self.jobs: dict[str, Job] = {}  # accepted, or in the lobby, and not ended
        self.gate = Gate.OPEN
        self.rejects = False  # paused with `reject`
        self.is_closing = False
        self.live: Generation | None = None
        self.generations: dict[int, Generation] = {}  # every one with a process
        self.change: Changeover | None = None
        self.pending: Changeover | None = None
        self.watch: Watch | None = None
        self.counts = Counts()
        self.releases: dict[str, Release] = {}  # by digest
        self.bad: dict[str, str] = {}  # digest: why
        self.held: set[str] = set()
        self.approved: list[str] = []  # digests in the order in which they finished their watch
        self.rolled_back: set[int] = set()  # generations whose attempts count against no job
        self.busy_keys: set[str] = set()  # keys with a job at a worker
        self.last_seq = 0
        self.holds_since: float | None = None  # when the gate was last held
        self.previous = ""  # the digest that the last cut replaced
        self.deaths: dict[str, list[float]] = {}  # digest: when its workers died, unexplained
        self.failure = ""  # why it has FAILED
        self.retry: Timer | None = None  # a change that failed by bad luck comes back

    def turn_gate(self, event: str) -> None:
        """Take one step of the gate's machine."""
        self.gate = advance(GATE, self.gate, event)

    def hold(self, now: float) -> None:
        """A changeover holds the queue."""
        self.turn_gate("hold")
        self.holds_since = now

    def release(self) -> None:
        """No changeover holds it any more."""
        self.holds_since = None
        self.turn_gate("release")

    def saw_content(self, digest: str) -> None:
        """The source holds this now. *Bad* and *held* are said of a content until it changes."""
        self.bad = {known: why for known, why in self.bad.items() if known == digest}
        self.held &= {digest}

    def forget_dead(self) -> None:
        """Keep the generations that have a process, the one that serves and the one to come."""
        kept = (self.live, self.change.new if self.change is not None else None)
        for number, generation in list(self.generations.items()):
            if not generation.is_alive and generation not in kept:
                del self.generations[number]

    @property
    def has_others_alive(self) -> bool:
        """Is a process alive of a generation that does not serve?"""
        return any(g.is_alive for g in self.generations.values() if g is not self.live)

    @property
    def running(self) -> int:
        """Jobs that workers hold and whose callers still wait."""
        return sum(
            not job.has_ended
            for generation in self.generations.values()
            for worker in (*generation.workers.values(), *generation.leaving)
            for job in worker.jobs.values()
        )

    @property
    def state(self) -> str:
        """What people see, first match."""
        if self.is_closing:
            return "closed"
        if self.live is not None and self.live.restart is Restart.FAILED:
            return "failed"
        if self.live is None and self.failure and self.change is None:
            return "failed"
        if self.gate is Gate.SHUT:
            return "paused"
        if self.gate is Gate.HELD:
            return "holding"
        if self.change is not None:
            return "changing"
        if self.live is not None and self.live.restart is Restart.BACKOFF:
            return "backoff"
        return "live" if self.live is not None else "empty"


def plugin_version(name: str, generation: Generation, loaded_at: datetime) -> PluginVersion:
    """The seed's record of what a generation runs."""
    return PluginVersion(
        id=name,
        version=generation.loaded.version,
        hash=generation.release.hash,
        loaded_at=loaded_at,
    )
