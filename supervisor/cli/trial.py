"""What `check` does to one plugin, in a private supervisor: load, run, replace, kill.

Yields what it found step by step; the first step that fails is the last. Must not print.
"""

from __future__ import annotations

import concurrent.futures
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...client.errors import ChangeoverError, WorkerLost
from ..units import format_size
from .reload_view import release

if TYPE_CHECKING:
    from ...client import Changeover, JobFuture

JOB_S = 60.0  # for one sample
BACK_S = 60.0  # for a new worker after a kill
# A trial asks by itself, its kill says nothing about the release, and nothing of it is kept.
TERMS = {"reload": "on-signal", "probation": "0s", "durable": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One step and how it went."""

    step: str
    is_ok: bool
    took_s: float
    detail: str


class StepFailed(Exception):
    """A step found what should not be."""


class Trial:
    """The steps for one plugin."""

    def __init__(self, supervisor: Changeover, name: str, table: dict[str, Any]) -> None:
        self._supervisor = supervisor
        self._name = name
        self._table = {**table, **TERMS}
        self._samples: list[tuple[str, bytes]] = []

    def run(self, samples: list[Path]) -> Iterator[Finding]:
        """Load, samples, changeover, kill."""
        self._samples = [(path.name, path.read_bytes()) for path in samples]
        steps = {"load": self._load, "changeover": self._changeover, "kill -9": self._kill}
        if self._samples:
            steps = {"load": self._load, "samples": self._run_samples, **steps}
        for step, work in steps.items():
            began = time.monotonic()
            try:
                detail, is_ok = work(), True
            except (ChangeoverError, StepFailed, TimeoutError) as error:
                detail, is_ok = str(error), False
            took_s = time.monotonic() - began
            yield Finding(step=step, is_ok=is_ok, took_s=took_s, detail=detail)
            if not is_ok:
                return

    def _load(self) -> str:
        loaded = self._supervisor.add(self._name, self._table)
        plugin = self._plugin()
        methods = plugin.get("methods") or {}
        facts = ", ".join(f"{method}{_traits(traits)}" for method, traits in methods.items())
        rss = max((worker.get("rss_bytes") or 0 for worker in plugin["workers"]), default=0)
        size = f", {format_size(rss)} each" if rss else ""
        return f"{release(loaded['release'])}: {facts}{size}"

    def _run_samples(self) -> str:
        for name, future in self._submit_all():
            self._expect(name, future)
        return f"{len(self._samples)} of {len(self._samples)}"

    def _changeover(self) -> str:
        futures = self._submit_all()
        outcome = self._supervisor.reload(self._name, force=True)
        for name, future in futures:
            self._expect(name, future)
        return f"the same content took over, lost {outcome.get('lost', 0)}"

    def _kill(self) -> str:
        futures = self._submit_all()
        killed = self._kill_one()
        self._await_another(killed)
        lost = sum(self._is_lost(name, future) for name, future in futures)
        if not futures:
            return f"worker {killed} was replaced"
        fate = "all jobs were run again" if not lost else f"{lost} lost: it is not pure"
        return f"worker {killed} was replaced, {fate}"

    def _submit_all(self) -> list[tuple[str, JobFuture]]:
        handle = self._supervisor[self._name]
        return [(name, handle.submit(data, timeout=JOB_S)) for name, data in self._samples]

    def _expect(self, name: str, future: JobFuture) -> None:
        try:
            future.result(JOB_S)
        except (ChangeoverError, concurrent.futures.TimeoutError) as error:
            raise StepFailed(f"{name}: {error}") from error

    def _is_lost(self, name: str, future: JobFuture) -> bool:
        try:
            future.result(JOB_S)
        except WorkerLost:
            return True
        except ChangeoverError as error:
            raise StepFailed(f"{name}: {error}") from error
        return False

    def _kill_one(self) -> int:
        """By pidfd, held against the list of workers once more: never a stranger's pid."""
        pid = self._ready_pids()[0]
        pidfd = os.pidfd_open(pid)
        try:
            if pid not in self._ready_pids():
                raise StepFailed(f"worker {pid} left before it could be killed")
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
        return pid

    def _await_another(self, killed: int) -> None:
        count = self._table.get("workers", 1)
        with self._supervisor.watch("workers", plugin=self._name) as watch:
            alarm = threading.Timer(BACK_S, watch.close)
            alarm.start()
            try:
                while killed in (pids := self._ready_pids(least=0)) or len(pids) < count:
                    if next(watch, None) is None:
                        raise StepFailed(f"no worker took the place of {killed} in {BACK_S:g} s")
            finally:
                alarm.cancel()
                alarm.join()

    def _ready_pids(self, least: int = 1) -> list[int]:
        workers = self._plugin()["workers"]
        pids = [worker["pid"] for worker in workers if worker["state"] == "ready"]
        if len(pids) < least:
            raise StepFailed("no worker is ready")
        return pids

    def _plugin(self) -> dict[str, Any]:
        plugin: dict[str, Any] = self._supervisor.status(self._name)["plugins"][self._name]
        return plugin


def _traits(traits: dict[str, Any]) -> str:
    words = ["pure" if traits.get("pure") else "not pure", "stream" if traits.get("stream") else ""]
    return f" ({', '.join(filter(None, words))})"
