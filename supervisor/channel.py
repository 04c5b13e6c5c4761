"""One peer over file descriptors: whole messages in, whole messages out, never blocking.

What a peer does not read waits here, and its own requests wait with it: reading from it stops
while too much of its output is unread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from ..protocol import limits
from ..protocol.errors import Fatal, FatalCode
from .inflow import Inflow
from .outflow import Outflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long and how much a peer may keep us waiting; None = for ever."""

    unfinished_s: float = limits.UNFINISHED_MESSAGE_S  # from the first byte of a message on
    unread_s: float | None = limits.UNREAD_OUTPUT_S  # without taking a byte of our output
    unread_bytes: int | None = limits.UNREAD_OUTPUT_BYTES  # beyond it we do not read either


class Channel:
    """Reads from one descriptor and writes to one (they may be the same: a socket).

    `on_message(raw)` for each whole message, `on_end()` once at end of input, `on_fatal(fatal)`
    once when the peer broke the protocol or our patience is at an end. After the last two nothing
    more is read. The descriptors are closed by `close`.
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
        patience: Patience,
    ) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._blocking = {fd for fd in (read_fd, write_fd) if os.get_blocking(fd)}
        self._patience = patience
        self._in = Inflow(
            loop, read_fd, on_message=on_message, on_end=on_end, on_fatal=on_fatal,
            is_choked=self._is_choked, unfinished_s=patience.unfinished_s,
        )  # fmt: skip
        self._out = Outflow(
            loop, write_fd, on_flushed=self._in.start, on_unread=self._be_unread,
            unread_s=patience.unread_s,
        )  # fmt: skip
        self.start = self._in.start
        self.drain_input = self._in.drain
        self.send = self._out.send
        self.when_flushed = self._out.when_flushed

    @property
    def is_writable(self) -> bool:
        """Does anybody read what is sent?"""
        return self._out.is_open

    @property
    def unread_bytes(self) -> int:
        """How much of what was sent the peer has not taken."""
        return self._out.unread_bytes

    @property
    def unfinished_bytes(self) -> int:
        """What has come of a message that is not whole."""
        return self._in.unfinished_bytes

    def _is_choked(self) -> bool:
        limit = self._patience.unread_bytes
        return limit is not None and self._out.unread_bytes > limit

    def _be_unread(self) -> None:
        text = f"output was not read for {self._patience.unread_s:g} s"
        self._in.fail(Fatal(FatalCode.UNREAD, text))

    def close_output(self) -> None:
        """End of input for the peer; what it has not taken is dropped."""
        fd, self._write_fd = self._write_fd, -1
        is_socket = fd == self._read_fd
        if fd in self._blocking:  # our standard output may be others' too, who come after us
            os.set_blocking(fd, True)
        self._out.close()  # whose callbacks may close us
        if fd >= 0 and not is_socket:
            os.close(fd)

    def close(self) -> None:
        """Close both descriptors."""
        self._in.end()
        self.close_output()
        if self._read_fd >= 0:
            if self._read_fd in self._blocking:
                os.set_blocking(self._read_fd, True)
            os.close(self._read_fd)
            self._read_fd = -1
