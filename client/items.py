"""The items of one generator as they arrive, and the credits that they cost.

The plugin may be `credits` items ahead of the caller. A job that is run again sends its items
again: those that were here already are dropped by number, and their credit is given back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..protocol.payload import unpack_payload

if TYPE_CHECKING:
    from .connection import Connection
    from .future import JobFuture

END = object()


class Items:
    """Hands packed items to `put` in order, then `END` once the job has ended."""

    def __init__(
        self, connection: Connection, future: JobFuture, ahead: int, put: Callable[[Any], None]
    ) -> None:
        self.future = future
        self._connection = connection
        self._batch = max(1, ahead // 2)  # given back together: half a window at a time
        self._owed = 0
        self._next = 0
        self._put = put
        future.hand_items_to(self._take)
        future.add_done_callback(lambda _: put(END))

    def read(self, raw: bytes) -> Any:
        """The caller takes one item: the plugin may make another. Raises ValueError."""
        self._owed += 1
        if self._owed >= self._batch:
            self._give(self._owed)
            self._owed = 0
        return self.future.restored(unpack_payload(raw))

    def _take(self, seq: int, raw: bytes) -> None:
        if seq < self._next:
            self._give(1)
            return
        self._next = seq + 1
        self._put(raw)

    def _give(self, count: int) -> None:
        if not self.future.done():
            self._connection.notify("more", [self.future.info.job, count])
