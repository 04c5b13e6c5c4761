"""What comes in over one descriptor, cut into whole messages, while somebody wants them.

Reading stops and goes on as its owner says; a message that is never finished is a fault of the
peer's only while we read. Knows no message from another.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import sys
import termios
from collections.abc import Callable

from ..protocol import limits
from ..protocol.errors import Fatal, FatalCode
from ..protocol.framing import Splitter

READS_A_TURN = 16
TURN_S = 0.01  # for the messages of one peer; then the others have theirs
_NOTHING = Splitter()  # of all who have ended: they may wait long for the garbage collector


class Inflow:
    """Reads from a descriptor that somebody else closes.

    `on_message(raw)` for each whole message, `on_end()` once at the end of input, `on_fatal(fatal)`
    once when the peer broke the protocol; after the last two nothing more is read. While
    `is_choked()` nothing is handed over or read: `start` goes on.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        *,
        on_message: Callable[[bytes], None],
        on_end: Callable[[], None],
        on_fatal: Callable[[Fatal], None],
        is_choked: Callable[[], bool],
        unfinished_s: float,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._on_message = on_message
        self._on_end = on_end
        self._on_fatal = on_fatal
        self._is_choked = is_choked
        self._unfinished_s = unfinished_s
        self._splitter = Splitter()
        self.has_ended = False
        self._reader_is_on = False
        self._is_tired = False  # our turn was over before the messages were
        self._began: float | None = None  # when the unfinished message did
        self._unfinished: asyncio.TimerHandle | None = None
        self._file_reader: asyncio.Task[None] | None = None
        os.set_blocking(fd, False)

    def start(self) -> None:
        """Begin to read, or go on."""
        if self._reader_is_on or self.has_ended:
            return
        self._is_tired = False
        if self._may_read():
            self._handle(TURN_S)  # what was whole when reading stopped
        if not self._may_read():
            return
        try:
            self._loop.add_reader(self._fd, self._readable)
            self._reader_is_on = True
        except PermissionError:  # epoll takes no regular file: `serve --stdio < requests`
            if self._file_reader is None:
                self._file_reader = self._loop.create_task(self._read_file())

    @property
    def unfinished_bytes(self) -> int:
        """What has come of a message that is not whole."""
        return self._splitter.pending

    def end(self) -> None:
        """Read nothing more."""
        self.has_ended = True
        self._pause()
        self._splitter = _NOTHING  # it holds 50 KB, and an unfinished message may be large
        if self._file_reader is not None:
            self._file_reader.cancel()

    def drain(self) -> None:
        """Read what is in the pipe at this moment: a complete message there wins over an exit.

        Not more: a grandchild may hold the pipe and write for ever.
        """
        self._is_tired = False
        if not self.has_ended:
            self._handle(math.inf)
        left = 0 if self.has_ended else _available(self._fd)
        while left > 0 and not self.has_ended:
            data = os.read(self._fd, min(left, limits.READ_BYTES))
            left -= len(data)
            self._take(data, math.inf)

    def fail(self, fatal: Fatal) -> None:
        """The peer broke the protocol: told once, and not after the end of input."""
        if not self.has_ended:
            self.has_ended = True
            self._pause()
            self._on_fatal(fatal)

    def _may_read(self) -> bool:
        return not (self.has_ended or self._is_tired or self._is_choked())

    def _pause(self) -> None:
        if self._reader_is_on:
            self._loop.remove_reader(self._fd)
            self._reader_is_on = False
        self._began = None
        if self._unfinished is not None:
            self._unfinished.cancel()
            self._unfinished = None

    def _readable(self) -> None:
        for _ in range(READS_A_TURN):
            if not self._reader_is_on or not self._read_once():
                return

    def _read_once(self) -> bool:
        """Take one chunk; False when there is no more for now."""
        try:
            data = os.read(self._fd, limits.READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # ECONNRESET: the peer is gone, as at end of input
            data = b""
        if not data:
            self._be_at_end()
            return False
        self._take(data)
        return len(data) == limits.READ_BYTES

    async def _read_file(self) -> None:
        """A regular file is read in a helper thread."""
        while self._may_read():
            data = await self._loop.run_in_executor(None, os.read, self._fd, limits.READ_BYTES)
            if not data:
                self._be_at_end()
            else:
                self._take(data)
        self._file_reader = None

    def _take(self, data: bytes, turn_s: float = TURN_S) -> None:
        self._splitter.feed(data)
        is_new = self._handle(turn_s) or self._began is None
        if self._is_tired or self._is_choked():
            self._pause()
        elif self._splitter.pending and self._reader_is_on:
            self._watch_unfinished(is_new=is_new)
        else:
            self._began = None

    def _handle(self, turn_s: float) -> bool:
        """Hand over what is whole, as long as we may; was there a whole message?"""
        was_whole = False
        over = self._loop.time() + turn_s
        try:
            for raw in self._splitter:
                was_whole = True
                self._on_message(raw)
                if self._loop.time() > over:
                    self._is_tired = True
                    self._loop.call_soon(self.start)
                if not self._may_read():
                    break
        except Fatal as fatal:
            self.fail(fatal)
        return was_whole

    def _be_at_end(self) -> None:
        self.has_ended = True
        self._pause()
        self._on_end()

    def _watch_unfinished(self, *, is_new: bool) -> None:
        if is_new:
            self._began = self._loop.time()
        if self._unfinished is None:
            self._unfinished = self._loop.call_later(self._unfinished_s, self._look_unfinished)

    def _look_unfinished(self) -> None:
        """One timer serves many messages: the one that is unfinished now may be younger."""
        self._unfinished = None
        if self._began is None:
            return
        left_s = self._began + self._unfinished_s - self._loop.time()
        if left_s > 0:
            self._unfinished = self._loop.call_later(left_s, self._look_unfinished)
        else:
            text = f"a message was not finished within {self._unfinished_s:g} s"
            self.fail(Fatal(FatalCode.UNFINISHED, text))


def _available(fd: int) -> int:
    """How many bytes can be read from a pipe at once."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
