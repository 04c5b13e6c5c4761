"""Workers: spawn, make ready, replace, count. Decides; the shell does.

A worker belongs to a generation and stands in one of its slots. How it is told to go is in
`ladder.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..protocol.errors import Code, Fault
from .desk import Desk
from .generation import Generation
from .ladder import Ladder
from .loaded import read_loaded
from .orders import Changed, Signal, Spawn
from .plugin import Plugin
from .states import Restart, WorkerState
from .talking import Talking
from .worker import Worker

# Causes that are our own doing: such a death counts nowhere.
BLAMELESS = ("drain", "cancel", "stop", "stop-first", "retire", "refused", "memory")


class Fleet:
    """All workers of all plugins; at most `max_spawns` of them start at once."""

    def __init__(self, desk: Desk, talking: Talking) -> None:
        self._desk = desk
        self._talking = talking
        self.ladder = ladder = Ladder(desk, talking)
        self.workers: dict[str, Worker] = {}  # every one that is not reaped, by id
        self._count = 0
        self._starting: set[str] = set()
        talking.on_overslept = self._overslept
        ladder.on_going = self._going
        ladder.on_gone = self._gone
        # Set by the core.
        self.on_ready: Callable[[Plugin, Worker], None] = lambda *_: None
        self.on_reply: Callable[[Plugin, Worker, object, str, Fault | None, Any], None] = (
            lambda *_: None
        )
        self.on_death: Callable[[Plugin, Worker, Fault], None] = lambda *_: None
        self.on_boot_failure: Callable[[Plugin, Worker, str, Fault], None] = lambda *_: None

    def plugin_of(self, worker: Worker) -> Plugin:
        """The plugin whose release the worker runs."""
        return self._desk.plugins[worker.generation.spec.name]

    # -- starting

    def fill(self, generation: Generation) -> None:
        """Start what is missing in the generation that serves, if it is to serve on."""
        plugin = self._desk.plugins.get(generation.spec.name)
        if plugin is None or not self._may_start(plugin, generation):
            return
        for slot in range(generation.spec.workers):
            if slot not in generation.workers:
                self.spawn(generation, slot)

    def _may_start(self, plugin: Plugin, generation: Generation) -> bool:
        if plugin.live is not generation or generation.restart is not Restart.RUNNING:
            return False
        if self._desk.has_no_time:
            return False
        if (self._desk.is_stopping or plugin.is_closing) and not plugin.jobs:
            return False
        change = plugin.change
        if change is not None and change.new is not generation and change.keeps_old_down:
            return False
        return generation.spec.swap != "stop-first" or _is_alone(plugin)

    def spawn(self, generation: Generation, slot: int) -> Worker:
        """Start a worker in a slot as soon as there is room for another start."""
        self._count += 1
        worker = Worker(f"w{self._count}", generation, slot)
        worker.jitter = self._desk.jitter()
        self.workers[worker.id] = worker
        generation.workers[slot] = worker
        if len(self._starting) < self._desk.spec.max_spawns:
            self._start(worker)
        else:
            self.ladder.waiting.append(worker)
        return worker

    def _start(self, worker: Worker) -> None:
        self._starting.add(worker.id)
        self._talking.run_clock(worker)
        self._desk.give(Spawn(worker))
        self._show(worker)

    def _end_start(self, worker: Worker) -> None:
        """Let the next one start."""
        self._starting.discard(worker.id)
        waiting = self.ladder.waiting
        while waiting and len(self._starting) < self._desk.spec.max_spawns:
            self._start(waiting.pop(0))

    def spawned(self, worker: Worker, pid: int) -> None:
        """The process runs: the supervisor speaks first."""
        worker.pid = pid
        worker.started_at = self._desk.now
        if worker.state is not WorkerState.STARTING:  # it was given up meanwhile
            self._desk.give(Signal(worker, "kill"))
            return
        generation = worker.generation
        options = {
            "protocol": [1],
            "plugin": generation.spec.name,
            "worker": worker.id,
            "generation": generation.number,
        }
        self._talking.ask(worker, "hello", [options])

    def spawn_failed(self, worker: Worker, fault: Fault) -> None:
        """There is no process; `bad_luck` in its data says whose fault that is."""
        plugin = self.plugin_of(worker)
        was_wanted = not worker.cause
        self.ladder.gone(worker)
        if was_wanted:
            self.on_boot_failure(plugin, worker, "spawn", fault)

    def _overslept(self, worker: Worker) -> None:
        limit_s = worker.generation.spec.warm_timeout_s
        stage = worker.asked or "boot"
        fault = Fault.new(
            Code.CHANGE_FAILED,
            f"warm_timeout: no answer to {stage} within {limit_s:g} s",
            stage=stage,
            reason="warm_timeout",
        )
        self.fail_boot(worker, stage, fault)

    def fail_boot(self, worker: Worker, stage: str, fault: Fault, *, at_once: bool = False) -> None:
        """It will never be ready, or not in time."""
        if at_once:
            self.ladder.kill_at_once(worker, "refused")
        else:
            self.ladder.kill(worker, "refused")
        self.on_boot_failure(self.plugin_of(worker), worker, stage, fault)

    def replied(self, worker: Worker, method: str, fault: Fault | None, result: Any) -> None:
        """A control request was answered."""
        asked = self._talking.answered(worker, method)
        if asked is None or worker.state in (WorkerState.KILLING, WorkerState.EXITED):
            return
        if worker.state is WorkerState.STARTING:
            self._booted(worker, method, fault, result)
        elif method == "unload":
            self.ladder.unloaded(worker)
        else:
            self.on_reply(self.plugin_of(worker), worker, asked.purpose, method, fault, result)

    def _booted(self, worker: Worker, method: str, fault: Fault | None, result: Any) -> None:
        try:
            if fault is not None:
                raise fault
            if method == "hello" and "methods" not in _checked_hello(result):
                self._ask_load(worker)
                return
            loaded = read_loaded(result, worker.generation.spec.concurrency)
        except Fault as bad:
            self.fail_boot(worker, method, bad)
            return
        worker.generation.loaded = loaded
        worker.generation.unlucky = 0
        worker.capabilities = loaded.capabilities
        worker.turn("load")
        self._talking.stop_clock(worker)
        self._end_start(worker)
        self._show(worker)
        self.on_ready(self.plugin_of(worker), worker)

    def _ask_load(self, worker: Worker) -> None:
        generation = worker.generation
        is_restart = self.plugin_of(worker).live is generation
        options = {
            "reason": "restart" if is_restart else generation.reason,
            "config": generation.spec.config,
            "concurrency": generation.spec.concurrency,
        }
        self._talking.ask(worker, "load", [options])

    def kill_if_overdue(self, worker: Worker) -> None:
        """Kill a worker that holds nothing but jobs that outlived their cancel or deadline."""
        if worker.overdue and worker.overdue.issuperset(worker.jobs):
            self.ladder.kill(worker, "cancel")
            self.fill(worker.generation)

    def force_kill(self, generation: Generation) -> int:
        """Kill the stragglers of a drain; return how many jobs they hold."""
        stragglers = [w for w in generation.workers.values() if w.jobs]
        held = sum(not job.has_ended for w in stragglers for job in w.jobs.values())
        for worker in stragglers:
            self.ladder.kill(worker, "drain")
        return held

    # -- dying

    def exited(self, worker: Worker, death: Fault) -> None:
        """The process is reaped. Its jobs are still in `worker.jobs`, its requests in `asks`."""
        was_booting = worker.state is WorkerState.STARTING
        stage = worker.asked or "boot"
        plugin = self.plugin_of(worker)
        worker.exit, worker.signal = death.data.get("exit"), death.data.get("signal")
        self.ladder.gone(worker)
        if was_booting:
            self.on_boot_failure(plugin, worker, stage, death)
        else:
            self.on_death(plugin, worker, death)

    def _going(self, worker: Worker) -> None:
        self._end_start(worker)
        self._show(worker)

    def _gone(self, worker: Worker) -> None:
        del self.workers[worker.id]
        self._end_start(worker)
        self._show(worker)
        self.plugin_of(worker).forget_dead()

    def _show(self, worker: Worker) -> None:
        generation = worker.generation
        facts = {
            "plugin": generation.spec.name,
            "generation": generation.number,
            "pid": worker.pid,
            "state": worker.state.value,
            "exit": worker.exit,
            "signal": worker.signal,
        }
        self._desk.give(Changed("worker", worker.id, facts))


def _is_alone(plugin: Plugin) -> bool:
    """Has every worker of a newcomer that was refused left? What is parked may stay."""
    watch = plugin.watch
    stays = (plugin.live, watch.change.parked if watch is not None else None)
    return not any(g.is_alive for g in plugin.generations.values() if g not in stays)


def _checked_hello(answer: Any) -> dict[str, Any]:
    """What a worker says of itself there; raises Fault when it speaks another protocol."""
    if not isinstance(answer, dict) or answer.get("protocol") != 1:
        raise Fault.new(
            Code.NO_COMMON_PROTOCOL, f"hello was answered with {answer!r:.60}, not protocol 1"
        )
    return answer
