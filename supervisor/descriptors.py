"""Descriptors that must not leak, and waiting for one without blocking the loop."""

from __future__ import annotations

import asyncio
import os
from typing import Self


class Descriptors:
    """Owns what is opened through it; leaving the context closes what was not taken."""

    def __init__(self) -> None:
        self._owned: set[int] = set()

    def add(self, fd: int) -> int:
        """Own a descriptor from now on."""
        self._owned.add(fd)
        return fd

    def pipe(self) -> tuple[int, int]:
        """A close-on-exec pipe, both ends owned and blocking."""
        read, write = os.pipe()
        return self.add(read), self.add(write)

    def take(self, *fds: int) -> None:
        """Give these away: they outlive the context."""
        self._owned.difference_update(fds)

    def close(self, *fds: int) -> None:
        """Close these now."""
        for fd in fds:
            self._owned.discard(fd)
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(*self._owned)


async def readable(fd: int) -> None:
    """Wait until `fd` has something to read: data, end of file, or (a pidfd) the exit.

    The caller sets the deadline. One waiter for each descriptor.
    """
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
