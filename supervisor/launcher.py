"""Starts workers, in three ways. Knows processes and pipes, nothing of what runs in them.

Everything is started from the loop's thread: PR_SET_PDEATHSIG fires when the *thread* that
started a process ends. spawn and forkserver use multiprocess' contexts and its entry points in
the child. Its `Popen` classes on this side are not used: they hand the supervisor's stdout to
the child, import the supervisor's `__main__` there, keep a table of children that reaps them
behind our back, and block.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from multiprocess import spawn

from .children import Children
from .contexts import pickled_process, write_at_once
from .descriptors import Descriptors
from .enter import enter_forked, enter_spawned
from .forkserver import ForkServer
from .launch import LaunchSpec, SpawnError, Started


class _Pipes(NamedTuple):
    """A worker's stdin, stdout and stderr, as seen from both sides."""

    ours: tuple[int, int, int]  # non-blocking
    theirs: tuple[int, int, int]  # blocking


class Launcher:
    """Makes processes. `say` is told what the fork servers write, line by line.

    There is one fork server for each set of `preload` modules; it lives until `close`.
    """

    def __init__(self, children: Children, say: Callable[[str], None]) -> None:
        self._children = children
        self._say = say
        self._thread = threading.get_ident()
        self._servers: dict[tuple[str, ...], ForkServer] = {}

    async def start(self, spec: LaunchSpec) -> Started:
        """Start one worker. Raises SpawnError, and leaves nothing behind then.

        Only `forkserver` waits, for the server's imports: the caller sets the deadline.
        """
        if threading.get_ident() != self._thread:
            raise RuntimeError("workers are started from the loop's thread only")
        if spec.command and spec.start != "exec":
            raise SpawnError(f'a command is started by exec, not "{spec.start}"', bad_luck=False)
        if spec.start == "forkserver" and spec.wrapped():
            raise SpawnError("a forked worker cannot be wrapped", bad_luck=False)
        try:
            with Descriptors() as ends:
                pipes = _open(ends)
                started = await self._start(spec, pipes, ends)
                ends.take(*pipes.ours)
                return started
        except OSError as err:
            first = next(iter(spec.wrapped()), "") or spec.python
            raise SpawnError.of(first or spec.shown or spec.argv()[0], err) from err
        except ValueError as err:  # a null byte in an argument or the environment
            raise SpawnError(f"cannot start {spec.shown!r}: {err}", bad_luck=False) from err

    async def close(self) -> None:
        """End the fork servers, and the workers that they still have."""
        for server in self._servers.values():
            await server.close()
        self._servers.clear()

    async def _start(self, spec: LaunchSpec, pipes: _Pipes, ends: Descriptors) -> Started:
        if spec.start == "forkserver":
            return await self._fork(spec, pipes)
        popen = _execute(spec, pipes) if spec.start == "exec" else _spawn(spec, pipes, ends)
        pidfd = self._children.adopt(popen)
        return _started(spec, pipes, pid=popen.pid, pidfd=pidfd, popen=popen)

    async def _fork(self, spec: LaunchSpec, pipes: _Pipes) -> Started:
        server = self._servers.get(spec.preload)
        if server is None:
            server = ForkServer(spec.preload, spec.supervisor_id, self._children, self._say)
            self._servers[spec.preload] = server
        process = pickled_process(spec, enter_forked, spec.arguments(), spec.environment())
        forked = await server.fork(process, pipes.theirs)
        self._children.own(forked.pid)  # it becomes our child when the server dies
        return _started(spec, pipes, pid=forked.pid, pidfd=forked.pidfd, status_fd=forked.status_fd)


def _open(ends: Descriptors) -> _Pipes:
    (in_r, in_w), (out_r, out_w), (err_r, err_w) = (ends.pipe() for _ in range(3))
    pipes = _Pipes((in_w, out_r, err_r), (in_r, out_w, err_w))
    for fd in pipes.ours:
        os.set_blocking(fd, False)
    return pipes


def _started(spec: LaunchSpec, pipes: _Pipes, **process: Any) -> Started:
    stdin, stdout, stderr = pipes.ours
    return Started(
        worker=spec.worker, stdin_fd=stdin, stdout_fd=stdout, stderr_fd=stderr,
        wrapper=spec.wrapper, **process,
    )  # fmt: skip


def _execute(spec: LaunchSpec, pipes: _Pipes) -> subprocess.Popen[bytes]:
    stdin, stdout, stderr = pipes.theirs
    return subprocess.Popen(
        spec.argv(),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=spec.environment(),
        cwd=spec.cwd,
        start_new_session=True,
    )


def _spawn(spec: LaunchSpec, pipes: _Pipes, ends: Descriptors) -> subprocess.Popen[bytes]:
    """A fresh interpreter that runs multiprocess' `spawn_main`.

    Its stdin and stdout are not the protocol's: the runtime gets those by number.
    """
    data_r, data_w = ends.pipe()
    write_at_once(data_w, pickled_process(spec, enter_spawned, pipes.theirs, spec.arguments()))
    program, *options = spawn.get_command_line(pipe_handle=data_r)
    return subprocess.Popen(
        spec.wrapped(os.fsdecode(program), "-P", *options),
        stdin=subprocess.DEVNULL,
        stdout=pipes.theirs[2],
        stderr=pipes.theirs[2],
        pass_fds=(data_r, *pipes.theirs),
        env=spec.environment(),
        cwd=spec.cwd,
        start_new_session=True,
    )
