"""Running a generator: progress and items go out as they come, its return value comes back."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from ..protocol import messages
from .credits import Credits
from .job import Cancelled, Job
from .outlet import Outlet
from .progress import Progress


class Collected:
    """Where the items go that nobody asked to see one by one: into the answer."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def take(self, item: Any) -> None:
        self.items.append(item)

    def answer(self, returned: Any) -> Any:
        """The items if there were any, else what the generator returned."""
        return self.items or returned


class Streamed:
    """Sends each item as a notification, within the credits.

    `pack(item)` raises Fault for what cannot travel.
    """

    def __init__(
        self, job: Job, allowed: Credits, outlet: Outlet, pack: Callable[[Any], bytes]
    ) -> None:
        self._job_id = messages.pack(job.id)
        self._credits = allowed
        self._outlet = outlet
        self._pack = pack
        self._seq = 0

    def take(self, item: Any) -> None:
        raw = self._pack(item)
        self._credits.take()
        parts = (self._job_id, messages.pack(self._seq), raw)
        self._outlet.send(messages.notification_raw("item", parts))
        self._seq += 1

    def answer(self, returned: Any) -> Any:
        return returned


def drive(generator: Generator[Any, None, Any], job: Job, sink: Collected | Streamed) -> Any:
    """Run it to its end. A cancelled job sees Cancelled raised at its `yield`, once.

    What it returns then is its answer; if it yields again, it is closed and Cancelled raised.
    """
    cancelled: Cancelled | None = None
    while True:
        try:
            value = next(generator) if cancelled is None else generator.throw(cancelled)
        except StopIteration as stop:
            return sink.answer(stop.value)
        if cancelled is not None:
            generator.close()
            raise cancelled
        try:
            _take(value, job, sink)
            job.check()
        except Cancelled as over:
            cancelled = over
        except BaseException:
            generator.close()
            raise


def _take(value: Any, job: Job, sink: Collected | Streamed) -> None:
    if isinstance(value, Progress):
        job.tell(value)
    else:
        sink.take(value)
