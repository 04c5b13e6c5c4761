"""The fork server's own process: `python -P -m changeover.supervisor.forkserver_main`.

Imports what its workers share, then serves forks in multiprocess' loop. Everything it writes
goes to the supervisor's log.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import pkgutil
import signal
import sys

from multiprocess import forkserver, spawn

from . import enter

_PR_SET_PDEATHSIG = 1
_fork = os.fork
_be_what_comes = spawn._main


def main() -> None:
    """Arguments: the supervisor's pid, the listening and the alive descriptor, modules."""
    parent, listener_fd, alive_fd = (int(arg) for arg in sys.argv[1:4])
    # While it imports it cannot see the alive pipe end; its workers are told to die with it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the supervisor was gone before the fork server began")
    _load_runtime()
    for name in sys.argv[4:]:
        _preload(name)
    gc.collect()
    gc.freeze()  # a collection in a worker would otherwise copy the shared pages
    os.fork = _fork_or_errno
    spawn._main = _be_what_comes_if_any
    forkserver.main(listener_fd, alive_fd, [])


def _load_runtime() -> None:
    """All of the worker's runtime, which an executed worker loads as it needs it."""
    package = importlib.import_module(enter.RUNTIME.rpartition(".")[0])
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)


def _preload(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as err:  # noqa: BLE001 - other people's code runs here
        print(
            f"preload {name!r} failed ({type(err).__name__}: {err}); workers start without it",
            file=sys.stderr,
            flush=True,
        )


def _fork_or_errno() -> int:
    """Answer a refused fork with -errno in place of the pid.

    multiprocess' loop would end at the OSError, and all workers of this server with it. The
    price is one descriptor of this process for each refusal.
    """
    try:
        return _fork()
    except OSError as err:
        return -(err.errno or 1)


def _be_what_comes_if_any(fd: int, parent_sentinel: int) -> int:
    """Leave without a word where the worker was given up before it was told what it is."""
    try:
        code: int = _be_what_comes(fd, parent_sentinel)
    except EOFError:
        return 0
    return code


if __name__ == "__main__":
    main()
