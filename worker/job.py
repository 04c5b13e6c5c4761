"""What a plugin sees of the job it runs: its id, whether it was cancelled, its log.

A parameter annotated `Job` is filled in. Knows nothing of threads that read or run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .log import Log
from .outlet import Outlet
from .progress import Progress

TIMEOUT = "timeout"


class Cancelled(BaseException):
    """Raised by `job.check()` and at the `yield` of a generator when the job is over.

    Not an Exception, as asyncio's is not: `except Exception` around one frame of many does not
    swallow it. `reason` is `client`, `late`, `timeout`, `stopped` or what the supervisor said.
    """

    def __init__(self, reason: str = "client") -> None:
        super().__init__(reason)
        self.reason = reason


class Job:
    """One call. `id` is the job's, `attempt` counts from 1, `log` writes lines that name it."""

    __slots__ = (
        *("_deadline", "_interrupts", "_lock", "_outlet", "_reason", "_tells_progress"),
        *("attempt", "id"),
    )

    def __init__(
        self,
        job_id: str,
        outlet: Outlet,
        *,
        attempt: int = 1,
        timeout_ms: int | None = None,
        tells_progress: bool = False,
    ) -> None:
        self.id = job_id
        self.attempt = attempt
        self._outlet = outlet
        self._tells_progress = tells_progress
        self._deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        self._reason: str | None = None
        self._interrupts: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    @property
    def log(self) -> Log:
        """Lines for the supervisor's log, with this job's id."""
        return Log(self._outlet, job=self.id)

    @property
    def is_cancelled(self) -> bool:
        """Is somebody's answer no longer wanted, or its time over?"""
        return self.reason is not None

    @property
    def reason(self) -> str | None:
        """Why this job should end, None while it should not."""
        if self._reason is None and self._deadline is not None and self.remaining_s == 0:
            self._reason = TIMEOUT
        return self._reason

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the job's timeout, None without one."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def check(self) -> None:
        """Raise Cancelled if the job is over. Call it where stopping is safe."""
        reason = self.reason
        if reason is not None:
            raise Cancelled(reason)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the job is; a generator may yield `Progress` instead."""
        self.tell(Progress(done, total, message))

    def tell(self, progress: Progress) -> None:
        """Send a `Progress` to whoever asked for it."""
        if self._tells_progress:
            self._outlet.notify("progress", [self.id, progress.wire()])

    def cancel(self, reason: str) -> None:
        """Make `check` raise from now on; the first reason stays. Any thread."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
            interrupts = list(self._interrupts)
        for interrupt in interrupts:
            interrupt()

    def interrupted_by(self, interrupt: Callable[[], object]) -> None:
        """Have `cancel` call this too: what the job waits for must wake up."""
        with self._lock:
            self._interrupts.append(interrupt)
            is_late = self._reason is not None
        if is_late:
            interrupt()

    def forget(self, interrupt: Callable[[], object]) -> None:
        """Undo `interrupted_by`: nothing waits there any more."""
        with self._lock:
            self._interrupts.remove(interrupt)
