"""The protocol's two pipes, moved out of the plugin's reach before anything of it is imported.

Afterwards fd 0 is /dev/null and fd 1 the log: `print`, C's `puts` and a child's output end there
and cannot harm the protocol. Knows no message.
"""

from __future__ import annotations

import os
import sys

STDIN, STDOUT, STDERR = 0, 1, 2


class Pipes:
    """The private descriptors: `reading` from the supervisor, `writing` to it."""

    __slots__ = ("reading", "writing")

    def __init__(self, reading: int, writing: int) -> None:
        self.reading = reading
        self.writing = writing

    @classmethod
    def take(cls, reading: int = STDIN, writing: int = STDOUT) -> Pipes:
        """Move the given descriptors away and put /dev/null and the log in their places.

        The originals are closed: nothing but the result leads to the supervisor afterwards.
        """
        pipes = cls(os.dup(reading), os.dup(writing))
        # The other end may have left them non-blocking: our reads must wait.
        os.set_blocking(pipes.reading, True)
        os.set_blocking(pipes.writing, True)
        for fd in {reading, writing} - {STDIN, STDOUT, STDERR}:
            os.close(fd)
        _redirect()
        os.register_at_fork(after_in_child=pipes.forget)
        return pipes

    def forget(self) -> None:
        """In a fork of the worker: the worker's input and answers are not the fork's."""
        _close(self.reading)
        _close(self.writing)
        self.reading = self.writing = -1


def take_log(err_fd: int) -> None:
    """Make `err_fd` the log, fd 2."""
    if err_fd != STDERR:
        os.dup2(err_fd, STDERR)
        os.close(err_fd)


def _redirect() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, STDIN)
    if not _is_open(STDERR):
        os.dup2(null, STDERR)
    os.dup2(STDERR, STDOUT)
    if null > STDERR:
        os.close(null)
    for stream in (sys.stdout, sys.stderr):
        # A pipe is block-buffered: lines would show up late and get lost at a kill.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:  # the plugin closed every descriptor before
        return


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
