"""The one reader of a connection: waits for its descriptors and moves bytes.

Whoever holds it calls `pump(timeout)`: today a thread of the connection, later also a caller
that waits for its own answer. Must not know messages or futures.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket

from .link import Link

_WAKE_BYTES = 4096


class Pump:
    """A selector over the link of the moment and a bell that other threads can ring."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._link: Link | None = None
        self._write_fd = -1  # registered for writing while the link has something to write

    def attach(self, link: Link) -> None:
        """Read from this link from now on."""
        self._link = link
        self._selector.register(link.transport.read_fd, selectors.EVENT_READ)

    def detach(self) -> None:
        """Forget the link, before its descriptors are closed."""
        if self._link is None:
            return
        self._listen_for_room(wanted=False)
        self._selector.unregister(self._link.transport.read_fd)
        self._link = None

    def pump(self, timeout_s: float | None) -> None:
        """Wait for one round of events and serve them. Raises LinkLost, Fatal (see Link)."""
        link = self._link
        if link is not None:
            self._listen_for_room(wanted=link.wants_write)
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._ear:
                self._hear()
            elif link is None:
                continue
            elif key.fd == self._write_fd:
                link.on_writable()
            else:
                link.on_readable()

    def ring(self) -> None:
        """Make `pump` return soon. From any thread, also from a finalizer; takes no lock."""
        with contextlib.suppress(BlockingIOError, OSError):  # full: it rings already
            self._bell.send(b"\0")

    def close(self) -> None:
        """Give the descriptors back."""
        self.detach()
        self._selector.close()
        self._bell.close()
        self._ear.close()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(self._ear.recv(_WAKE_BYTES)) == _WAKE_BYTES:
                pass

    def _listen_for_room(self, *, wanted: bool) -> None:
        if self._link is None or wanted == (self._write_fd >= 0):
            return
        if wanted:
            self._write_fd = self._link.transport.write_fd
            self._selector.register(self._write_fd, selectors.EVENT_WRITE)
        else:
            self._selector.unregister(self._write_fd)
            self._write_fd = -1


def set_nonblocking(*fds: int) -> None:
    """For descriptors that came from elsewhere."""
    for fd in fds:
        os.set_blocking(fd, False)
