"""One fork server: a process that has imported some modules and forks workers on request.

multiprocess knows a single, global server that inherits the supervisor's stdout (the protocol,
in `serve --stdio`), starts a resource tracker and blocks its caller until the imports are done.
This is one server for each set of modules, spoken to in the same way but without blocking.
Knows nothing of plugins.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from multiprocess import reduction

from .children import Children
from .contexts import write_at_once
from .descriptors import Descriptors, readable
from .launch import SpawnError
from .logs import StderrPump

_STATUS = struct.Struct("q")  # multiprocess.forkserver's signed numbers
_TAG_ROOM = 160  # a forked worker writes its own tag over the server's
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """A forked worker. Its exit status will come on `status_fd`: it is not our child."""

    pid: int
    pidfd: int
    status_fd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """The server's process while it lives."""

    popen: subprocess.Popen[bytes]
    pidfd: int
    door_fd: int  # O_PATH of its listening socket, whose name is gone
    alive_fd: int  # it ends at the end of this pipe
    log: StderrPump
    ended: asyncio.Future[str]  # how, once it has


class ForkServer:
    """Started at the first fork, and again when it has died. Its workers die with it."""

    def __init__(
        self,
        preload: tuple[str, ...],
        supervisor_id: str,
        children: Children,
        say: Callable[[str], None],
    ) -> None:
        self._preload = preload
        self._tag = f"{supervisor_id}/forkserver".ljust(_TAG_ROOM, "_")
        self._children = children
        self._say = say
        self._server: _Running | None = None

    async def fork(self, process: bytes, fds: tuple[int, int, int]) -> Forked:
        """Fork a worker that unpickles and runs `process`, with these as its descriptors.

        Waits for the server's imports; the caller sets the deadline. The worker is told what
        it is only when its pidfd is open: until then it cannot end by itself, so the pid is its.
        """
        server = self._server or self._launch()
        with Descriptors() as ends:
            status_r, status_w = ends.pipe()
            data_r, data_w = ends.pipe()
            # Two places are multiprocess' alive pipe and resource tracker, which `enter` closes.
            _send(server, [data_r, status_w, data_r, data_r, *fds])
            ends.close(status_w, data_r)
            os.set_blocking(status_r, False)
            pid = await self._read_pid(server, status_r)
            pidfd = ends.add(os.pidfd_open(pid))
            write_at_once(data_w, process)
            ends.take(status_r, pidfd)
        return Forked(pid=pid, pidfd=pidfd, status_fd=status_r)

    async def close(self) -> None:
        """End the server, and the workers that it still has."""
        server = self._server
        if server is not None:
            signal.pidfd_send_signal(server.pidfd, signal.SIGKILL)
            await asyncio.wait_for(asyncio.shield(server.ended), _GRACE_S)

    async def _read_pid(self, server: _Running, status_fd: int) -> int:
        await readable(status_fd)
        raw = os.read(status_fd, _STATUS.size)
        if len(raw) < _STATUS.size:
            how = await asyncio.wait_for(asyncio.shield(server.ended), _GRACE_S)
            modules = ", ".join(self._preload) or "nothing"
            raise SpawnError(
                f"the fork server ({modules} preloaded) {how} before the worker was forked",
                bad_luck=how.startswith("died"),
            )
        pid: int = _STATUS.unpack(raw)[0]
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def _launch(self) -> _Running:
        with Descriptors() as ends:
            alive_r, alive_w = ends.pipe()
            err_r, err_w = ends.pipe()
            os.set_blocking(err_r, False)
            with socket.socket(socket.AF_UNIX) as listener:
                door = ends.add(_listen(listener))
                popen = self._start(listener.fileno(), alive_r, err_w)
            pidfd = ends.add(self._children.adopt(popen))
            ends.take(pidfd, door, alive_w, err_r)
        loop = asyncio.get_running_loop()
        server = self._server = _Running(
            popen=popen,
            pidfd=pidfd,
            door_fd=door,
            alive_fd=alive_w,
            log=StderrPump(err_r, self._say),
            ended=loop.create_future(),
        )
        loop.add_reader(pidfd, self._bury, server)
        return server

    def _start(self, *fds: int) -> subprocess.Popen[bytes]:
        listener, alive, err = fds
        module = ["-P", "-m", "changeover.supervisor.forkserver_main"]
        return subprocess.Popen(
            [sys.executable, *module, str(os.getpid()), str(listener), str(alive), *self._preload],
            stdin=subprocess.DEVNULL,
            stdout=err,
            stderr=err,
            pass_fds=(listener, alive),
            env={**os.environ, "CHANGEOVER_WORKER": self._tag},
            start_new_session=True,
        )

    def _bury(self, server: _Running) -> None:
        """The server has ended: let go of it, so that the next fork starts another."""
        asyncio.get_running_loop().remove_reader(server.pidfd)
        ended = self._children.reap(server.popen.pid, server.pidfd)
        server.popen.returncode = ended.code
        for fd in (server.pidfd, server.door_fd, server.alive_fd):
            os.close(fd)
        server.log.close()
        self._server = None
        server.ended.set_result(str(ended))


def _listen(listener: socket.socket) -> int:
    """A descriptor that reaches the socket after its name is gone.

    Nothing is left on disk when we are killed, and nobody else can connect.
    """
    folder = tempfile.mkdtemp(prefix="changeover-")
    try:
        path = f"{folder}/door"
        listener.bind(path)
        try:
            listener.listen()
            return os.open(path, os.O_PATH | os.O_CLOEXEC)
        finally:
            os.unlink(path)
    finally:
        os.rmdir(folder)  # not TemporaryDirectory: its removal needs a descriptor


def _send(server: _Running, fds: list[int]) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)  # a full backlog is EAGAIN
        client.connect(f"/proc/self/fd/{server.door_fd}")
        reduction.sendfds(client, fds)
