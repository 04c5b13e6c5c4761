"""The way from the supervisor: who reads the pipe, and when.

The main thread reads while it has nothing to do, so a job costs no hand-off between threads.
While it is busy with plugin code the attendant, a second thread, is armed: it sleeps in epoll
until something arrives, so `ping` and `cancel` are answered and the end of input is seen during a
job. Arming is one system call. Knows no method and no plugin.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ..protocol.errors import Fatal
from ..protocol.framing import Splitter
from ..protocol.limits import READ_BYTES
from .stdio import Pipes

Work = TypeVar("Work")
_ARMED = select.EPOLLIN | select.EPOLLONESHOT


class Inlet(Generic[Work]):
    """A queue of work for the main thread, filled by whoever reads.

    `opened` takes one whole message and returns work, or None when it dealt with it; `ended` is
    told once of the end of input. Both may be called from either thread, never at once.
    """

    def __init__(
        self, pipes: Pipes, opened: Callable[[bytes], Work | None], ended: Callable[[], None]
    ) -> None:
        self._pipes = pipes
        self._opened = opened
        self._ended = ended
        self._splitter = Splitter()
        self._waiting: deque[Work] = deque()
        self._reading = threading.Lock()
        self._epoll: Any = None
        self._is_busy = False
        self.is_over = False
        self.fault = ""  # why the input is over, if it did not just end

    def next(self) -> Work | None:
        """The next work, in order of arrival; None at the end of input. Main thread only."""
        while not self._waiting:
            with self._reading:
                if self.is_over:
                    return None
                if not self._waiting:
                    self._read()
        return self._waiting.popleft()

    def leave(self) -> None:
        """End as if the input had ended. Only from within `opened`."""
        if not self.is_over:
            self.is_over = True
            self._ended()

    def __enter__(self) -> None:
        """Begin to run plugin code on the main thread."""
        if self._epoll is None:
            self._hire()
        self._is_busy = True
        self._arm(_ARMED)

    def __exit__(self, *_: object) -> None:
        self._is_busy = False
        self._arm(0)

    def _read(self) -> None:
        try:
            data = os.read(self._pipes.reading, READ_BYTES)
            if data:
                self._take(data)
            else:
                self.leave()
        except Fatal as fatal:
            self.fault = f"the supervisor broke the protocol ({fatal.code}): {fatal.message}"
            self.leave()
        except OSError as err:
            self.fault = f"the way to the supervisor is gone, the plugin may have closed it: {err}"
            self.leave()

    def _take(self, data: bytes) -> None:
        self._splitter.feed(data)
        for message in self._splitter:
            work = self._opened(message)
            if work is not None:
                self._waiting.append(work)

    def _hire(self) -> None:
        self._epoll = select.epoll()
        self._epoll.register(self._pipes.reading, 0)
        threading.Thread(target=self._attend, name="changeover-attendant", daemon=True).start()

    def _attend(self) -> None:
        ready = select.poll()
        ready.register(self._pipes.reading, select.POLLIN)
        while not self.is_over and self._is_woken():
            # Taken: the main thread is idle and reads what woke us itself.
            if not self._reading.acquire(blocking=False):
                continue
            try:
                while self._is_wanted() and ready.poll(0):
                    self._read()
                if self._is_wanted():
                    self._arm(_ARMED)
            finally:
                self._reading.release()

    def _arm(self, events: int) -> None:
        try:
            self._epoll.modify(self._pipes.reading, events)
        except OSError:  # the plugin closed it, or the pipe: the next read will tell
            return

    def _is_woken(self) -> bool:
        try:
            self._epoll.poll()
        except OSError:
            return False
        return True

    def _is_wanted(self) -> bool:
        return self._is_busy and not self.is_over
