"""`async def` plugins: one event loop in a thread of its own, for the worker's whole life.

One loop for all jobs and hooks, so that what `on_load` opened (a session, a pool) can be used by
every job. Whoever runs a job waits here for its coroutine.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import Any

from .job import TIMEOUT, Job


class Coroutines:
    """Runs coroutines and asynchronous generators for threads that wait."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(
            target=self._loop.run_forever, name="changeover-asyncio", daemon=True
        ).start()

    def run(self, step: Awaitable[Any], job: Job | None = None) -> Any:
        """Wait for its result. A cancelled or late job's task is cancelled; its end is awaited."""
        outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._loop.call_soon_threadsafe(self._begin, _run(step, outcome), job)
        result, raised = outcome.get()
        if raised is not None:
            raise raised
        return result

    def _begin(self, coroutine: Any, job: Job | None) -> None:
        task = self._loop.create_task(coroutine)
        if job is not None:
            self._let_end(task, job)

    def _let_end(self, task: asyncio.Task[None], job: Job) -> None:
        def interrupt() -> None:
            self._loop.call_soon_threadsafe(task.cancel)

        job.interrupted_by(interrupt)
        task.add_done_callback(lambda _: job.forget(interrupt))
        remaining_s = job.remaining_s
        if remaining_s is not None:
            timer = self._loop.call_later(remaining_s, job.cancel, TIMEOUT)
            task.add_done_callback(lambda _: timer.cancel())

    def drawn(self, source: AsyncGenerator[Any, Any], job: Job) -> Generator[Any, None, None]:
        """The same items as an ordinary generator, each awaited on the loop."""
        step: Awaitable[Any] = source.__anext__()
        try:
            while True:
                try:
                    item = self.run(step, job)
                except StopAsyncIteration:
                    return
                try:
                    yield item
                except GeneratorExit:
                    raise
                except BaseException as thrown:  # noqa: BLE001  handed on to the plugin's own
                    step = source.athrow(thrown)
                else:
                    step = source.__anext__()
        finally:
            self.run(source.aclose())


async def _run(
    step: Awaitable[Any], outcome: queue.SimpleQueue[tuple[Any, BaseException | None]]
) -> None:
    """Nothing may leave the task: SystemExit would take the loop along."""
    try:
        outcome.put((await step, None))
    except BaseException as exc:  # noqa: BLE001  raised again where the job is waited for
        outcome.put((None, exc))
