"""A bench for the pure core: a fake shell that obeys at once, under a clock that tests move.

Workers behave as the `Life` of their content says. Jobs are answered by the test alone. Nothing
here waits, sleeps or starts anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar

from changeover.protocol.errors import Code, Fault
from changeover.supervisor import orders as o
from changeover.supervisor.changeover import Changeover
from changeover.supervisor.core import Core
from changeover.supervisor.job import Job
from changeover.supervisor.plugin import Plugin
from changeover.supervisor.spec import PluginSpec, SupervisorSpec
from changeover.supervisor.states import WorkerState
from changeover.supervisor.worker import Worker

HANGS = "hangs"  # no answer, ever
DIES = "dies"  # by a signal that nobody of us sent
EXITS = "exits"  # of its own will, status 1
BUSY = "busy"  # no answer until the test gives one
WALL = datetime(2026, 1, 1, tzinfo=UTC)
PURE = {"run": {"pure": True, "stream": False}}
NOT_PURE = {"run": {"pure": False, "stream": False}}

Answer = Any  # a value, a Fault, or one of the words above
T = TypeVar("T")
O = TypeVar("O", bound=tuple[Any, ...])  # noqa: E741 - an order


def digest_of(content: str) -> str:
    """What the store would call this content."""
    return sha256(content.encode()).hexdigest()


def raises(message: str) -> Fault:
    """A hook of the plugin raised."""
    return Fault.new(Code.JOB_FAILED, message)


def state_of(job: Job) -> str:
    """A job's state now."""
    return job.state.value


def step_of(change: Changeover) -> str:
    """How far a changeover is now."""
    return change.step.value


@dataclass
class Life:
    """How the workers of one content behave."""

    methods: dict[str, dict[str, bool]] = field(default_factory=lambda: dict(PURE))
    capabilities: tuple[str, ...] = ("cancel",)
    spawn: Answer = None
    hello: Answer = None
    load: Answer = None
    check: Answer = None
    adopt: Answer = None
    flush: Answer = b"\x90"
    export_state: Answer = b"state"
    unload: Answer = None
    concurrency: int = 8
    frames: str = "independent"
    state: dict[str, Any] = field(default_factory=dict)
    ignores_term: bool = False

    def loaded(self) -> dict[str, Any]:
        """What it answers to `load`."""
        return {
            "name": "p",
            "version": "1.0.0",
            "methods": self.methods,
            "concurrency": self.concurrency,
            "frames": self.frames,
            "capabilities": dict.fromkeys(self.capabilities, True),
            "state": self.state,
        }


def stateful(**changes: Any) -> Life:
    """A plugin that exports its state: `auto` means handoff."""
    return Life(methods=NOT_PURE, capabilities=("cancel", "state"), **changes)


