"""A plugin as a `concurrent.futures.Executor`, for code that takes one."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any

from .future import JobFuture
from .handle import PluginHandle


class PluginExecutor(concurrent.futures.Executor):
    """`submit(method or None, *args, **kwargs)` and `map(method or None, *iterables)`.

    Shutting it down ends this executor, not the plugin and not the connection.
    """

    def __init__(self, handle: PluginHandle) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._under_way: set[JobFuture] = set()
        self._is_shut_down = False

    def submit(  # type: ignore[override]  # the function is the plugin: only its method has a name
        self, method: str | None, /, *args: Any, **kwargs: Any
    ) -> JobFuture:
        """Start one job on the plugin's method (None: its default). All keywords are the job's."""
        if method is not None and not isinstance(method, str):
            raise TypeError(
                f"submit takes a method's name or None, not {method!r}: the plugin is the function"
            )
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot submit after shutdown")
        handle = self._handle if method is None else self._handle.method(method)
        future = handle.start(args, kwargs)
        with self._lock:
            self._under_way.add(future)
        future.add_done_callback(self._forget)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; with `cancel_futures` cancel what is under way; wait for it."""
        with self._lock:
            self._is_shut_down = True
            left = set(self._under_way)
        if cancel_futures:
            for future in left:
                future.cancel_soon()
        if wait:
            concurrent.futures.wait(left)

    def _forget(self, future: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            self._under_way.discard(future)
