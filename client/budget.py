"""How much may be in flight: the supervisor's limits, kept on this side.

A caller beyond them waits here, so that nobody sees BUSY for a flood of his own. Must not know
connections: whoever waits is woken by `give` and by `wake`, and looks again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Budget:
    """Jobs and bytes in flight. A job too large for the limit goes when nothing else is there."""

    def __init__(self, jobs: int = 4096, size_bytes: int = 512 * 1024 * 1024) -> None:
        self.most_jobs = jobs
        self.most_bytes = size_bytes
        self._jobs = 0
        self._bytes = 0
        self._hooks: list[Callable[[], None]] = []
        # Reentrant: the garbage collector may end a `map` inside any allocation made here.
        self._room = threading.Condition(threading.RLock())

    def take(self, size: int) -> bool:
        """Take room for one job if there is some."""
        with self._room:
            if self._jobs and not self._fits(size):
                return False
            self._jobs += 1
            self._bytes += size
            return True

    def force(self, size: int) -> None:
        """Take room that may not be there: for callers who must not wait."""
        with self._room:
            self._jobs += 1
            self._bytes += size

    def take_or_wait(self, size: int, timeout_s: float | None) -> bool:
        """Take room, or wait for one change (at most `timeout_s`) and say that there was none."""
        with self._room:
            return self.take(size) or (self._room.wait(timeout_s) and False)

    def take_or_hook(self, size: int, hook: Callable[[], None]) -> bool:
        """Take room, or have `hook` called at the next change, from the thread that makes it."""
        with self._room:
            if self.take(size):
                return True
            self._hooks.append(hook)
            return False

    def give(self, size: int) -> None:
        """A job of that size ended."""
        with self._room:
            self._jobs -= 1
            self._bytes -= size
        self.wake()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        with self._room:
            self._room.notify_all()
            hooks, self._hooks = self._hooks, []
        for hook in hooks:
            hook()

    @property
    def jobs(self) -> int:
        """How many are in flight."""
        return self._jobs

    def _fits(self, size: int) -> bool:
        return self._jobs < self.most_jobs and self._bytes + size <= self.most_bytes
