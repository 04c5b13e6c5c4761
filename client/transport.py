"""What a connection runs over: two non-blocking descriptors and the peer behind them.

Opens and closes; reads and writes nothing. `Link` does that.
"""

from __future__ import annotations

import os
import socket
from typing import Protocol

from .errors import Disconnected, NoSupervisor


class Transport(Protocol):
    """One open way to a supervisor."""

    read_fd: int
    write_fd: int

    def end_input(self) -> None:
        """Tell the peer that nothing more will come; answers are still read."""

    def kill(self) -> None:
        """End the peer by force where it is ours to end."""

    def close(self, timeout_s: float) -> None:
        """Close both descriptors; give a child that long to leave, then kill it."""

    def forget(self) -> None:
        """In a forked child: close both descriptors, the peer stays the parent's."""

    def epitaph(self) -> str:
        """What became of the peer, for the error that the callers get."""


class SocketTransport:
    """A Unix socket. The descriptor is doubled, so that reading and writing are told apart."""

    def __init__(self, sock: socket.socket, path: str) -> None:
        sock.setblocking(False)
        self.path = path
        self.read_fd = os.dup(sock.fileno())
        self.write_fd = sock.detach()

    @classmethod
    def connect(cls, path: str, timeout_s: float) -> SocketTransport:
        """Connect. Raises NoSupervisor when nobody listens, Disconnected when we may not."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout_s)
            sock.connect(path)
            return cls(sock, path)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise NoSupervisor.at(path) from None
        except OSError as err:
            raise Disconnected(
                f"cannot connect to {path}: {err.strerror or err}\n"
                "  nothing was sent; the socket is open to its owner alone unless the"
                " configuration says otherwise (socket_mode)",
                executed="no",
            ) from None
        finally:
            sock.close()

    def end_input(self) -> None:
        """Nothing: for a socket the end of input is a disconnect, and that is `close`."""

    def kill(self) -> None:
        """Nothing: a service is not ours to end."""

    def close(self, timeout_s: float) -> None:
        """Close both descriptors."""
        for fd in (self.read_fd, self.write_fd):
            os.close(fd)

    def forget(self) -> None:
        """Close both descriptors."""
        self.close(0.0)

    def epitaph(self) -> str:
        """The supervisor may live on: only the connection ended."""
        return f"the connection to {self.path} ended"
