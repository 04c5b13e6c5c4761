"""The order of `map`: what was sent and not handed out yet, first in, first out.

Bounded by `buffersize`. Both maps, the one for threads and the one for asyncio, stand on it;
must not wait for anything itself.
"""

from __future__ import annotations

import concurrent.futures
from collections import deque
from typing import Any, Literal, NamedTuple

from .errors import Disconnected
from .future import JobFuture

OnError = Literal["raise", "skip", "passthrough"]
_POLICIES = ("raise", "skip", "passthrough")


class Placed(NamedTuple):
    """One item in its place, under way or ended."""

    item: Any
    future: concurrent.futures.Future[Any]


class Window:
    """Items in input order. An error comes out in its own place, after what was before it."""

    def __init__(self, buffersize: int, on_error: OnError) -> None:
        if buffersize < 1:
            raise ValueError(f"buffersize must be at least 1, not {buffersize}")
        if on_error not in _POLICIES:
            raise ValueError(f"on_error must be one of {', '.join(_POLICIES)}, not {on_error!r}")
        self._buffersize = buffersize
        self._on_error = on_error
        self._placed: deque[Placed] = deque()
        self._has_ended = False
        self._input_error: BaseException | None = None

    @property
    def wants_more(self) -> bool:
        """Is there room, and may there be input?"""
        return not self._has_ended and len(self._placed) < self._buffersize

    def put(self, item: Any, future: concurrent.futures.Future[Any]) -> None:
        """The next item is under way."""
        self._placed.append(Placed(item, future))

    def put_failed(self, item: Any, error: BaseException) -> None:
        """The next item could not be sent: that is its outcome."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_exception(error)
        self.put(item, future)

    def end(self, error: BaseException | None = None) -> None:
        """The input is over, or broke: then that is raised after everything before it."""
        self._has_ended = True
        self._input_error = error

    def first(self) -> Placed | None:
        """The item whose turn it is; None at the end. Raises what broke the input."""
        if self._placed:
            return self._placed[0]
        if self._input_error is not None:
            raise self._input_error
        return None

    def settle(self, error: Exception | None = None) -> list[Any]:
        """The first item has ended. What an error leaves to hand out; it is raised unless it is
        to be passed over. A lost connection always is raised: it would be the same for all.
        """
        placed = self._placed.popleft()
        if error is None:
            return []
        if self._on_error == "raise" or isinstance(error, Disconnected):
            raise error
        return [placed.item] if self._on_error == "passthrough" else []

    def cancel(self) -> None:
        """The loop was left: nobody will take what is under way."""
        for placed in self._placed:
            if isinstance(placed.future, JobFuture):
                placed.future.cancel_soon()
        self._placed.clear()
