"""How many items of a generator the other side still takes."""

from __future__ import annotations

import threading

from .job import Job


class Credits:
    """A count that `more` raises and every item lowers; whoever has none waits."""

    def __init__(self, count: int, job: Job) -> None:
        self._count = count
        self._job = job
        self._changed = threading.Condition()
        job.interrupted_by(self._wake)

    def grant(self, count: int) -> None:
        """Allow so many more items. Any thread."""
        with self._changed:
            self._count += count
            self._changed.notify_all()

    def take(self) -> None:
        """Use one up; wait for it if need be. Raises Cancelled when the job ends before."""
        with self._changed:
            while True:
                self._job.check()
                if self._count > 0:
                    self._count -= 1
                    return
                self._changed.wait(self._job.remaining_s)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
