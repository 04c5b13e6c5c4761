"""The ways out of a worker: unload and exit, or the kill ladder up to SIGKILL.

One that is told to go leaves its slot at once, so that another can take its place while it dies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .desk import Desk
from .orders import Close, Signal, Tell
from .states import WorkerState
from .talking import Talking
from .worker import Worker

UNLOAD_S = 5.0  # `unload`: the protocol page, section 4
STACKS_S = 0.2  # from the stack dump to TERM: the isolation page


class Ladder:
    """Tells workers to go, and sees to it that they do."""

    def __init__(self, desk: Desk, talking: Talking) -> None:
        self._desk = desk
        self._talking = talking
        self.waiting: list[Worker] = []  # whose process has not been ordered yet
        self.on_going: Callable[[Worker], None] = lambda _: None  # set by the fleet
        self.on_gone: Callable[[Worker], None] = lambda _: None

    def stop(self, worker: Worker, cause: str) -> None:
        """Unload, end of input, then the kill ladder; for a worker that holds no job."""
        if worker.state is WorkerState.STARTING:
            self.kill(worker, cause)
        elif worker.state in (WorkerState.READY, WorkerState.DRAINING):
            self._go(worker, "stop", cause)
            self._talking.drop_unsent(worker)
            self._talking.ask(worker, "unload", [{}])
            worker.timer = self._desk.arm(UNLOAD_S, self.unloaded, worker)

    def unloaded(self, worker: Worker) -> None:
        """It has answered `unload`, or had its time: it may leave."""
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
        if worker in self.waiting:
            self.waiting.remove(worker)
            worker.cause = cause
            self.gone(worker)
            return
        self._go(worker, "kill", cause)
        if "stacks" in worker.capabilities and worker.jobs:
            self._desk.give(Signal(worker, "stacks"))
            worker.timer = self._desk.arm(STACKS_S, self._terminate, worker)
        else:
            self._terminate(worker)

    def kill_all(self, workers: Iterable[Worker], cause: str) -> None:
        """Those that wait to be started first, or each kill would start one of them."""
        for worker in sorted(workers, key=lambda worker: worker not in self.waiting):
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
        if worker.state is WorkerState.EXITED or worker in self.waiting:
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
        self.on_going(worker)

    def gone(self, worker: Worker) -> None:
        """Its process is reaped, or never was."""
        self._talking.stop_timer(worker)
        worker.turn("exit")
        generation = worker.generation
        if generation.workers.get(worker.slot) is worker:
            del generation.workers[worker.slot]
        generation.leaving.discard(worker)
        self.on_gone(worker)
