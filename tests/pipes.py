"""A FIFO on which a plugin hangs until the test lets it go: no test sleeps to wait."""

from __future__ import annotations

import os
import select
from pathlib import Path

DEADLINE_S = 30.0


class Hold:
    """A plugin that calls `open(path).read()` stays there until `release`.

    `wait_for(n)` returns once n bytes of proof were written to the second FIFO, `.began`.
    """

    def __init__(self, folder: Path, name: str = "hold") -> None:
        self.path = str(folder / name)
        self.began = f"{self.path}.began"
        os.mkfifo(self.path)
        os.mkfifo(self.began)
        self._held = os.open(self.path, os.O_RDWR)
        self._began = os.open(self.began, os.O_RDWR | os.O_NONBLOCK)

    def wait_for(self, count: int) -> None:
        """Until `count` jobs have begun and hang."""
        seen = 0
        while seen < count:
            assert select.select([self._began], [], [], DEADLINE_S)[0], f"{seen} of {count} began"
            seen += len(os.read(self._began, count - seen))

    def is_quiet(self) -> bool:
        """Has nobody begun whom `wait_for` has not seen?"""
        return not select.select([self._began], [], [], 0)[0]

    def release(self, count: int) -> None:
        """Let `count` of them go: each reads one byte."""
        os.write(self._held, b"." * count)

    def close(self) -> None:
        """Both FIFOs go."""
        os.close(self._held)
        os.close(self._began)


PLUGIN = """
import os
from changeover.worker import plugin

@plugin(version="{version}", pure={pure})
def job(number, hold=None):
    if hold is not None:
        with open(hold + ".began", "wb", buffering=0) as began:
            began.write(b".")
        with open(hold, "rb", buffering=0) as held:
            held.read(1)
    return [number, "{version}", os.getpid()]
"""


def plugin_text(version: str, *, pure: bool) -> str:
    """A plugin that hangs on a `Hold` when it is told to."""
    return PLUGIN.format(version=version, pure=pure)