class Bench:
    """One supervisor with one plugin "p", whose source is `disk`."""

    def __init__(self, *, supervisor: dict[str, Any] | None = None, **spec: Any) -> None:
        self.spec = PluginSpec(**{"name": "p", "source": "/src/p.py", **spec})
        self.core = Core(SupervisorSpec(**supervisor or {}), wall_start=WALL, jitter=lambda: 1.0)
        self.now = 0.0
        self.disk = "A"
        self.lives: dict[str, Life] = {}
        self.stage_fails: tuple[str, bool] | None = None  # cause, luck
        self.stages = True  # else STAGE waits for `finish_stages`
        self.starts = True  # else a spawned process waits for `finish_spawns`
        self.orders: list[o.Order] = []
        self._times: list[float] = []
        self.staging: list[Changeover] = []
        self.spawning: list[Worker] = []
        self.asked: list[tuple[Worker, str]] = []  # not answered
        self._jobs = 0
        self._is_acting = False

    @property
    def plugin(self) -> Plugin:
        return self.core.plugins["p"]

    # -- the world

    def life(self, content: str, **changes: Any) -> Life:
        """Say how the workers of a content behave."""
        return self.lives.setdefault(content, Life(**changes))

    def life_of(self, worker: Worker) -> Life:
        for content, life in self.lives.items():
            if digest_of(content) == worker.generation.release.digest:
                return life
        return Life()

    def start(self, content: str = "A", *, reason: Any = "start") -> Changeover:
        """The supervisor starts, with this content on disk."""
        self.disk = content
        return self.fact(lambda: self.core.add(self.now, self.spec, reason=reason))

    def write(self, content: str) -> Changeover | None:
        """The file holds something else now, and the watcher has seen it settle."""
        self.disk = content
        return self.fact(
            lambda: self.core.candidate(self.now, "p", hash(content), digest_of(content))
        )

    def change(self, reason: Any = "reload", **options: Any) -> Changeover:
        """HUP, `reload`, a schedule …"""
        return self.fact(lambda: self.core.change(self.now, "p", reason, **options))

    def rollback(self, to: int | None = None) -> Changeover:
        """The operator goes back."""
        return self.fact(lambda: self.core.rollback(self.now, "p", to=to))

    def after(self, seconds: float) -> None:
        """Let the clock run, with everything that is due meanwhile."""
        end = self.now + seconds
        while (due := self.core.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.fact(lambda: self.core.tick(self.now))
        self.now = end

    # -- jobs

    def submit(self, job_id: str = "", *, block_s: float | None = None, **facts: Any) -> Job:
        """A caller submits a job; raises what the core raises."""
        self._jobs += 1
        job = Job(job_id or f"j{self._jobs}", "p", facts.pop("method", "run"), b"\x90", **facts)
        self.fact(lambda: self.core.submit(self.now, job, block_s=block_s))
        return job

    def submit_many(self, count: int, **facts: Any) -> list[Job]:
        return [self.submit(**facts) for _ in range(count)]

    def answer(self, job: Job, result: bytes = b"\xc0", fault: Fault | None = None) -> None:
        """The worker that holds the job answers it."""
        worker = self.holder(job)
        self.fact(lambda: self.core.answered(self.now, worker, job.id, fault, result))

    def fail(self, job: Job) -> None:
        """The plugin raises."""
        self.answer(job, b"\xc0", raises("ValueError: no"))

    def cancel(self, job: Job, reason: str = "client", *, kill: bool = False) -> None:
        self.fact(lambda: self.core.cancel(self.now, job, reason, kill=kill))

    def holder(self, job: Job) -> Worker:
        """The worker that has borrowed the job, whether or not its caller still waits."""
        for worker in self.core._fleet.workers.values():
            if worker.jobs.get(job.id) is job:
                return worker
        raise LookupError(f"nobody holds {job.id}")

    # -- workers

    @property
    def workers(self) -> list[Worker]:
        """Those of the generation that serves."""
        live = self.plugin.live
        return list(live.workers.values()) if live is not None else []

    @property
    def everyone(self) -> list[Worker]:
        """Every process that is not reaped."""
        return list(self.core._fleet.workers.values())

    def die(
        self, worker: Worker, *, signal: str | None = "SIGSEGV", exit_: int | None = None
    ) -> None:
        """A process is reaped."""
        how = f"died of {signal}" if signal else f"exited with status {exit_}"
        death = Fault.new(Code.WORKER_LOST, how, signal=signal, exit=exit_, stderr_tail="")
        self.asked = [(w, method) for w, method in self.asked if w is not worker]
        self.fact(lambda: self.core.exited(self.now, worker, death))

    def reply(self, worker: Worker, method: str, answer: Answer = None) -> None:
        """A worker answers a control request that the bench had left open."""
        self.asked.remove((worker, method))
        self._reply(worker, method, answer)

    def _reply(self, worker: Worker, method: str, answer: Answer) -> None:
        fault = answer if isinstance(answer, Fault) else None
        result = None if fault is not None else answer
        self.fact(lambda: self.core.replied(self.now, worker, method, fault, result))

    def finish_spawns(self) -> None:
        """The processes that were ordered are there."""
        waiting, self.spawning = self.spawning, []
        for worker in waiting:
            self._spawn(worker)

    def finish_stages(self) -> None:
        """What was ordered to be staged is in the store, oldest first."""
        waiting, self.staging = self.staging, []
        for change in waiting:
            self._stage(change)

    # -- the shell

    def fact(self, tell: Callable[[], T]) -> T:
        """Tell the core something, then do what it orders."""
        told = tell()
        self.act()
        return told

    def act(self) -> None:
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while orders := self.core.take_orders():
                for order in orders:
                    self.orders.append(order)
                    self._times.append(self.now)
                    self._do(order)
        finally:
            self._is_acting = False

    def _do(self, order: o.Order) -> None:
        match order:
            case o.Stage(change):
                self.staging.append(change)
                if self.stages:
                    self.finish_stages()
            case o.Spawn(worker):
                self.spawning.append(worker)
                if self.starts:
                    self.finish_spawns()
            case o.Ask(worker, method):
                self._ask(worker, method)
            case o.Close(worker):
                self._leave(worker, exit_=0)
            case o.Signal(worker, "kill"):
                self._leave(worker, signal="SIGKILL")
            case o.Signal(worker, "term") if not self.life_of(worker).ignores_term:
                self._leave(worker, signal="SIGTERM")

    def _stage(self, change: Changeover) -> None:
        if self.stage_fails is not None:
            cause, luck = self.stage_fails
            self.core.stage_failed(self.now, change, cause, luck=luck)
        else:
            digest = change.target.digest if change.target else digest_of(self.disk)
            hash_ = change.target.hash if change.target else hash(self.disk)
            path = f"/store/{digest}/p.py"
            self.core.staged(
                self.now, change, digest=digest, hash_=hash_, path=path, shown="/src/p.py"
            )
        self.act()

    def _spawn(self, worker: Worker) -> None:
        answer = self.life_of(worker).spawn
        if isinstance(answer, Fault):
            luck = bool(answer.data.get("bad_luck"))
            self.fact(lambda: self.core.spawn_failed(self.now, worker, answer.message, luck=luck))
            return
        pid = 1000 + int(worker.id[1:])
        self.fact(lambda: self.core.spawned(self.now, worker, pid))

    def _ask(self, worker: Worker, method: str) -> None:
        life = self.life_of(worker)
        answer = getattr(life, method)
        if answer == DIES:
            self.die(worker, signal="SIGKILL")
        elif answer == EXITS:
            self.die(worker, signal=None, exit_=1)
        elif answer in (HANGS, BUSY):
            self.asked.append((worker, method))
        elif answer is None and method in ("hello", "load"):
            self._reply(worker, method, {"protocol": 1} if method == "hello" else life.loaded())
        else:
            self._reply(worker, method, answer)

    def _leave(
        self, worker: Worker, *, signal: str | None = None, exit_: int | None = None
    ) -> None:
        if worker.pid and worker.state is not WorkerState.EXITED:
            self.die(worker, signal=signal, exit_=exit_)

    # -- looking

    def given(self, kind: type[O]) -> list[O]:
        """The orders of one kind, oldest first."""
        return [order for order in self.orders if isinstance(order, kind)]

    def timed(self, kind: type[O]) -> list[tuple[float, O]]:
        """The same, with when they were given."""
        both = zip(self._times[-len(self.orders) :], self.orders, strict=True)
        return [(round(when, 6), order) for when, order in both if isinstance(order, kind)]

    @property
    def told(self) -> str:
        """Everything that was said to people."""
        return "\n".join(order.text for order in self.given(o.Narrate))

    def release(self) -> int | None:
        """The number of the release that serves."""
        return self.plugin.live.release.number if self.plugin.live else None
