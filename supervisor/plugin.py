"""A plugin: a name that jobs are submitted to. It owns the queue; it decides nothing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .generation import Generation
from .job import Job
from .queue import JobQueue
from .release import Release
from .rest import Rest
from .spec import PluginSpec
from .states import GATE, Gate, JobState, Restart, advance

if TYPE_CHECKING:
    from .changeover import Changeover
    from .timers import Timer
    from .watch import Watch


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
        self.served: list[str] = []  # digests in the order of their cuts, the newest last
        self.deaths: dict[str, list[float]] = {}  # digest: when its workers died, unexplained
        self.failure = ""  # why it has FAILED
        self.refused_recycles = Rest()
        self.vain_recycles = Rest()  # above `max_rss` again at once
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

    def mark(self, digest: str) -> str:
        """Why this content must not be tried again by itself, or ""."""
        return self.bad.get(digest, "rolled back" if digest in self.held else "")

    def unmark(self, digest: str) -> None:
        """Somebody wants it to be tried again."""
        self.bad.pop(digest, None)
        self.held.discard(digest)

    def forget_dead(self) -> None:
        """Keep the generations that have a process, the one that serves and the one to come."""
        kept = (self.live, self.change.new if self.change is not None else None)
        for number, generation in list(self.generations.items()):
            if not generation.is_alive and generation not in kept:
                del self.generations[number]

    def is_newcomer(self, generation: Generation) -> bool:
        """Is it warming, and has not been cut to?"""
        change = self.change
        return change is not None and generation is change.new and not change.has_cut

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
