"""What a spawned or forked worker is told: a pickled multiprocess `Process`, through a pipe.

The target is a function of a module, its arguments are descriptors and plain values: what is
pickled is never a plugin. The supervisor's `__main__`, `sys.path` and `sys.argv` do not travel.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Callable
from typing import Any

import multiprocess
from multiprocess import reduction
from multiprocess.context import set_spawning_popen

from .launch import LaunchSpec, SpawnError

_PIPE_BYTES = 64 * 1024


def pickled_process(spec: LaunchSpec, target: Callable[..., None], *args: Any) -> bytes:
    """What multiprocess' entry point reads in the child: the preparation, then the process."""
    process = multiprocess.get_context(spec.start).Process(
        target=target, args=args, name=spec.worker
    )
    folder = spec.cwd or os.getcwd()
    preparation = {
        "name": spec.worker,
        "sys_argv": ["changeover.worker", *spec.arguments()],
        "orig_dir": folder,
        "dir": folder,
        "start_method": "spawn",  # for a plugin that uses multiprocess itself: never fork
    }
    buffer = io.BytesIO()
    set_spawning_popen(process)  # the authentication key is pickled for a child only
    try:
        reduction.dump(preparation, buffer)
        reduction.dump(process, buffer)
    finally:
        set_spawning_popen(None)
    return buffer.getvalue()


def write_at_once(fd: int, data: bytes) -> None:
    """Into an empty pipe, made large enough: the loop never waits for the reader."""
    if len(data) > _PIPE_BYTES:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, len(data))
    os.set_blocking(fd, False)
    if os.write(fd, data) < len(data):
        raise SpawnError(
            f"the worker's arguments and environment are {len(data)} bytes, more than a pipe takes",
            bad_luck=False,
        )
