"""Control requests to workers: one at a time for each, and the clock that runs meanwhile.

`warm_timeout` runs over a worker's start, hello, load, check and adopt together, but only while
it is the worker's turn: one that waits for its siblings does not grow late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .desk import Desk
from .orders import Ask
from .states import WorkerState
from .worker import Asked, Worker

FLUSH = "flush"  # the purpose of a flush that a client asked for
MAX_EXTENSION = 10.0  # times the limit itself, in all: `extend`


class Talking:
    """Asks workers, and notices when one is late."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.on_overslept: Callable[[Worker], None] = lambda _: None  # set by the fleet

    def ask(
        self, worker: Worker, method: str, params: list[Any], *,
        purpose: object = None, is_timed: bool = False,
    ) -> None:  # fmt: skip
        """Send a control request as soon as the one under way is answered."""
        worker.asks.append(Asked(method, params, purpose, is_timed))
        if len(worker.asks) == 1:
            self._send(worker)

    def _send(self, worker: Worker) -> None:
        asked = worker.asks[0]
        if asked.is_timed:
            self.run_clock(worker)
        self._desk.give(Ask(worker, asked.method, asked.params))

    def answered(self, worker: Worker, method: str) -> Asked | None:
        """Take what the answer belongs to, and send what waits; None: nobody asked that."""
        if worker.asked != method:
            return None
        asked = worker.asks.popleft()
        if asked.is_timed:
            self.stop_clock(worker)
        if worker.asks:
            self._send(worker)
        return asked

    def drop_unsent(self, worker: Worker) -> None:
        """Ask nothing more of it, but for a flush that somebody waits for."""
        for asked in list(worker.asks)[1:]:
            if asked.purpose is not FLUSH:
                worker.asks.remove(asked)

    # -- the clock

    def run_clock(self, worker: Worker) -> None:
        """It is the worker's turn."""
        clock = worker.clock
        if clock.since is None:
            clock.since = self._desk.now
            worker.timer = self._desk.arm(max(0.0, clock.left_s), self.on_overslept, worker)

    def stop_clock(self, worker: Worker) -> None:
        """It has answered in time."""
        clock = worker.clock
        if clock.since is not None:
            clock.left_s -= self._desk.now - clock.since
            clock.since = None
            self.stop_timer(worker)

    def stop_timer(self, worker: Worker) -> None:
        """Nothing limits it any more."""
        if worker.timer is not None:
            worker.timer.cancel()
            worker.timer = None

    def extend(self, worker: Worker, extra_s: float) -> None:
        """A worker wants more time for the request under way."""
        clock, timer = worker.clock, worker.timer
        is_limited = clock.since is not None or worker.state is WorkerState.STOPPING
        if timer is None or timer.callback is None or not worker.asks or not is_limited:
            return
        most_s = MAX_EXTENSION * worker.generation.spec.warm_timeout_s - clock.extra_s
        extra_s = max(0.0, min(extra_s, most_s))
        clock.extra_s += extra_s
        if clock.since is not None:
            clock.left_s += extra_s
        callback, args = timer.callback, timer.args
        timer.cancel()
        worker.timer = self._desk.timers.arm(timer.when + extra_s, callback, *args)
