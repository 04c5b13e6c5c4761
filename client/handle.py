"""One plugin, as a thread uses it: call it, submit to it, map over it."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable, Iterator
from typing import Any

from .errors import ChangeoverError, JobTimeout
from .future import JobFuture
from .stream import Stream
from .target import Target
from .window import OnError, Window

BUFFERSIZE = 8
_ANSWER_GRACE_S = 10.0  # beyond the job's own deadline, which the supervisor keeps


class PluginHandle(Target):
    """`co["denoise"]`. The only keyword that a plugin cannot have is `timeout` (seconds)."""

    def __call__(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Run one job and wait for its result. An interrupted wait cancels it."""
        self._connection.check_may_wait()
        options = self._options.with_timeout(timeout)
        call, future = self._job(args, kwargs, options)
        self._connection.start_job(call, options.timeout_s)
        try:
            concurrent.futures.wait([future], patience(options.timeout_s))
        finally:
            future.cancel_soon()
        if not future.done():
            raise JobTimeout.unanswered(future.info.job, self.plugin)
        return future.result()

    def submit(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> JobFuture:
        """Start one job. Waits only while the session is full. The future has `.info`."""
        options = self._options.with_timeout(timeout)
        call, future = self._job(args, kwargs, options, progress=True)
        self._connection.start_job(call, options.timeout_s)
        return future

    def stream(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Stream:
        """Start a generator and take its items as they come."""
        options = self._options.with_timeout(timeout)
        call, future = self._job(args, kwargs, options, progress=True, stream=options.credits)
        stream = Stream(self._connection, future, options.credits)
        self._connection.start_job(call, options.timeout_s)
        return stream

    def map(
        self,
        iterable: Iterable[Any],
        *,
        buffersize: int = BUFFERSIZE,
        on_error: OnError = "raise",
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        """Each item as the one positional argument; results in input order.

        At most `buffersize` items are under way or waiting to be taken. Leaving the loop cancels
        what is in flight. An error surfaces in its item's place: raised, skipped, or the item
        itself passed through. `timeout` is one item's deadline in seconds.
        """
        window = Window(buffersize, on_error)
        return _run(self._for_each(timeout), iter(iterable), window, kwargs)

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobFuture:
        """Start one job with the handle's own options."""
        call, future = self._job(args, kwargs, self._options)
        self._connection.start_job(call, self._options.timeout_s)
        return future


def _run(
    handle: PluginHandle, source: Iterator[Any], window: Window, kwargs: dict[str, Any]
) -> Iterator[Any]:
    try:
        while True:
            while window.wants_more:
                _feed(handle, source, window, kwargs)
            placed = window.first()
            if placed is None:
                return
            try:
                result = placed.future.result()
            except (ChangeoverError, TypeError, ValueError) as err:
                yield from window.settle(err)
            else:
                window.settle()
                yield result
    finally:
        window.cancel()


def _feed(
    handle: PluginHandle, source: Iterator[Any], window: Window, kwargs: dict[str, Any]
) -> None:
    try:
        item = next(source)
    except StopIteration:
        window.end()
        return
    except Exception as err:  # noqa: BLE001 - the caller's own iterator: raised in its place
        window.end(err)
        return
    try:
        window.put(item, handle.start((item,), kwargs))
    except (ChangeoverError, TypeError, ValueError) as err:
        window.put_failed(item, err)


def patience(timeout_s: float | None) -> float | None:
    """How long a caller waits for an answer that has this deadline."""
    return None if timeout_s is None else timeout_s + _ANSWER_GRACE_S
