"""Carries out what the core orders and tells it what happened. It decides nothing.

One loop, one thread; reading and copying files happens in one helper thread, which never starts
a process. Every public method that ends in a fact goes `core.fact(now, …)` then `act()`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Protocol

from ..protocol.errors import Code, Fault
from . import orders as o
from .changeover import Changeover
from .children import Children, Exit
from .core import Core
from .files import Files
from .launch import LaunchSpec, SpawnError, Started
from .launcher import Launcher
from .log_ring import Level
from .logs import StderrPump
from .model import Job, Release, Worker
from .process import Process
from .source import SourceSet, staged_command
from .spec import PluginSpec, SupervisorSpec
from .staged import Staged, StageError
from .states import WorkerState
from .store import Store
from .worker_link import WorkerLink

SWEEP_S = 1.0  # for descendants that escaped from their worker's group
ENDED_OUTPUT_S = 1.0  # from the end of a worker's output to its exit


class Listener(Protocol):
    """Who is told what people may want to see (the service)."""

    def phase(self, order: o.Phase) -> None: ...
    def ended(self, change: Changeover) -> None: ...
    def record(self, entry: dict[str, Any]) -> None: ...
    def changed(self, order: o.Changed) -> None: ...
    def narrate(self, level: Level, plugin: str, text: str) -> None: ...
    def worker_line(self, worker: Worker, level: Level, text: str) -> None: ...
    def flushed(self, plugin: str, values: bytes) -> None: ...
    def settled(self, job: Job) -> None: ...
    def registered(self, plugin: str, staged: Staged | None) -> None: ...


class Shell:
    """The processes, the pipes and the timers of one supervisor."""

    def __init__(
        self, spec: SupervisorSpec, supervisor_id: str, store: Store, state_dir: Path,
        listener: Listener,
    ) -> None:  # fmt: skip
        self.loop = asyncio.get_running_loop()
        self.files = Files()
        now = self.loop.time()
        start = datetime.now(UTC) - timedelta(seconds=now)
        self.core = Core(spec, wall_start=start, jitter=Random().random)  # noqa: S311 - back-off
        self.links: dict[str, WorkerLink] = {}
        self.pumps: dict[str, StderrPump] = {}
        self.staged: dict[str, Staged] = {}  # by digest
        self._processes: dict[str, Process] = {}
        self._id = supervisor_id
        self._store = store
        self._state_dir = state_dir
        self._listener = listener
        self._children = Children()
        self._launcher = Launcher(
            self._children, lambda line: listener.narrate("info", "", f"fork server: {line}")
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawning: dict[str, asyncio.Task[None]] = {}  # by worker id
        self._is_acting = False
        self._tick: asyncio.TimerHandle | None = None
        self._do: dict[type, Callable[[Any], None]] = {
            o.Dispatch: self._dispatch,
            o.Settle: lambda order: self._settle(order.job),
            o.Stage: self._begin_stage,
            o.Spawn: self._begin_spawn,
            o.Ask: self._ask,
            o.Tell: lambda order: self.tell(order.worker, order.method, order.params),
            o.Close: self._close,
            o.Signal: self._signal,
            o.Admit: lambda order: self._admit(order.job),
            o.Flushed: lambda order: listener.flushed(order.plugin, order.values),
            o.Phase: listener.phase,
            o.Ended: lambda order: listener.ended(order.change),
            o.Record: self._record,
            o.Changed: listener.changed,
            o.Narrate: lambda order: listener.narrate(order.level, order.plugin, order.text),
        }

    def attach(self) -> None:
        """Take orphans in and reap them. On the main thread's loop."""
        self._children.attach()

    def now(self) -> float:
        """The monotonic clock of the facts."""
        return self.loop.time()

    # -- orders

    def act(self) -> None:
        """Carry out what the core has ordered, also what it orders meanwhile."""
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while orders := self.core.take_orders():
                for order in orders:
                    self._do[type(order)](order)
        finally:
            self._is_acting = False
        self._arm()

    def _arm(self) -> None:
        due = self.core.next_due()
        tick = self._tick
        if due is None or (tick is not None and tick.when() <= due):
            return
        if tick is not None:
            tick.cancel()
        self._tick = self.loop.call_at(due, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        self.core.tick(self.now())
        self.act()

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _admit(self, job: Job) -> None:
        for caller in job.owner:
            caller.admitted(job)

    def _settle(self, job: Job) -> None:
        self._listener.settled(job)
        for caller in job.owner:
            caller.settled(job)

    # A worker may have ended between an order and its turn: its exit, which the core knows by
    # then or learns next, says the rest.

    def _dispatch(self, order: o.Dispatch) -> None:
        link = self.links.get(order.worker.id)
        if link is not None:
            link.dispatch(order.job)

    def _ask(self, order: o.Ask) -> None:
        link = self.links.get(order.worker.id)
        if link is not None:
            link.ask(order.method, order.params)

    def tell(self, worker: Worker, method: str, params: list[Any]) -> None:
        """Send a notification to a worker that is still there."""
        link = self.links.get(worker.id)
        if link is not None:
            link.tell(method, params)

    def _close(self, order: o.Close) -> None:
        link = self.links.get(order.worker.id)
        if link is not None:
            link.close_input()

    def _signal(self, order: o.Signal) -> None:
        process = self._processes.get(order.worker.id)
        if process is None:
            if order.worker.id in self._spawning:
                self._spawning[order.worker.id].cancel()
            return
        if order.what == "stacks":
            process.has_stacks = True
            process.dump_stacks()
        elif order.what == "term":
            process.terminate()
        else:
            process.kill()

    def _record(self, order: o.Record) -> None:
        self._listener.record(order.entry)
        if order.entry["event"] == "cut":
            digest = order.entry["to"]["digest"]
            self._listener.registered(order.entry["plugin"], self.staged.get(digest))

    # -- STAGE

    def _begin_stage(self, order: o.Stage) -> None:
        self._later(self._stage(order.change))

    async def _stage(self, change: Changeover) -> None:
        source = SourceSet.of(change.spec)
        target = change.target
        try:
            staged = await self.loop.run_in_executor(self.files, self._stage_now, source, target)
        except StageError as error:
            self.core.stage_failed(self.now(), change, error.message, luck=error.bad_luck)
        else:
            self.staged[staged.digest] = staged
            self.core.staged(
                self.now(), change, digest=staged.digest, hash_=staged.hash,
                path=str(staged.path), shown=source.shown,
            )  # fmt: skip
        self.act()

    async def peek(self, source: SourceSet) -> str:
        """The digest of what the source holds now; nothing is staged. Raises StageError."""
        breathe = self.files.breathe
        look = partial(self._store.peek, source, breathe=breathe)
        return (await self.loop.run_in_executor(self.files, look)).digest

    def _stage_now(self, source: SourceSet, target: Release | None) -> Staged:
        if target is not None:
            return self._store.find(target.digest, source)
        return self._store.stage(source, breathe=self.files.breathe)

    # -- SPAWN

    def _begin_spawn(self, order: o.Spawn) -> None:
        worker = order.worker
        task = self._spawning[worker.id] = self._later(self._spawn(worker))
        task.add_done_callback(lambda task: self._spawn_ended(worker, task))

    def _spawn_ended(self, worker: Worker, task: asyncio.Task[None]) -> None:
        del self._spawning[worker.id]
        if task.cancelled():  # given up before it began, or while a fork server imported
            self.core.spawn_failed(self.now(), worker, "given up while it started", luck=True)
            self.act()

    async def _spawn(self, worker: Worker) -> None:
        try:
            started = await self._launcher.start(self._launch_spec(worker))
        except SpawnError as error:
            self.core.spawn_failed(self.now(), worker, error.message, luck=error.bad_luck)
            self.act()
            return
        self._attend(worker, started)
        if worker.state is WorkerState.STARTING:
            self.core.spawned(self.now(), worker, started.pid)
        else:  # it was given up while it was being started
            worker.pid = started.pid
            self._processes[worker.id].kill()
        self.act()

    def _attend(self, worker: Worker, started: Started) -> None:
        self.pumps[worker.id] = StderrPump(
            started.stderr_fd, lambda line: self._listener.worker_line(worker, "info", line)
        )
        self.links[worker.id] = WorkerLink(self, worker, started)
        self._processes[worker.id] = Process(
            started, self._children, lambda ended: self._exited(worker, ended)
        )

    def _launch_spec(self, worker: Worker) -> LaunchSpec:
        generation = worker.generation
        spec, release = generation.spec, generation.release
        return LaunchSpec(
            plugin=spec.name,
            worker=f"{self._id}/{worker.id}",
            slot=worker.slot,
            start=_start_method(spec),
            command=staged_command(spec.command, release.path) if spec.command else (),
            source=release.path,
            shown=release.shown,
            object=spec.object,
            pickled=bool(spec.pickled),
            env=spec.env,
            preload=spec.preload,
            state_dir=str(self._plugin_dir(spec.name)),
        )

    def _plugin_dir(self, name: str) -> Path:
        folder = self._state_dir / "plugins" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # -- facts about workers

    def replied(self, worker: Worker, method: str, fault: Fault | None, result: Any) -> None:
        """A control request was answered."""
        self.core.replied(self.now(), worker, method, fault, result)
        self.act()

    def answered(self, worker: Worker, job_id: str, fault: Fault | None, result: bytes) -> None:
        """A job was answered."""
        self.core.answered(self.now(), worker, job_id, fault, result)
        self.act()

    def extended(self, worker: Worker, extra_s: float) -> None:
        """A worker asked for more time."""
        self.core.extended(self.now(), worker, extra_s)
        self.act()

    def broke_protocol(self, worker: Worker, what: str) -> None:
        """A worker sent what is no message."""
        self.core.broke_protocol(self.now(), worker, what)
        self.act()

    def output_ended(self, worker: Worker) -> None:
        """Its exit follows at once, or it can never answer."""
        self.loop.call_later(ENDED_OUTPUT_S, self._still_there, worker)

    def _still_there(self, worker: Worker) -> None:
        if worker.id in self._processes:
            self.broke_protocol(worker, "closed its output")

    def progress(self, job: Job, params: list[bytes]) -> None:
        """Pass progress on to whoever asked for it."""
        for caller in job.owner:
            if caller.progress and caller.session.is_open:
                caller.session.progress(job, params)

    def item(self, job: Job, seq: int, params: list[bytes]) -> None:
        """Pass one item on; those that were sent before a re-run are dropped."""
        if seq < job.item_seq:
            return
        takers = [caller for caller in job.owner if caller.credits > 0]
        if not takers and job.worker is not None:
            self.broke_protocol(job.worker, f"sent items of job {job.id} beyond its credit")
            return
        job.item_seq = seq + 1
        for caller in takers:
            caller.credits -= 1
            if caller.session.is_open:
                caller.session.item(params)

    def worker_log(self, worker: Worker, level: Level, text: str) -> None:
        """A `log` notification, under the limits of its stderr."""
        pump = self.pumps.get(worker.id)
        for line in pump.admit(text) if pump is not None else ():
            self._listener.worker_line(worker, level, line)

    def _exited(self, worker: Worker, ended: Exit) -> None:
        """What is in its pipes comes first: a complete message there wins."""
        link, pump = self.links.pop(worker.id), self.pumps.pop(worker.id)
        link.channel.drain_input()
        pump.close()
        link.close()
        del self._processes[worker.id]
        data = {
            "exit": ended.status,
            "signal": _signal_name(ended),
            "stderr_tail": pump.stderr_tail,
        }
        death = Fault.new(Code.WORKER_LOST, str(ended), pid=worker.pid, **data)
        self.core.exited(self.now(), worker, death)
        self.act()

    # -- facts about jobs

    def submit(self, job: Job, block_s: float | None) -> bool:
        """Accept a job; raises Fault."""
        try:
            return self.core.submit(self.now(), job, block_s=block_s)
        finally:
            self.loop.call_soon(self.act)

    def cancel(self, job: Job, reason: str, *, kill: bool = False) -> None:
        """End a job for its caller."""
        self.core.cancel(self.now(), job, reason, kill=kill)
        self.act()

    # -- the end

    async def close(self) -> None:
        """Everything has ended: let go of the helper thread and the fork servers."""
        for task in list(self._tasks):
            task.cancel()
        if self._tick is not None:
            self._tick.cancel()
        for process in self._processes.values():
            process.kill()
        await self._children.swept(SWEEP_S)
        await self._launcher.close()
        self.files.shutdown()

    def retain(self) -> None:
        """Delete from the store what nobody may need again."""
        keep: set[str] = set()
        newest: list[str] = []
        for plugin in self.core.plugins.values():
            keep |= {g.release.digest for g in plugin.generations.values()}
            keep |= {c.release.digest for c in (plugin.change, plugin.pending) if c and c.release}
            keep |= {plugin.previous, *plugin.approved[-1:]}
            by_age = sorted(plugin.releases.values(), key=lambda r: -r.number)
            newest += [r.digest for r in by_age[: self.core.desk.spec.keep_releases]]
        self.loop.run_in_executor(self.files, self._retain_now, keep, newest)

    def _retain_now(self, keep: set[str], newest: list[str]) -> None:
        try:
            self._store.retain(keep, newest, len(newest))
        except StageError as error:
            message = error.message
            self.loop.call_soon_threadsafe(self._listener.narrate, "warning", "", message)


def _start_method(spec: PluginSpec) -> Any:
    if spec.start != "auto":
        return spec.start
    return "spawn" if spec.pickled else "exec"


def _signal_name(ended: Exit) -> str | None:
    return str(ended).rpartition(" ")[2] if ended.signal is not None else None
