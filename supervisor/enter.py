"""What runs in a spawned or forked worker before the worker's own runtime.

Leaves nothing of multiprocess' plumbing behind in the plugin's process, gives it its own session
and tag, and enters the runtime by name, as `python -m` does for an executed worker. Loaded by
the fork server: must import nothing of the supervisor's.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from pathlib import Path

from multiprocess import forkserver, resource_tracker

RUNTIME = "changeover.worker.start"
_TAG = b"CHANGEOVER_WORKER="


def enter_spawned(fds: tuple[int, int, int], argv: list[str]) -> None:
    """Target of a process of the spawn context; its environment is its own already."""
    _enter(fds, argv, dict(os.environ))


def enter_forked(argv: list[str], env: dict[str, str]) -> None:
    """Target of a process of the forkserver context."""
    server = forkserver._forkserver
    in_fd, out_fd, err_fd = server._inherited_fds
    # A plugin that uses multiprocess itself starts a server and a tracker of its own.
    os.close(server._forkserver_alive_fd)
    os.close(resource_tracker._resource_tracker._fd)
    server._forkserver_alive_fd = server._forkserver_address = server._inherited_fds = None
    resource_tracker._resource_tracker._fd = None
    _retag(env["CHANGEOVER_WORKER"])
    _reseed()
    _enter((in_fd, out_fd, err_fd), argv, env)


def _enter(fds: tuple[int, int, int], argv: list[str], env: dict[str, str]) -> None:
    for fd in fds:
        os.set_inheritable(fd, False)
    if os.getsid(0) != os.getpid():
        os.setsid()
    runtime = importlib.import_module(RUNTIME)
    sys.exit(runtime.main_with_fds(*fds, argv, env))


def _retag(worker: str) -> None:
    """Show the worker's own tag in /proc/<pid>/environ.

    A forked process shows the environment that its server was executed with, whatever
    `os.environ` says; the kernel reads it from this process' memory, where the server was
    given room for it.
    """
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    block = ctypes.string_at(start, end - start)
    at = block.find(_TAG)
    tag = _TAG + os.fsencode(worker)
    room = block.find(b"\0", at) - at
    if at >= 0 and len(tag) <= room:
        ctypes.memmove(start + at, tag.ljust(room, b"\0"), room)


def _reseed() -> None:
    """Siblings share numpy's global generator as the server left it (`random` sees to itself)."""
    generator = sys.modules.get("numpy.random")
    if generator is not None:
        generator.seed()
