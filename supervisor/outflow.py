"""What goes out over one descriptor: whole messages, never blocking.

All messages of one loop turn leave in one `os.write`; what the peer does not read waits here.
Knows no message from another.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

JOIN_BYTES = 256 * 1024


class Outflow:
    """Writes to a descriptor that somebody else closes.

    `on_flushed()` whenever the peer has taken everything, and when it never will;
    `on_unread()` when it has taken nothing for `unread_s` seconds (None: never).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        *,
        on_flushed: Callable[[], None],
        on_unread: Callable[[], None],
        unread_s: float | None,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._on_flushed = on_flushed
        self._on_unread = on_unread
        self._unread_s = unread_s
        self._waiting: deque[bytes | memoryview] = deque()
        self.unread_bytes = 0  # of ours, at the peer's door
        self.is_open = True
        self._flush_is_due = False
        self._writer_is_on = False
        self._unread: asyncio.TimerHandle | None = None
        self._when_flushed: list[Callable[[], None]] = []
        os.set_blocking(fd, False)

    def send(self, data: bytes) -> None:
        """Queue one whole message; it leaves at the end of this loop turn."""
        if not self.is_open:
            return
        self._waiting.append(data)
        self.unread_bytes += len(data)
        if not self._flush_is_due and not self._writer_is_on:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def when_flushed(self, callback: Callable[[], None]) -> None:
        """Call back once everything queued so far has been taken by the peer, or never can be."""
        if self._waiting:
            self._when_flushed.append(callback)
        else:
            callback()

    def close(self) -> None:
        """Write nothing more; what the peer has not taken is dropped."""
        if not self.is_open:
            return
        self.is_open = False
        self._waiting.clear()
        self.unread_bytes = 0
        self._be_flushed()

    def _flush(self) -> None:
        self._flush_is_due = False
        while self._waiting:
            chunk = self._next_chunk()
            try:
                written = os.write(self._fd, chunk)
            except (BlockingIOError, InterruptedError):
                written = 0
            except OSError:  # EPIPE: nobody reads; its exit or end of input says the rest
                self.close()
                return
            self.unread_bytes -= written
            if written < len(chunk):
                self._waiting.appendleft(memoryview(chunk)[written:])
                self._wait_for_reader(progress=written > 0)
                return
        self._be_flushed()

    def _next_chunk(self) -> bytes | memoryview:
        first = self._waiting.popleft()
        if not self._waiting or len(first) >= JOIN_BYTES:
            return first
        parts, size = [first], len(first)
        while self._waiting and size + len(self._waiting[0]) <= JOIN_BYTES:
            part = self._waiting.popleft()
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _wait_for_reader(self, *, progress: bool) -> None:
        if not self._writer_is_on:
            self._loop.add_writer(self._fd, self._flush)
            self._writer_is_on = True
        if self._unread is not None and progress:
            self._unread.cancel()
            self._unread = None
        if self._unread is None and self._unread_s is not None:
            self._unread = self._loop.call_later(self._unread_s, self._on_unread)

    def _be_flushed(self) -> None:
        if self._writer_is_on:
            self._loop.remove_writer(self._fd)
            self._writer_is_on = False
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        callbacks, self._when_flushed = self._when_flushed, []
        for callback in callbacks:
            callback()
        self._on_flushed()
