"""Jobs for a stream of items: sent ahead by a thread of its own, taken in input order.

A source that waits for its next item (a live camera, a slow pipe) delays no result that is ready,
and whoever takes slowly holds the source back. Must not know what the items are.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from ...client.errors import ChangeoverError
from ...client.future import JobFuture
from ...client.handle import PluginHandle

T = TypeVar("T")
_NOTHING: tuple[int, Any] = (-1, None)


class Sent(NamedTuple, Generic[T]):
    """One item under way. `error`: it could not be sent."""

    number: int
    item: T
    future: JobFuture | None
    error: Exception | None


class _End(NamedTuple):
    error: BaseException | None


class Ahead(Generic[T]):
    """Iterating gives what was sent, in input order; afterwards `error` is what broke the source.

    At most `limit` items are under way or waiting to be taken.
    """

    def __init__(
        self, handle: PluginHandle, source: Iterable[T], limit: int, arguments: dict[str, Any]
    ) -> None:
        self._handle = handle
        self._source = source
        self._arguments = arguments
        self._room = threading.Semaphore(limit)
        self._sent: queue.SimpleQueue[Sent[T] | _End] = queue.SimpleQueue()
        self._is_over = False
        self.error: BaseException | None = None
        # A daemon: it may be waiting for a source that never says another word.
        self._thread = threading.Thread(target=self._run, name="changeover-ahead", daemon=True)

    def __iter__(self) -> Iterator[Sent[T]]:
        """The place of an item is given back when the next one is asked for."""
        self._thread.start()
        try:
            while not isinstance(sent := self._sent.get(), _End):
                yield sent
                self._room.release()
            self.error = sent.error
        finally:
            self._stop()

    def _stop(self) -> None:
        self._is_over = True
        self._room.release()
        while not self._sent.empty():
            left = self._sent.get()
            if isinstance(left, Sent) and left.future is not None:
                left.future.cancel_soon()

    def _run(self) -> None:
        end = _End(None)
        try:
            self._send_all()
        except (OSError, ValueError) as err:  # a broken source: for whoever iterates
            end = _End(err)
        except BaseException as err:
            end = _End(err)
            raise
        finally:
            self._sent.put(end)

    def _send_all(self) -> None:
        source = enumerate(self._source)
        while self._has_room():
            number, item = next(source, _NOTHING)
            if number < 0 or self._is_over:
                return
            self._sent.put(self._send(number, item))

    def _has_room(self) -> bool:
        self._room.acquire()
        return not self._is_over

    def _send(self, number: int, item: T) -> Sent[T]:
        try:
            future = self._handle.submit(item, **self._arguments)
        except (ChangeoverError, TypeError, ValueError) as err:
            return Sent(number, item, None, err)
        return Sent(number, item, future, None)
