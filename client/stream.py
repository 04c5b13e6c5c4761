"""The items of one generator, for a thread that takes them one by one."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .future import JobFuture
from .items import END, Items

if TYPE_CHECKING:
    from .connection import Connection


class Stream(Iterator[Any]):
    """An iterator; leaving it early (`close`, the end of a `with`, forgetting it) cancels the job.

    What the job ended with is raised after the items that came before it. `future` has its
    result (what the generator returned) and `.info`.
    """

    def __init__(self, connection: Connection, future: JobFuture, ahead: int) -> None:
        self.future = future
        self._connection = connection
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._items = Items(connection, future, ahead, self._arrived.put)
        self._has_ended = False

    def __next__(self) -> Any:
        if self._has_ended:
            raise StopIteration
        self._connection.check_may_wait()
        raw = self._arrived.get()
        if raw is not END:
            return self._items.read(raw)
        self._has_ended = True
        raise StopIteration(self.future.result())

    def close(self) -> None:
        """Take no more; cancel the job if it has not ended."""
        self._has_ended = True
        self.future.cancel_soon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._has_ended:
            self.close()
