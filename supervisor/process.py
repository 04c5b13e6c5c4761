"""One worker process: signals that reach it and no stranger, and its exit, told once.

Everything goes through the pidfd; a pid is never signalled. Who is signalled and when is the
core's to decide.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import struct
from collections.abc import Callable

from .children import Children, Exit
from .launch import Started

_STATUS = struct.Struct("q")  # multiprocess.forkserver's signed numbers
_STATUS_WAIT_S = 1.0
_PIDFD_SIGNAL_PROCESS_GROUP = 4  # Linux 6.9


class Process:
    """Watches a started worker. `on_exit` is called once, by the loop.

    The exit says nothing about the pipes: what the worker wrote is still to be read, and a
    grandchild may hold them open. By the time of the call its group was killed and it was
    reaped; what escaped from the group is being swept.
    """

    def __init__(
        self, started: Started, children: Children, on_exit: Callable[[Exit], None]
    ) -> None:
        self.pid = started.pid
        self.worker = started.worker
        self.has_stacks = False  # the worker named the capability `stacks`
        self._started = started
        self._pidfd = started.pidfd
        self._children = children
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self._ended)
        self._timer: asyncio.TimerHandle

    def is_alive(self) -> bool:
        """False as soon as the process has ended, before `on_exit` was called."""
        return self._pidfd >= 0 and not _is_readable(self._pidfd)

    def dump_stacks(self) -> bool:
        """SIGUSR2, which kills a program that does not know it: only where it was named.

        Whatever wraps the worker did not name it.
        """
        return self.has_stacks and not self._started.wrapper and self._send(signal.SIGUSR2)

    def terminate(self) -> bool:
        """SIGTERM to the worker alone: it may want to end its own children. Wakes a stopped one.

        bwrap does not forward it, and its death is the worker's: there the message that asked
        the worker to end has to do.
        """
        if self._started.wrapper == "bwrap":
            return False
        return self._send(signal.SIGTERM) and self._send(signal.SIGCONT)

    def kill(self) -> bool:
        """SIGKILL to the worker and its group."""
        if self._pidfd < 0:
            return False
        was_there = self._send(signal.SIGKILL)  # first: by the group it might be reaped by now
        self._kill_group()
        return was_there

    def _send(self, number: int) -> bool:
        if self._pidfd < 0:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def _kill_group(self) -> None:
        """Also after the leader's exit: the pidfd holds the group's identity, not its number."""
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL, None, _PIDFD_SIGNAL_PROCESS_GROUP)
        except ProcessLookupError:
            return  # nobody is left in it
        except OSError:
            # Before Linux 6.9. Our own child is not reaped yet, so its number is its own; the
            # group of a fork server's child is left to the sweep.
            if self._started.popen is not None:
                _kill_numbered_group(self.pid)

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._kill_group()  # while nobody has reaped our child: then the numbers are its own
        if self._started.popen is not None:
            ended = self._children.reap(self.pid, self._pidfd)
            self._tell(_unwrapped(ended) if self._started.wrapper == "bwrap" else ended)
            return
        # The fork server reaps its children and reports when it gets to it.
        self._timer = self._loop.call_later(_STATUS_WAIT_S, self._reported)
        self._loop.add_reader(self._started.status_fd, self._reported)

    def _reported(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._started.status_fd)
        told = _read_status(self._started.status_fd)
        os.close(self._started.status_fd)
        # When the server died too, the worker was left to us.
        ended = self._children.reap(self.pid, self._pidfd)
        self._tell(told or ended)

    def _tell(self, ended: Exit) -> None:
        if self._started.popen is not None:
            self._started.popen.returncode = ended.code  # or subprocess would wait for the pid
        os.close(self._pidfd)
        self._pidfd = -1
        self._children.sweep(self.worker)
        self._on_exit(ended)


def _unwrapped(ended: Exit) -> Exit:
    """bwrap tells the worker's death of a signal as a shell does: 128 and its number."""
    by_signal = ended.status is not None and 128 < ended.status <= 128 + signal.SIGRTMAX
    return Exit(None, ended.status - 128) if by_signal and ended.status else ended


def _read_status(fd: int) -> Exit | None:
    try:
        raw = os.read(fd, _STATUS.size)
    except BlockingIOError:
        return None
    return Exit.of_code(*_STATUS.unpack(raw)) if raw else None


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _kill_numbered_group(pgid: int) -> None:
    try:
        os.killpg(pgid, signal.SIGKILL)
    except ProcessLookupError:
        return
