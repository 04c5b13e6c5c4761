"""The worker processes as the shell has them: pipes, logs, signals, exits. It decides nothing.

The core's `Fleet` says what is to be done to which worker; here it is done, and what the worker
or its process does becomes a fact for the core.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..protocol.errors import Code, Fatal, FatalCode, Fault
from . import orders as o
from .children import Children, Exit
from .confine import landlock_abi
from .guard import Guard
from .job import Job
from .launch import SpawnError, Started
from .launch_specs import LaunchSpecs
from .launcher import Launcher
from .levels import Levels
from .log_ring import Level
from .logs import StderrPump
from .process import Process
from .spec import PluginSpec
from .staged import StageError
from .states import WorkerState
from .worker import Worker
from .worker_link import WorkerLink

if TYPE_CHECKING:
    from .shell import Listener, Shell

SWEEP_S = 1.0  # for descendants that escaped from their worker's group
ENDED_OUTPUT_S = 1.0  # from the end of a worker's output to its exit


class Crew:
    """All processes of one supervisor, by the id of the worker."""

    def __init__(
        self, shell: Shell, supervisor_id: str, state_dir: Path, listener: Listener
    ) -> None:
        self.loop = shell.loop
        self._shell = shell
        self._core = shell.core
        self._launch_specs = LaunchSpecs(shell, supervisor_id, state_dir)
        self._listener = listener
        self._links: dict[str, WorkerLink] = {}
        self._pumps: dict[str, StderrPump] = {}
        self._processes: dict[str, Process] = {}
        self._spawning: dict[str, asyncio.Task[None]] = {}
        self._children = Children()
        self._levels = Levels(self._children, landlock_abi())
        self._guard = Guard(
            self._children, supervisor_id, lambda text: listener.narrate("warning", "", text)
        )
        self._launcher = Launcher(
            self._children, lambda line: listener.narrate("warning", "", f"fork server: {line}")
        )

    def attach(self) -> None:
        """Take orphans in and reap them, and have a guard. On the main thread's loop."""
        self._children.attach()
        self._guard.start()

    async def refusal(self, spec: PluginSpec) -> str:
        """Why this machine cannot contain such a worker, or ""."""
        return await self._levels.refusal(spec.isolation, network=spec.network)

    # -- orders

    # A worker may have ended between an order and its turn: its exit, which the core knows by
    # then or learns next, says the rest.

    def dispatch(self, order: o.Dispatch) -> None:
        """Lend a job."""
        link = self._links.get(order.worker.id)
        if link is not None:
            link.dispatch(order.job)

    def ask(self, order: o.Ask) -> None:
        """Send a control request."""
        link = self._links.get(order.worker.id)
        if link is not None:
            link.ask(order.method, order.params)

    def tell(self, worker: Worker, method: str, params: list[Any]) -> None:
        """Send a notification to a worker that is still there."""
        link = self._links.get(worker.id)
        if link is not None:
            link.tell(method, params)

    def close_input(self, order: o.Close) -> None:
        """Send end of input."""
        link = self._links.get(order.worker.id)
        if link is not None:
            link.close_input()

    def signal(self, order: o.Signal) -> None:
        """Signal a worker, or give it up before it is there."""
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

    # -- SPAWN

    def spawn(self, order: o.Spawn) -> None:
        """Start a process."""
        worker = order.worker
        task = self._spawning[worker.id] = self._shell.later(self._spawn(worker))
        task.add_done_callback(lambda task: self._spawn_ended(worker, task))

    def _spawn_ended(self, worker: Worker, task: asyncio.Task[None]) -> None:
        del self._spawning[worker.id]
        if worker.id not in self._processes:
            self._launch_specs.forget(worker)
        if task.cancelled():  # given up before it began, or while a fork server imported
            self._core.spawn_failed(
                self._shell.now(), worker, "given up while it started", luck=True
            )
            self._shell.act()

    async def _spawn(self, worker: Worker) -> None:
        generation = worker.generation
        try:
            plugin = self._core.plugins.get(generation.spec.name)
            if plugin is not None and plugin.live is generation:  # it was staged long ago
                await self._shell.staging.prove(generation)
            started = await self._launcher.start(await self._launch_specs.of(worker))
        except (SpawnError, StageError) as error:
            self._core.spawn_failed(self._shell.now(), worker, error.message, luck=error.bad_luck)
            self._shell.act()
            return
        except OSError as error:  # the plugin's own folder in the state_dir
            cause = f"cannot start {worker.id}: {error.strerror} ({error.filename})"
            self._core.spawn_failed(self._shell.now(), worker, cause, luck=True)
            self._shell.act()
            return
        except Exception as bug:  # nobody may wait for ever for what a bug of ours has ended
            cause = f"internal error: {bug!r}; the log has more"
            self._core.spawn_failed(self._shell.now(), worker, cause, luck=True)
            self._shell.act()
            raise
        self._attend(worker, started)
        if worker.state is WorkerState.STARTING:
            self._core.spawned(self._shell.now(), worker, started.pid)
        else:  # it was given up while it was being started
            worker.pid = started.pid
            self._processes[worker.id].kill()
        self._shell.act()

    def _attend(self, worker: Worker, started: Started) -> None:
        self._pumps[worker.id] = StderrPump(
            started.stderr_fd, lambda line: self._listener.worker_line(worker, "info", line)
        )
        self._links[worker.id] = WorkerLink(self, worker, started)
        self._processes[worker.id] = Process(
            started, self._children, lambda ended: self._exited(worker, ended)
        )

    # -- facts about workers

    def replied(self, worker: Worker, method: str, fault: Fault | None, result: Any) -> None:
        """A control request was answered."""
        if fault is not None:
            self._launch_specs.explain(worker, fault)
        self._core.replied(self._shell.now(), worker, method, fault, result)
        self._shell.act()

    def answered(self, worker: Worker, job_id: str, fault: Fault | None, result: bytes) -> None:
        """A job was answered."""
        self._core.answered(self._shell.now(), worker, job_id, fault, result)
        self._shell.act()

    def extended(self, worker: Worker, extra_s: float) -> None:
        """A worker asked for more time."""
        self._core.extended(self._shell.now(), worker, extra_s)
        self._shell.act()

    def broke_protocol(self, worker: Worker, what: str) -> None:
        """A worker sent what is no message, or can send nothing any more."""
        self._links[worker.id].broke = f"broke the protocol: {what}"
        self._core.broke_protocol(self._shell.now(), worker, what)
        self._shell.act()

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
        """Pass one item on; those that were sent before a re-run are dropped. Raises Fatal."""
        if seq < job.item_seq:
            return
        takers = [caller for caller in job.owner if caller.credits > 0]
        if not takers:
            raise Fatal(FatalCode.FLOOD, f"sent items of job {job.id} beyond its credit")
        job.item_seq = seq + 1
        for caller in takers:
            caller.credits -= 1
            if caller.session.is_open:
                caller.session.item(params)

    def worker_log(self, worker: Worker, level: Level, text: str) -> None:
        """A `log` notification, under the limits of its stderr."""
        pump = self._pumps.get(worker.id)
        for line in pump.admit(text) if pump is not None else ():
            self._listener.worker_line(worker, level, line)

    def _exited(self, worker: Worker, ended: Exit) -> None:
        """What is in its pipes comes first: a complete message there wins."""
        link, pump = self._links.pop(worker.id), self._pumps.pop(worker.id)
        link.channel.drain_input()
        pump.close()
        link.close()
        del self._processes[worker.id]
        data = {
            "exit": ended.status,
            "signal": _signal_name(ended),
            "stderr_tail": pump.stderr_tail,
        }
        death = Fault.new(Code.WORKER_LOST, link.broke or str(ended), pid=worker.pid, **data)
        self._launch_specs.explain(worker, death)
        self._launch_specs.forget(worker)
        self._core.exited(self._shell.now(), worker, death)
        self._shell.act()

    async def close(self) -> None:
        """Kill what is left, and what escaped from it."""
        for process in self._processes.values():
            process.kill()
        await self._children.swept(SWEEP_S)
        await self._launcher.close()
        await self._guard.close()


def _signal_name(ended: Exit) -> str | None:
    return str(ended).rpartition(" ")[2] if ended.signal is not None else None
