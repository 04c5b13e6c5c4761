"""The drain: the coroutine in which every changeover's old workers end.

Stop routing has happened (the gate is held, or the queue points at the new workers); then wait
until the borrowed set is empty; at `drain_timeout` the stragglers are killed. Pure: whoever
drives it sends the time in and is told until when to wait.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol


class Borrower(Protocol):
    """Workers that hold jobs, and may be made to give them back."""

    @property
    def borrowed(self) -> int:
        """How many jobs they hold."""

    def force_kill(self) -> int:
        """Kill those that hold jobs; return how many jobs they held."""


@dataclass(slots=True)
class DrainReport:
    """What a drain did, in jobs."""

    drained: int = 0
    killed: int = 0


class GracefulReload:
    """Drains with a deadline. `drain_timeout_s` 0 is at once, None waits for ever."""

    def __init__(self, drain_timeout_s: float | None) -> None:
        self.drain_timeout_s = drain_timeout_s

    def drain_and_reload(
        self, old: Borrower, now: float
    ) -> Generator[float | None, float, DrainReport]:
        """Yield the deadline to wait for; take the time by `send`; return the report.

        It must be resumed whenever a job comes back and when the deadline has passed.
        """
        report = DrainReport(drained=old.borrowed)
        deadline = None if self.drain_timeout_s is None else now + self.drain_timeout_s
        while old.borrowed:
            if deadline is not None and now >= deadline:
                report.killed += old.force_kill()
                deadline = None
            now = yield deadline
        report.drained -= report.killed
        return report
