"""The threads of a worker with `concurrency` above 1."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Work = TypeVar("Work")


class Pool(Generic[Work]):
    """So many threads that call `run` with what is put; daemons, so that none keeps us alive."""

    def __init__(self, threads: int, run: Callable[[Work], None]) -> None:
        self._run = run
        self._waiting: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"changeover-job-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, work: Work) -> None:
        self._waiting.put(work)

    def join(self) -> None:
        """Wait until all that was put has been run. Nothing may be put afterwards."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        work = self._waiting.get()
        while work is not None:
            self._run(work)
            work = self._waiting.get()
