"""The supervisor's children: those that it started, and those that came to it as orphans.

A descendant that leaves its worker's group (setsid, double fork) is known by the tag in its
environment, `CHANGEOVER_WORKER=<supervisor id>/<worker>`; as a child subreaper the supervisor
becomes its parent. Whoever starts a process in the supervisor says so here (`adopt`), else its
exit is taken for an orphan's. Decides nothing about workers.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from typing import NamedTuple

from .descriptors import Descriptors, readable
from .tagged import CLEAN_SCANS, kill, pidfd_of, pids, worker_of

_PR_SET_CHILD_SUBREAPER = 36
_CHUNK = 64  # processes looked at before the loop gets its turn: about a millisecond
_EXIT_WAIT_S = 1.0
_ROUNDS = 20


def become_subreaper() -> None:
    """Make orphaned descendants children of this process. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


class Exit(NamedTuple):
    """How a process ended: one of the two, or neither where nobody could tell."""

    status: int | None
    signal: int | None

    @classmethod
    def of_code(cls, code: int) -> Exit:
        """From an exit code as Python writes it: negative for a signal."""
        return cls(None, -code) if code < 0 else cls(code, None)

    @property
    def code(self) -> int:
        """As Python writes it; 255 where nobody could tell, like multiprocess."""
        if self.signal is not None:
            return -self.signal
        return 255 if self.status is None else self.status

    def __str__(self) -> str:
        if self.signal is not None:
            return f"died of {signal_name(self.signal)}"
        return "ended" if self.status is None else f"exited with status {self.status}"


def signal_name(number: int) -> str:
    """`SIGSEGV`; a real-time signal has only its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Children:
    """Reaps by pid only, never whatever comes: each exit status belongs to someone."""

    def __init__(self) -> None:
        self._own: set[int] = set()
        self._swept: dict[bytes, int] = {}  # by worker: scans that found nothing
        self._sweeping: asyncio.Task[None] | None = None

    def attach(self) -> None:
        """Reap orphans as they end. On the main thread's loop, once."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap_orphans)

    def adopt(self, popen: subprocess.Popen[bytes]) -> int:
        """Own a process that was just started; its pidfd. Kills it where there is none."""
        try:
            pidfd = os.pidfd_open(popen.pid)
        except OSError:
            popen.kill()
            popen.returncode = -signal.SIGKILL  # an orphan from now on, reaped as such
            raise
        self.own(popen.pid)
        return pidfd

    def own(self, pid: int) -> None:
        """Leave this process to whoever will `reap` it, should it become our child."""
        self._own.add(pid)

    def reap(self, pid: int, pidfd: int) -> Exit:
        """Reap a process of ours whose pidfd said that it has ended; its pid is free then.

        Tells nothing about the exit of one that was another's child.
        """
        try:
            found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            found = None
        self._own.discard(pid)
        self.reap_orphans()
        return Exit(None, None) if found is None else _exit_of(found)

    def reap_orphans(self) -> None:
        """Reap the orphans that have ended, looking at each before it is reaped.

        A child of ours among them stops the walk: whoever reaps it calls again.
        """
        peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            while found := os.waitid(os.P_ALL, 0, peek):
                if found.si_pid in self._own:
                    return
                os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return  # no child at all

    def sweep(self, worker: str) -> None:
        """Find and kill what carries this worker's tag, until two scans have found nothing.

        For a worker that has ended. Returns at once; `swept` waits.
        """
        self._swept[os.fsencode(worker)] = 0
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def swept(self, timeout_s: float) -> bool:
        """Wait until nothing is left to be swept. False if that took too long."""
        if self._sweeping is None:
            return True
        done, _ = await asyncio.wait({self._sweeping}, timeout=timeout_s)
        return bool(done)

    async def _sweep(self) -> None:
        """One scan serves all the workers that are waiting. Bounded: a process in an
        uninterruptible sleep cannot be killed."""
        for _ in range(_ROUNDS):
            workers = frozenset(self._swept)
            try:
                found = await self._scan(workers)
                await self._kill(found)
            except OSError:
                return  # no descriptor left to look with: they wait for the next sweep
            for worker in workers:
                clean = 0 if worker in found.values() else self._swept[worker] + 1
                self._swept[worker] = clean
                if clean >= CLEAN_SCANS:
                    del self._swept[worker]
            if not self._swept:
                return
        self._swept.clear()

    async def _scan(self, workers: frozenset[bytes]) -> dict[int, bytes]:
        found = {}
        for count, pid in enumerate(pids(), 1):
            worker = worker_of(pid)
            if worker in workers:
                found[pid] = worker
            if count % _CHUNK == 0:
                await asyncio.sleep(0)  # the loop's turn
        return found

    async def _kill(self, found: dict[int, bytes]) -> None:
        with Descriptors() as pidfds:
            waits = []
            for pid, worker in found.items():
                pidfd = pidfd_of(pid, worker)
                if pidfd is not None:
                    kill(pidfds.add(pidfd))
                    waits.append(asyncio.wait_for(readable(pidfd), _EXIT_WAIT_S))
            await asyncio.gather(*waits, return_exceptions=True)  # the next scan says who is left
        self.reap_orphans()


def _exit_of(found: os.waitid_result) -> Exit:
    if found.si_code == os.CLD_EXITED:
        return Exit(found.si_status, None)
    return Exit(None, found.si_status)
