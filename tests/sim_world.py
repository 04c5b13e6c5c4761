"""The simulated world around the core: one virtual clock, one heap of events, one seed.

Every event that is run is a step: it tells the core a fact, the orders are obeyed, and the laws
are checked. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any

from changeover.protocol.errors import Code, Fault
from changeover.supervisor import orders as o
from changeover.supervisor.changeover import Changeover
from changeover.supervisor.core import Core
from changeover.supervisor.job import Job
from changeover.supervisor.spec import SupervisorSpec
from changeover.supervisor.worker import Worker

from .sim_books import Books
from .sim_change_laws import ChangeLaws
from .sim_coverage import State, state_of
from .sim_job_laws import JobLaws
from .sim_law import require
from .sim_lives import Life
from .sim_worker import Process

WALL = datetime(2026, 1, 1, tzinfo=UTC)
STAGE_S = 0.01
JOURNAL_S = 0.002
TRACE = 100  # lines that lead to a violation


def digest_of(content: str) -> str:
    """What the store would call it."""
    return sha256(content.encode()).hexdigest()


class World:
    """Everything outside the core."""

    def __init__(self, seed: int, *, is_traced: bool = False) -> None:
        self.seed = seed
        self.rng = rng = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.is_healthy = False
        self.trace: deque[str] = deque(maxlen=TRACE)
        self._is_traced = is_traced
        self._heap: list[tuple[float, float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = 0
        spec = SupervisorSpec(max_spawns=rng.choice((1, 2, 2, 4)))
        self.core = Core(spec, wall_start=WALL, jitter=rng.random)
        self.max_spawns = spec.max_spawns
        self.processes: dict[str, Process] = {}
        self.hanging: list[Callable[[], Any]] = []
        self.lives: dict[str, Life] = {}  # by digest
        self.disk: dict[str, str] = {}  # by plugin: the content of its source
        self.changes: list[Changeover] = []
        self.states: set[State] = set()
        self.job_laws, self.change_laws = JobLaws(self), ChangeLaws(self)
        self.books = Books(self)
        self._do: dict[type, Callable[[Any], None]] = {
            o.Dispatch: self._dispatch,
            o.Settle: self.job_laws.settled,
            o.Admit: self.job_laws.admitted,
            o.Stage: self._stage,
            o.Spawn: self._spawn,
            o.Ask: self._ask,
            o.Tell: self._tell,
            o.Close: self._close,
            o.Signal: self._signal,
            o.Record: self.change_laws.recorded,
            o.Ended: self.change_laws.ended,
            o.Phase: self.change_laws.entered,
            o.Changed: self._changed,
        }

    @property
    def wall(self) -> datetime:
        """The wall clock."""
        return WALL + timedelta(seconds=self.now)

    # -- time

    def after(self, delay_s: float, event: Callable[..., Any], *args: Any) -> None:
        """Let something happen, about then."""
        self._count += 1
        dice = self.rng.random()
        when = self.now + delay_s * (0.2 + 1.6 * dice)
        if dice < 0.2 and not self.is_healthy:  # now and then just at a deadline of the core
            when = self.core.next_due() or when
        heapq.heappush(self._heap, (max(when, self.now), dice, self._count, event, args))

    def step(self) -> bool:
        """Run the next event; False when nothing is left to happen."""
        due = self.core.next_due()
        heap = self._heap
        if heap and (due is None or heap[0][0] <= due):
            when, _dice, _count, event, args = heapq.heappop(heap)
            self.now = when
            self._note(event, args)
            event(*args)
        elif due is not None:
            self.now = max(self.now, due)
            self._note(self.core.tick, ())
            self.core.tick(self.now)
        else:
            return False
        self.act()
        self.books.check()
        self.change_laws.check_holds()
        self.states.update(map(state_of, self.core.plugins.values()))
        self.steps += 1
        return True

    def act(self) -> None:
        """Obey."""
        while orders := self.core.take_orders():
            for order in orders:
                if self._is_traced and not isinstance(order, o.Changed):
                    self.trace.append(f"{'':12}{_order(order)}")
                obey = self._do.get(type(order))
                if obey is not None:
                    obey(order)

    def _note(self, event: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self._is_traced:
            worker = getattr(getattr(event, "__self__", None), "worker", "")
            words = [event.__name__, str(worker), *map(_short, args)]
            self.trace.append(f"{self.now:10.4f}  {' '.join(filter(None, words))}")

    # -- orders

    def life_of(self, worker: Worker) -> Life:
        """How its content behaves."""
        return self.lives[worker.generation.release.digest]

    def _dispatch(self, order: o.Dispatch) -> None:
        process = self.processes[order.worker.id]
        self.job_laws.lent(process, order.job)
        if order.job.is_held:
            self.after(JOURNAL_S, self._begin, order.worker, order.job)
        else:
            self._send(process, order.job)

    def _send(self, process: Process, job: Job) -> None:
        self.job_laws.sent(process, job)
        process.take(job)

    # -- the journal

    def journal(self, job: Job) -> None:
        """It is to have a new job, and now and then the disk is full."""
        if job.is_durable and not job.is_accepted:
            fails = not self.is_healthy and self.rng.random() < 0.05
            self.after(JOURNAL_S, self._refuse if fails else self._accept, job)

    def _accept(self, job: Job) -> None:
        job.is_accepted = True

    def _refuse(self, job: Job) -> None:
        fault = Fault.new(Code.BUSY, "the journal cannot be written: disk full")
        self.core.refused(self.now, job, fault)

    def _begin(self, worker: Worker, job: Job) -> None:
        """The shell writes in order: that a job is accepted, then that it begins."""
        if not job.is_accepted and not job.has_ended:
            self.after(JOURNAL_S, self._begin, worker, job)
        elif self.core.begin(self.now, worker, job):
            self._send(self.processes[worker.id], job)

    def _spawn(self, order: o.Spawn) -> None:
        worker = order.worker
        require(worker.id not in self.processes, f"{worker} spawned twice")
        process = self.processes[worker.id] = Process(self, worker)
        self.change_laws.spawned(process)
        process.spawn()

    def _ask(self, order: o.Ask) -> None:
        process = self.processes.get(order.worker.id)
        if process is not None:
            self.change_laws.asked(process, order.method)
            process.ask(order.method)

    def _tell(self, order: o.Tell) -> None:
        process = self.processes.get(order.worker.id)
        if process is not None and order.method == "cancel":
            process.cancel(order.params[0])
        elif process is not None and order.method == "exit":
            process.told_to_exit()

    def _close(self, order: o.Close) -> None:
        process = self.processes.get(order.worker.id)
        if process is not None:
            process.told_to_exit()

    def _signal(self, order: o.Signal) -> None:
        process = self.processes.get(order.worker.id)
        if process is not None and order.what != "stacks":
            process.signal(order.what)

    def _changed(self, order: o.Changed) -> None:
        process = self.processes.get(order.plugin) if order.topic == "worker" else None
        if process is not None and order.facts["state"] in ("stopping", "killing"):
            self.change_laws.sent_away(process, order.facts["generation"])

    def _stage(self, order: o.Stage) -> None:
        change = order.change
        delay_s = STAGE_S * self.rng.choice((0.1, 1, 10))
        fails = not self.is_healthy and self.rng.random() < 0.05
        if fails:
            self.after(delay_s, self._stage_failed, change, self.rng.random() < 0.6)
        elif change.target is not None:
            self.after(delay_s, self._staged, change, change.target.digest)
        else:  # what is there when it is read, not when it was asked for
            self.after(delay_s, self._stage_now, change)

    def _stage_now(self, change: Changeover) -> None:
        self._staged(change, digest_of(self.disk[change.plugin]))

    def _staged(self, change: Changeover, digest: str) -> None:
        path = f"/store/{digest[:8]}"
        hash_ = int(digest[:16], 16)
        self.core.staged(self.now, change, digest=digest, hash_=hash_, path=path, shown="/src")

    def _stage_failed(self, change: Changeover, luck: bool) -> None:
        cause = "no space left" if luck else "no such file"
        self.core.stage_failed(self.now, change, cause, luck=luck)

    def heal(self) -> None:
        """From now on everything is well, and what hung answers."""
        self.is_healthy = True
        hanging, self.hanging = self.hanging, []
        for answer in hanging:
            self.after(0.01, answer)


def _order(order: o.Order) -> str:
    if isinstance(order, o.Narrate):
        return f"Narrate: {order.text}"
    return f"{type(order).__name__} {' '.join(map(_short, order))}"


def _short(value: Any) -> str:
    if isinstance(value, Job):
        return f"{value.id}:{value.state.value}"
    if isinstance(value, Changeover):
        return f"{value.reason}#{value.number}:{value.step.value}"
    return repr(value)[:120]
