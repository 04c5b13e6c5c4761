"""Workers: spawn, make ready, stop, kill, replace. Decides; the shell does.

A worker belongs to a generation and stands in one of its slots. One that is being stopped or
killed leaves the slot at once, so that another can take its place while it dies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ..protocol.errors import Code, Fault
from .desk import Desk
from .generation import Generation
from .loaded import read_loaded
from .orders import Changed, Close, Signal, Spawn, Tell
from .plugin import Plugin
from .states import Restart, WorkerState
from .talking import Talking
from .worker import Worker

UNLOAD_S = 5.0  # `unload`: the protocol page, section 4
STACKS_S = 0.2  # from the stack dump to TERM: the isolation page
# Causes that are our own doing: such a death counts nowhere.
BLAMELESS = ("drain", "cancel", "stop", "stop-first", "retire", "refused")


class Fleet:
    """All workers of all plugins; at most `max_spawns` of them start at once."""

    def __init__(self, desk: Desk, talking: Talking) -> None:
        self._desk = desk
        self._talking = talking
        self.workers: dict[str, Worker] = {}  # every one that is not reaped, by id
        self._count = 0
        self._starting: set[str] = set()
        self._waiting: deque[Worker] = deque()
        talking.on_overslept = self._overslept
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
        self.workers[worker.id] = worker
        generation.workers[slot] = worker
        if len(self._starting) < self._desk.spec.max_spawns:
            self._start(worker)
        else:
            self._waiting.append(worker)
        return worker

    def _start(self, worker: Worker) -> None:
        self._starting.add(worker.id)
        self._talking.run_clock(worker)
        self._desk.give(Spawn(worker))
        self._show(worker)

    def _end_start(self, worker: Worker) -> None:
        """Let the next one start."""
        self._starting.discard(worker.id)
        while self._waiting and len(self._starting) < self._desk.spec.max_spawns:
            self._start(self._waiting.popleft())

    def spawned(self, worker: Worker, pid: int) -> None:
        """The process runs: the supervisor speaks first."""
        worker.pid = pid
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
        self._leave(worker)
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
            self.kill_at_once(worker, "refused")
        else:
            self.kill(worker, "refused")
        self.on_boot_failure(self.plugin_of(worker), worker, stage, fault)

    def replied(self, worker: Worker, method: str, fault: Fault | None, result: Any) -> None:
        """A control request was answered."""
        asked = self._talking.answered(worker, method)
        if asked is None or worker.state in (WorkerState.KILLING, WorkerState.EXITED):
            return
        if worker.state is WorkerState.STARTING:
            self._booted(worker, method, fault, result)
        elif method == "unload":
            self._unloaded(worker)
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

    # -- stopping

    def stop(self, worker: Worker, cause: str) -> None:
        """Unload, end of input, then the kill ladder; for a worker that holds no job."""
        if worker.state is WorkerState.STARTING:
            self.kill(worker, cause)
        elif worker.state in (WorkerState.READY, WorkerState.DRAINING):
            self._go(worker, "stop", cause)
            self._talking.drop_unsent(worker)
            self._talking.ask(worker, "unload", [{}])
            worker.timer = self._desk.arm(UNLOAD_S, self._unloaded, worker)

    def _unloaded(self, worker: Worker) -> None:
        if worker.state is not WorkerState.STOPPING:
            return
        self._talking.stop_timer(worker)
        self._desk.give(Tell(worker, "exit", []))
        self._desk.give(Close(worker))
        grace_s = worker.generation.spec.kill_grace_s
        worker.timer = self._desk.arm(grace_s, self.kill, worker, worker.cause)

    def kill(self, worker: Worker, cause: str) -> None:
        """The kill ladder: stacks where that is safe, TERM, `kill_grace`, KILL."""
        if worker.state in (WorkerState.KILLING, WorkerState.EXITED):
            return
        if worker in self._waiting:
            self._waiting.remove(worker)
            worker.cause = cause
            self._leave(worker)
            return
        self._go(worker, "kill", cause)
        if "stacks" in worker.capabilities and worker.jobs:
            self._desk.give(Signal(worker, "stacks"))
            worker.timer = self._desk.arm(STACKS_S, self._terminate, worker)
        else:
            self._terminate(worker)

    def kill_all(self, workers: Iterable[Worker], cause: str) -> None:
        """Those that wait to be started first, or each kill would start one of them."""
        for worker in sorted(workers, key=lambda worker: worker not in self._waiting):
            self.kill(worker, cause)

    def _terminate(self, worker: Worker) -> None:
        if worker.state is WorkerState.KILLING:
            self._desk.give(Signal(worker, "term"))
            grace_s = worker.generation.spec.kill_grace_s
            worker.timer = self._desk.arm(grace_s, self._kill_now, worker)

    def _kill_now(self, worker: Worker) -> None:
        if worker.state is WorkerState.KILLING:
            self._desk.give(Signal(worker, "kill"))

    def kill_at_once(self, worker: Worker, cause: str) -> None:
        """No ladder: it broke the protocol, or there is no time."""
        if worker.state is WorkerState.EXITED or worker in self._waiting:
            self.kill(worker, cause)
            return
        if worker.state is not WorkerState.KILLING:
            self._go(worker, "kill", cause)
        self._talking.stop_timer(worker)
        self._desk.give(Signal(worker, "kill"))

    def _go(self, worker: Worker, event: str, cause: str) -> None:
        """It leaves its slot; whoever replaces it may have that."""
        self._talking.stop_clock(worker)
        self._talking.stop_timer(worker)
        worker.turn(event)
        worker.cause = worker.cause or cause
        generation = worker.generation
        if generation.workers.get(worker.slot) is worker:
            del generation.workers[worker.slot]
        generation.leaving.add(worker)
        self._end_start(worker)
        self._show(worker)

    def kill_if_overdue(self, worker: Worker) -> None:
        """Kill a worker that holds nothing but jobs that outlived their cancel or deadline."""
        if worker.overdue and worker.overdue.issuperset(worker.jobs):
            self.kill(worker, "cancel")
            self.fill(worker.generation)

    def force_kill(self, generation: Generation) -> int:
        """Kill the stragglers of a drain; return how many jobs they hold."""
        stragglers = [w for w in generation.workers.values() if w.jobs]
        held = sum(not job.has_ended for w in stragglers for job in w.jobs.values())
        for worker in stragglers:
            self.kill(worker, "drain")
        return held

    # -- dying

    def exited(self, worker: Worker, death: Fault) -> None:
        """The process is reaped. Its jobs are still in `worker.jobs`, its requests in `asks`."""
        was_booting = worker.state is WorkerState.STARTING
        stage = worker.asked or "boot"
        plugin = self.plugin_of(worker)
        self._leave(worker)
        if was_booting:
            self.on_boot_failure(plugin, worker, stage, death)
        else:
            self.on_death(plugin, worker, death)

    def _leave(self, worker: Worker) -> None:
        self._talking.stop_timer(worker)
        worker.turn("exit")
        generation = worker.generation
        if generation.workers.get(worker.slot) is worker:
            del generation.workers[worker.slot]
        generation.leaving.discard(worker)
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
