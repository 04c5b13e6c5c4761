"""Deadlines of the core: a heap, asked by the shell when the next one is due."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Timer:
    """One deadline. `cancel` is final and idempotent."""

    __slots__ = ("args", "callback", "when")

    def __init__(self, when: float, callback: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.when = when
        self.callback: Callable[..., None] | None = callback
        self.args = args

    def cancel(self) -> None:
        """Never call back."""
        self.callback = None
        self.args = ()


class Timers:
    """Calls back in the order of the deadlines; equal ones in the order they were armed."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0

    def arm(self, when: float, callback: Callable[..., None], *args: Any) -> Timer:
        """Call `callback(*args)` once `run(now)` is told a time of `when` or later."""
        timer = Timer(when, callback, args)
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, timer))
        if len(self._heap) > 64 and self._count % 1024 == 0:
            self._sweep()
        return timer

    def next_due(self) -> float | None:
        """When the next one is due, or None."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run(self, now: float) -> None:
        """Call back what is due."""
        while (due := self.next_due()) is not None and due <= now:
            timer = heapq.heappop(self._heap)[2]
            callback, args = timer.callback, timer.args
            timer.cancel()
            if callback is not None:
                callback(*args)

    def _sweep(self) -> None:
        """Cancelled deadlines far ahead must not pile up: memory stays flat."""
        self._heap = [entry for entry in self._heap if entry[2].callback is not None]
        heapq.heapify(self._heap)
