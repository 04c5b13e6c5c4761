"""The Unix socket: where it is, who may connect."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..protocol import limits
from ..protocol.errors import FatalCode
from ..protocol.messages import notification
from ..protocol.paths import default_socket
from .access import Access

_PEERCRED = struct.Struct("3i")
ACCEPT_AGAIN_S = 1.0  # after EMFILE and its like: the waiting client makes the socket readable


class ListenError(Exception):
    """Nobody can connect here; the message says why and what to do."""


class Listener:
    """Accepts the clients whom `access` lets in."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, path: str, access: Access,
        on_client: Callable[[int, int, int], None],
    ) -> None:  # fmt: skip
        self._loop = loop
        self.path = path
        self._access = access
        self._on_client = on_client
        self._uids: Counter[int] = Counter()
        self._socket = _bind(path, access)
        self._inode = os.stat(path).st_ino
        self._again: asyncio.TimerHandle | None = None
        self._listen()

    def _listen(self) -> None:
        self._again = None
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(16):
            try:
                connection, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # EMFILE, ENFILE, ENOBUFS, ENOMEM: whoever waits must wait longer
                self._loop.remove_reader(self._socket.fileno())
                self._again = self._loop.call_later(ACCEPT_AGAIN_S, self._listen)
                return
            self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        pid, uid, _gid = _PEERCRED.unpack(raw)
        if not self._access.lets_in(uid):
            _turn_away(connection, FatalCode.CLOSING, f"uid {uid} may not connect here")
        elif self._uids[uid] >= limits.CONNECTIONS_PER_UID:
            count = limits.CONNECTIONS_PER_UID
            _turn_away(
                connection, FatalCode.TOO_MANY_CONNECTIONS, f"{count} connections of uid {uid}"
            )
        else:
            self._uids[uid] += 1
            self._on_client(connection.detach(), pid, uid)

    def gone(self, uid: int) -> None:
        """A client of this uid has left."""
        self._uids[uid] -= 1

    def close(self) -> None:
        """Accept nobody; the name goes too, if it is still ours."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)


def socket_path(configured: str, name: str) -> str:
    """`socket = "auto"` is the rule that clients know too."""
    return default_socket(name) if configured == "auto" else configured


def _bind(path: str, access: Access) -> socket.socket:
    folder = Path(path).parent
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if not folder.exists():
            access.make_folder(folder)
        _remove_stale(path)
        old = os.umask(0o177)
        try:
            made.bind(path)
        finally:
            os.umask(old)
        access.open(path)
        made.listen(128)
    except OSError as error:
        if made.getsockname() == path:
            os.unlink(path)
        made.close()
        raise ListenError(
            f"cannot listen on {path}: {error.strerror or error}\n"
            '  name another place: -s PATH or socket = "…" in [supervisor]'
        ) from error
    return made


def _remove_stale(path: str) -> None:
    """A socket that nobody listens on is left from a supervisor that was killed."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):  # connecting would be refused too, but this is somebody's file
        raise OSError(None, "there is something that is no socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with contextlib.closing(probe):
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # somebody listens and is too busy to accept
            pass
        raise OSError(None, "another supervisor listens there")


def _turn_away(connection: socket.socket, code: int, message: str) -> None:
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(notification("goaway", [int(code), message, {}]))
