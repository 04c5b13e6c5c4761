"""A check around every test: nothing may be left behind. Knows nothing of the project."""

from __future__ import annotations

import ctypes
import gc
import os
import select
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

GRACE_S = 5.0  # for what is on its way out when a test ends
NATIVE_GRACE_S = 1.0
PR_SET_CHILD_SUBREAPER = 36


def pytest_sessionstart() -> None:
    """Adopt orphans, so that a worker that outlives its supervisor is seen here."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test after which a thread, a child process or a descriptor is still there."""
    threads, children, descriptors = set(threading.enumerate()), _children(), _descriptors()
    yield
    deadline = time.monotonic() + GRACE_S
    left = [
        *_living_threads(threads, deadline),
        *_living_children(children, deadline),
        *_open_descriptors(descriptors, time.monotonic() + NATIVE_GRACE_S),
    ]
    assert not left, "left behind: " + ", ".join(left)


def _living_threads(before: set[threading.Thread], deadline: float) -> Iterator[str]:
    for thread in set(threading.enumerate()) - before:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            yield f"thread {thread.name}"


def _living_children(before: set[int], deadline: float) -> Iterator[str]:
    for pid in _children() - before:
        if not _exits(pid, deadline):
            process = psutil.Process(pid)
            yield f"process {pid} ({' '.join(process.cmdline())})"
            process.kill()
            _exits(pid, time.monotonic() + GRACE_S)


def _exits(pid: int, deadline: float) -> bool:
    """Wait for a child's end, and reap it."""
    pidfd = os.pidfd_open(pid)
    try:
        select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    finally:
        os.close(pidfd)


def _open_descriptors(before: dict[int, str], deadline: float) -> Iterator[str]:
    if _descriptors().keys() - before.keys():
        gc.collect()  # what only a reference cycle keeps open is not ours to close
    while _descriptors().keys() - before.keys() and time.monotonic() < deadline:
        # A thread of native code (watchfiles has one) closes its own and cannot be joined.
        select.select([], [], [], 0.01)
    for number, target in sorted(_descriptors().items()):
        if number not in before:
            yield f"descriptor {number} ({target})"


def _children() -> set[int]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # the quick answer for the tests that start nothing
    return {child.pid for child in psutil.Process().children()}


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one that the listing itself had open
    return found
