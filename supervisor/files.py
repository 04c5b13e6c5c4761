"""The helper thread: everything that reads, hashes, copies or writes files waits here, in turn.

A task that takes long (a model of gigabytes) calls `breathe` between its chunks; what has queued
up meanwhile is done there, so one plugin's size does not delay another. It never starts a
process: PR_SET_PDEATHSIG fires when the thread that started one ends.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")
Task = tuple["Future[Any]", Callable[[], Any]]


class Files(Executor):
    """An executor of one thread. `shutdown` does what was submitted before."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="changeover-files")
        self._thread.start()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Do it in the helper thread, after what was submitted before."""
        future: Future[T] = Future()
        self._tasks.put((future, lambda: fn(*args, **kwargs)))
        return future

    def breathe(self) -> None:
        """In the helper thread, inside a long task: do what has come meanwhile."""
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return
            if task is None:
                self._tasks.put(None)  # the end waits for the long task
                return
            _do(*task)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            _do(*task)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the thread end after what was submitted."""
        self._tasks.put(None)
        if wait:
            self._thread.join()


def _do(future: Future[Any], task: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = task()
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
        future.set_exception(error)
    else:
        future.set_result(result)
