"""The processes that carry a worker's tag, found in /proc; run as a program, it is the guard.

Whatever a worker starts inherits `CHANGEOVER_WORKER=<supervisor id>/<worker>` in its environment,
also where it leaves the worker's group and session. The guard is started by its path, `python -I
-S`, and must import nothing but the standard library.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator

TAG = b"CHANGEOVER_WORKER="
CLEAN_SCANS = 2  # a process that was just being forked is seen by the second one
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
_EXIT_WAIT_S = 0.1
_PATIENCE_S = 30.0  # an uninterruptible sleep cannot be killed, not even awaited for ever


def pids() -> Iterator[int]:
    """Every process there is."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def worker_of(pid: int) -> bytes:
    """What the process is tagged with; empty without a tag, and where it may not be read."""
    try:
        fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except _GONE:
        return b""
    with os.fdopen(fd, "rb") as environ:
        try:
            entries = environ.read().split(b"\0")
        except _GONE:
            return b""
    return next((entry[len(TAG) :] for entry in entries if entry.startswith(TAG)), b"")


def pidfd_of(pid: int, worker: bytes) -> int | None:
    """The process that was found with this tag, and no other that has got its pid since."""
    try:
        pidfd = os.pidfd_open(pid)
    except _GONE:
        return None
    if worker_of(pid) != worker:
        os.close(pidfd)
        return None
    return pidfd


def kill(pidfd: int) -> None:
    """SIGKILL, to a process that may have ended."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return


def _kill_all(supervisor: bytes) -> None:
    """Kill all that this supervisor's workers have left, until two scans find nothing."""
    deadline = time.monotonic() + _PATIENCE_S
    clean = 0
    while clean < CLEAN_SCANS and time.monotonic() < deadline:
        found = [(pid, worker) for pid in pids() if (worker := worker_of(pid))]
        ours = [(pid, worker) for pid, worker in found if worker.startswith(supervisor)]
        clean = 0 if ours else clean + 1
        _kill_and_wait([fd for each in ours if (fd := pidfd_of(*each)) is not None])


def _kill_and_wait(pidfds: list[int]) -> None:
    left = set(pidfds)
    for pidfd in pidfds:
        kill(pidfd)
    deadline = time.monotonic() + _EXIT_WAIT_S
    while left and (rest_s := deadline - time.monotonic()) > 0:
        left.difference_update(select.select(list(left), [], [], rest_s)[0])
    for pidfd in pidfds:
        os.close(pidfd)


def _guard(supervisor: str) -> None:
    """Wait for the end of the supervisor, which is the end of our input; then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a service manager may tell all of a service
    while os.read(0, 1):
        pass
    _kill_all(os.fsencode(supervisor) + b"/")


if __name__ == "__main__":
    _guard(sys.argv[1])
