"""Workers: spawn, make ready, stop, kill, replace. Decides; the shell does.

A worker belongs to a generation and stands in one of its slots. One that is being stopped or
killed leaves the slot at once, so that another can take its place while it dies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..protocol.errors import Code, Fault
from .desk import Desk
from .loaded import read_loaded
from .model import Generation, Plugin, Worker
from .orders import Ask, Changed, Close, Signal, Spawn, Tell
from .states import Restart, WorkerState

UNLOAD_S = 5.0  # `unload`: the protocol page, section 4
STACKS_S = 0.2  # from the stack dump to TERM: the isolation page
BLAMELESS = ("drain", "cancel", "stop", "retire", "refused")  # causes that are our own doing


class Fleet:
    """All workers of all plugins; at most `max_spawns` of them start at once."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.workers: dict[str, Worker] = {}  # every one that is not reaped, by id
        self._count = 0
        self._starting: set[str] = set()
        self._waiting: deque[Worker] = deque()
        # Set by the core.
        self.on_ready: Callable[[Plugin, Worker], None] = lambda *_: None
        self.on_reply: Callable[[Plugin, Worker, str, Fault | None, Any], None] = lambda *_: None
        self.on_death: Callable[[Plugin, Worker, Fault], None] = lambda *_: None
        self.on_boot_failure: Callable[[Plugin, Worker, str, Fault], None] = lambda *_: None

    def plugin_of(self, worker: Worker) -> Plugin:
        """The plugin whose release the worker runs."""
        return self._desk.plugins[worker.generation.spec.name]

    # -- starting

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
        limit_s = worker.generation.spec.warm_timeout_s
        worker.timer = self._desk.arm(limit_s, self._overslept, worker, limit_s)
        self._desk.give(Spawn(worker))
        self._show(worker)

    def _end_start(self, worker: Worker) -> None:
        """Let the next one start."""
        self._starting.discard(worker.id)
        while self._waiting and len(self._starting) < self._desk.spec.max_spawns:
            following = self._waiting.popleft()
            if following.state is WorkerState.STARTING:
                self._start(following)

    def is_waiting(self, worker: Worker) -> bool:
        """Has its process not been ordered yet?"""
        return worker in self._waiting

    def spawned(self, worker: Worker, pid: int) -> None:
        """The process runs: the supervisor speaks first."""
        worker.pid = pid
        if worker.state is not WorkerState.STARTING:
            return
        generation = worker.generation
        options = {
            "protocol": [1],
            "plugin": generation.spec.name,
            "worker": worker.id,
            "generation": generation.number,
        }
        self.ask(worker, "hello", [options])

    def spawn_failed(self, worker: Worker, fault: Fault) -> None:
        """There is no process; `bad_luck` in its data says whose fault that is."""
        self._leave(worker)
        if worker.cause:
            return
        self.on_boot_failure(self.plugin_of(worker), worker, "spawn", fault)

    def _overslept(self, worker: Worker, limit_s: float) -> None:
        """`warm_timeout` runs over hello, load and check together."""
        stage = worker.asked or "boot"
        fault = Fault.new(
            Code.CHANGE_FAILED,
            f"warm_timeout: no answer to {stage} within {limit_s:g} s",
            stage=stage,
            reason="warm_timeout",
        )
        self._boot_failure(worker, stage, fault)

    def _boot_failure(self, worker: Worker, stage: str, fault: Fault) -> None:
        plugin = self.plugin_of(worker)
        self.kill(worker, "refused")
        self.on_boot_failure(plugin, worker, stage, fault)

    # -- talking

    def ask(self, worker: Worker, method: str, params: list[Any]) -> None:
        """Send a control request; one at a time per worker."""
        worker.asked = method
        self._desk.give(Ask(worker, method, params))

    def replied(self, worker: Worker, method: str, fault: Fault | None, result: Any) -> None:
        """A control request was answered."""
        if worker.asked == method:
            worker.asked = ""
        if worker.state is WorkerState.STARTING:
            self._booted(worker, method, fault, result)
            return
        if method == "unload":
            self._unloaded(worker)
            return
        worker.passed.add(method)
        self.on_reply(self.plugin_of(worker), worker, method, fault, result)

    def _booted(self, worker: Worker, method: str, fault: Fault | None, result: Any) -> None:
        if fault is not None:
            self._boot_failure(worker, method, fault)
            return
        if method == "hello" and not (isinstance(result, dict) and "methods" in result):
            self._ask_load(worker, result)
            return
        try:
            worker.generation.loaded = read_loaded(result, worker.generation.spec.concurrency)
        except Fault as bad:
            self._boot_failure(worker, method, bad)
            return
        worker.capabilities = worker.generation.loaded.capabilities
        worker.turn("load")
        self._end_start(worker)
        self._show(worker)
        self.on_ready(self.plugin_of(worker), worker)

    def _ask_load(self, worker: Worker, result: Any) -> None:
        if not isinstance(result, dict) or result.get("protocol") != 1:
            fault = Fault.new(
                Code.NO_COMMON_PROTOCOL, f"hello was answered with {result!r:.60}, not protocol 1"
            )
            self._boot_failure(worker, "hello", fault)
            return
        generation = worker.generation
        plugin = self.plugin_of(worker)
        reason = "restart" if plugin.live is generation else generation.reason
        options = {
            "reason": reason,
            "config": generation.spec.config,
            "concurrency": generation.spec.concurrency,
        }
        self.ask(worker, "load", [options])

    def settle_in(self, worker: Worker) -> None:
        """It serves: nothing limits its start any more."""
        if worker.timer is not None:
            worker.timer.cancel()
            worker.timer = None

    def extend(self, worker: Worker, extra_s: float) -> None:
        """A worker asks for more time for the request under way."""
        timer = worker.timer
        if timer is None or timer.callback is None or not worker.asked:
            return
        callback, args = timer.callback, timer.args
        timer.cancel()
        due = max(timer.when, self._desk.now) + extra_s
        worker.timer = self._desk.timers.arm(due, callback, *args)

    # -- stopping

    def stop(self, worker: Worker, cause: str) -> None:
        """Unload, end of input, then the kill ladder; for a worker that holds no job."""
        if worker.state is WorkerState.STARTING:
            self.kill(worker, cause)
            return
        if worker.state not in (WorkerState.READY, WorkerState.DRAINING):
            return
        self._go(worker, "stop", cause)
        self.ask(worker, "unload", [{}])
        worker.timer = self._desk.arm(UNLOAD_S, self._unloaded, worker)

    def _unloaded(self, worker: Worker) -> None:
        if worker.state is not WorkerState.STOPPING:
            return
        self.settle_in(worker)
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

    def _terminate(self, worker: Worker) -> None:
        if worker.state is not WorkerState.KILLING:
            return
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
        self._desk.give(Signal(worker, "kill"))

    def _go(self, worker: Worker, event: str, cause: str) -> None:
        """It leaves its slot; whoever replaces it may have that."""
        self.settle_in(worker)
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
            self.replace(worker)

    def force_kill(self, generation: Generation) -> int:
        """Kill the stragglers of a drain; return how many jobs they hold."""
        stragglers = [w for w in generation.workers.values() if w.jobs]
        held = sum(len(w.jobs) for w in stragglers)
        for worker in stragglers:
            self.kill(worker, "drain")
        return held

    # -- dying

    def exited(self, worker: Worker, death: Fault) -> None:
        """The process is reaped. Its jobs are still in `worker.jobs`."""
        was_starting = worker.state is WorkerState.STARTING
        stage = worker.asked or "boot"
        self._leave(worker)
        plugin = self.plugin_of(worker)
        if was_starting and not worker.cause:
            self.on_boot_failure(plugin, worker, stage, death)
        else:
            self.on_death(plugin, worker, death)

    def _leave(self, worker: Worker) -> None:
        self.settle_in(worker)
        worker.turn("exit")
        generation = worker.generation
        if generation.workers.get(worker.slot) is worker:
            del generation.workers[worker.slot]
        generation.leaving.discard(worker)
        self.workers.pop(worker.id, None)
        self._end_start(worker)
        self._show(worker)

    def replace(self, worker: Worker) -> None:
        """Start another in its slot, if its generation serves and the slot is empty."""
        generation = worker.generation
        if self.plugin_of(worker).live is generation:
            self.fill(generation)

    def fill(self, generation: Generation) -> None:
        """Start what is missing."""
        plugin = self._desk.plugins.get(generation.spec.name)
        if plugin is None or generation.restart is not Restart.RUNNING:
            return
        if (self._desk.is_stopping or plugin.is_closing) and not plugin.jobs:
            return
        for slot in range(generation.spec.workers):
            if slot not in generation.workers:
                self.spawn(generation, slot)

    def _show(self, worker: Worker) -> None:
        generation = worker.generation
        facts = {
            "plugin": generation.spec.name,
            "generation": generation.number,
            "pid": worker.pid,
            "state": worker.state.value,
        }
        self._desk.give(Changed("worker", worker.id, facts))
