"""One peer over file descriptors: whole messages in, whole messages out, never blocking.

All writes of one loop turn leave in one `os.write`. What a peer does not read waits here, and
its own requests wait with it: reading from it stops while too much of its output is unread.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

from ..protocol import limits
from ..protocol.errors import Fatal, FatalCode
from ..protocol.framing import Splitter

JOIN_BYTES = 256 * 1024
READS_A_TURN = 16


class Channel:
    """Reads from one descriptor and writes to one (they may be the same: a socket).

    `on_message(raw)` for each whole message, `on_end()` once at end of input, `on_fatal(fatal)`
    once when the peer broke the protocol or does not read for ten minutes (`is_patient`: never).
    After the last two nothing more is read. The descriptors are closed by `close`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        read_fd: int,
        write_fd: int,
        *,
        on_message: Callable[[bytes], None],
        on_end: Callable[[], None],
        on_fatal: Callable[[Fatal], None],
        is_patient: bool = False,
        is_bounded: bool = True,
    ) -> None:
        self._loop = loop
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._on_message = on_message
        self._on_end = on_end
        self._on_fatal = on_fatal
        self._is_patient = is_patient
        self._is_bounded = is_bounded
        self._splitter = Splitter()
        self._out: deque[bytes | memoryview] = deque()
        self.unread_bytes = 0  # of ours, at the peer's door
        self._flush_is_due = False
        self._writer_is_on = False
        self._reader_is_on = False
        self._input_ended = False
        self._unfinished: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._file_reader: asyncio.Task[None] | None = None
        self._when_flushed: list[Callable[[], None]] = []
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)

    # -- reading

    def start(self) -> None:
        """Begin to read."""
        if self._reader_is_on or self._input_ended or self._read_fd < 0:
            return
        try:
            self._loop.add_reader(self._read_fd, self._readable)
            self._reader_is_on = True
        except PermissionError:  # epoll takes no regular file: `serve --stdio < requests`
            if self._file_reader is None:
                self._file_reader = self._loop.create_task(self._read_file())

    def _pause_reading(self) -> None:
        if self._reader_is_on:
            self._loop.remove_reader(self._read_fd)
            self._reader_is_on = False
        self._watch_unfinished(wanted=False)

    def _readable(self) -> None:
        for _ in range(READS_A_TURN):
            if not self._reader_is_on or not self._read_once():
                return

    def _read_once(self) -> bool:
        """Take one chunk; False when there is no more for now."""
        try:
            data = os.read(self._read_fd, limits.READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # ECONNRESET: the peer is gone, as at end of input
            data = b""
        if not data:
            self._end_input()
            return False
        self._take(data)
        return len(data) == limits.READ_BYTES

    def _take(self, data: bytes) -> None:
        self._splitter.feed(data)
        try:
            for raw in self._splitter:
                self._on_message(raw)
                if self._input_ended:
                    return
        except Fatal as fatal:
            self._fail(fatal)
            return
        self._watch_unfinished(wanted=self._splitter.pending > 0)
        if self._is_bounded and self.unread_bytes > limits.UNREAD_OUTPUT_BYTES:
            self._pause_reading()

    async def _read_file(self) -> None:
        """A regular file is read in a helper thread."""
        while not self._input_ended:
            data = await self._loop.run_in_executor(None, os.read, self._read_fd, limits.READ_BYTES)
            if not data:
                self._end_input()
            else:
                self._take(data)

    def drain_input(self) -> None:
        """Read what is in the pipe already: a complete message there wins over an exit."""
        while not self._input_ended:
            before = self._input_ended
            try:
                data = os.read(self._read_fd, limits.READ_BYTES)
            except OSError:
                return
            if not data or before:
                self._input_ended = True
                self._pause_reading()
                return
            self._take(data)

    def _end_input(self) -> None:
        self._input_ended = True
        self._pause_reading()
        self._on_end()

    def _fail(self, fatal: Fatal) -> None:
        if not self._input_ended:
            self._input_ended = True
            self._pause_reading()
            self._on_fatal(fatal)

    def _watch_unfinished(self, *, wanted: bool) -> None:
        """A message must be whole 30 s after it began, while we read."""
        if self._unfinished is not None and not wanted:
            self._unfinished.cancel()
            self._unfinished = None
        elif self._unfinished is None and wanted and self._reader_is_on:
            self._unfinished = self._loop.call_later(
                limits.UNFINISHED_MESSAGE_S,
                self._fail,
                Fatal(FatalCode.UNFINISHED, "a message was not finished within 30 s"),
            )

    # -- writing

    def send(self, data: bytes) -> None:
        """Queue one whole message; it leaves at the end of this loop turn."""
        if self._write_fd < 0:
            return
        self._out.append(data)
        self.unread_bytes += len(data)
        if not self._flush_is_due and not self._writer_is_on:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def when_flushed(self, callback: Callable[[], None]) -> None:
        """Call back once everything queued so far has been taken by the peer, or never can be."""
        if self._out:
            self._when_flushed.append(callback)
        else:
            callback()

    def _flush(self) -> None:
        self._flush_is_due = False
        while self._out and self._write_fd >= 0:
            chunk = self._next_chunk()
            try:
                written = os.write(self._write_fd, chunk)
            except (BlockingIOError, InterruptedError):
                written = 0
            except OSError:  # EPIPE: nobody reads; its exit or end of input says the rest
                self.close_output()
                return
            self.unread_bytes -= written
            if written < len(chunk):
                self._out.appendleft(memoryview(chunk)[written:])
                self._wait_for_reader(progress=written > 0)
                return
        self._has_flushed()

    def _next_chunk(self) -> bytes | memoryview:
        first = self._out.popleft()
        if not self._out or len(first) >= JOIN_BYTES:
            return first
        parts, size = [first], len(first)
        while self._out and size + len(self._out[0]) <= JOIN_BYTES:
            part = self._out.popleft()
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _wait_for_reader(self, *, progress: bool) -> None:
        if not self._writer_is_on:
            self._loop.add_writer(self._write_fd, self._flush)
            self._writer_is_on = True
        if self._is_patient:
            return
        if self._unread is not None and progress:
            self._unread.cancel()
            self._unread = None
        if self._unread is None:
            fatal = Fatal(FatalCode.UNREAD, "output was not read for 10 minutes")
            self._unread = self._loop.call_later(limits.UNREAD_OUTPUT_S, self._fail, fatal)

    def _has_flushed(self) -> None:
        if self._writer_is_on:
            self._loop.remove_writer(self._write_fd)
            self._writer_is_on = False
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        callbacks, self._when_flushed = self._when_flushed, []
        for callback in callbacks:
            callback()
        self.start()

    # -- ending

    def close_output(self) -> None:
        """End of input for the peer; what it has not taken is dropped."""
        self._out.clear()
        self.unread_bytes = 0
        if self._write_fd < 0:
            return
        if self._writer_is_on:
            self._loop.remove_writer(self._write_fd)
            self._writer_is_on = False
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        if self._write_fd != self._read_fd:
            os.close(self._write_fd)
        self._write_fd = -1
        callbacks, self._when_flushed = self._when_flushed, []
        for callback in callbacks:
            callback()

    def close(self) -> None:
        """Close both descriptors."""
        self._input_ended = True
        self._pause_reading()
        self.close_output()
        if self._file_reader is not None:
            self._file_reader.cancel()
        if self._read_fd >= 0:
            os.close(self._read_fd)
            self._read_fd = -1
