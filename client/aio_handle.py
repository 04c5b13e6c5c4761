"""One plugin, as a coroutine uses it."""

# ruff: noqa: ASYNC109 - a job's deadline, which the supervisor keeps

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import ChangeoverError, JobTimeout
from .future import JobFuture, Progress
from .handle import BUFFERSIZE, patience
from .info import JobInfo
from .items import END, Items
from .target import Target
from .window import OnError, Window

if TYPE_CHECKING:
    from .call import Call
    from .connection import Connection

_END = object()


class AsyncJob:
    """A job under way: await it for the result. `future` is the same to other threads."""

    def __init__(self, future: JobFuture) -> None:
        self.future = future
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        future.add_done_callback(lambda _: call_soon(loop, _wake, self._ended))

    @property
    def info(self) -> JobInfo:
        """What is known of the job."""
        return self.future.info

    @property
    def progress(self) -> Progress | None:
        """The newest report."""
        return self.future.progress

    def on_progress(self, callback: Callable[[Progress], None]) -> None:
        """Call `callback` in this loop with every report."""
        loop = asyncio.get_running_loop()
        self.future.on_progress(lambda report: call_soon(loop, callback, report))

    def done(self) -> bool:
        """Has it ended?"""
        return self.future.done()

    async def result(self) -> Any:
        """Wait for the result. A wait that is cancelled leaves the job alone."""
        await self.wait()
        return self.future.result(0)

    async def wait(self) -> None:
        """Wait for its end, whatever that is."""
        await asyncio.shield(self._ended)

    def cancel(self) -> None:
        """Ask the supervisor to cancel the job; it ends as `Cancelled`, or as it ends."""
        self.future.cancel_soon()

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()


class AsyncPluginHandle(Target):
    """See `PluginHandle`: the same methods, to be awaited."""

    async def __call__(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Run one job. A wait that is cancelled cancels it."""
        options = self._options.with_timeout(timeout)
        call, future = self._job(args, kwargs, options)
        job = AsyncJob(future)
        await start_job(self._connection, call, options.timeout_s)
        try:
            async with asyncio.timeout(patience(options.timeout_s)):
                await job.wait()
        except TimeoutError:
            raise JobTimeout.unanswered(future.info.job, self.plugin) from None
        finally:
            future.cancel_soon()
        return future.result(0)

    async def submit(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> AsyncJob:
        """Start one job. Waits only while the session is full."""
        options = self._options.with_timeout(timeout)
        call, future = self._job(args, kwargs, options, progress=True)
        job = AsyncJob(future)
        await start_job(self._connection, call, options.timeout_s)
        return job

    async def stream(
        self, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Start a generator and take its items as they come. Leaving it cancels the job."""
        options = self._options.with_timeout(timeout)
        call, future = self._job(args, kwargs, options, progress=True, stream=options.credits)
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        items = Items(
            self._connection,
            future,
            options.credits,
            lambda item: call_soon(loop, arrived.put_nowait, item),
        )
        await start_job(self._connection, call, options.timeout_s)
        try:
            while (raw := await arrived.get()) is not END:
                yield items.read(raw)
            future.result(0)
        finally:
            future.cancel_soon()

    def map(
        self,
        iterable: Iterable[Any] | AsyncIterable[Any],
        *,
        buffersize: int = BUFFERSIZE,
        on_error: OnError = "raise",
        timeout: float | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """See `PluginHandle.map`. The input may be an async iterable too."""
        window = Window(buffersize, on_error)
        return self._for_each(timeout)._run(_aiter(iterable), window, kwargs)

    async def _run(
        self, source: AsyncIterator[Any], window: Window, kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        try:
            while True:
                while window.wants_more:
                    await self._feed(source, window, kwargs)
                placed = window.first()
                if placed is None:
                    return
                try:
                    result = await _outcome(placed.future)
                except (ChangeoverError, TypeError, ValueError) as err:
                    for item in window.settle(err):
                        yield item
                else:
                    window.settle()
                    yield result
        finally:
            window.cancel()

    async def _feed(
        self, source: AsyncIterator[Any], window: Window, kwargs: dict[str, Any]
    ) -> None:
        try:
            item = await anext(source, _END)
        except Exception as err:  # noqa: BLE001 - the caller's own iterator: raised in its place
            window.end(err)
            return
        if item is _END:
            window.end()
            return
        try:
            call, future = self._job((item,), kwargs, self._options)
            await start_job(self._connection, call, self._options.timeout_s)
        except (ChangeoverError, TypeError, ValueError) as err:
            window.put_failed(item, err)
        else:
            window.put(item, future)


async def start_job(connection: Connection, call: Call, timeout_s: float | None) -> None:
    """Send a job once the session has room for it."""
    loop = asyncio.get_running_loop()
    budget = connection.session.budget
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                room = loop.create_future()
                if budget.take_or_hook(call.size, partial(call_soon, loop, _wake, room)):
                    break
                connection.check_open()
                await room
    except TimeoutError:
        raise JobTimeout.unsent(call.job, call.plugin, timeout_s or 0.0) from None
    connection.send_job(call)


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., Any], *args: Any) -> None:
    """From the thread that reads; a loop that is closed needs to know nothing any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *args)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _outcome(future: Any) -> Any:
    if isinstance(future, JobFuture):
        return await AsyncJob(future)
    return future.result(0)


async def _aiter(iterable: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(iterable, AsyncIterable):
        async for item in iterable:
            yield item
    else:
        for item in iterable:
            yield item
