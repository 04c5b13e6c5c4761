"""The asyncio twin: the same names, awaited.

It stands on the same connection, whose own thread reads; what arrives is handed to the loop.
Nothing here blocks the loop: writes never wait, room in the session is awaited.
"""

# ruff: noqa: ASYNC109 - a job's deadline, which the supervisor keeps

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from . import ask
from .aio_handle import AsyncPluginHandle, call_soon
from .aio_watch import AsyncWatch
from .ask import Ask, Until
from .changeover import ANSWER_S, abandon
from .changes import Change, ChangeWatcher
from .connecting import CONNECT_TIMEOUT_S, open_child, open_socket
from .connection import RECONNECT_S, Connection
from .outcome import ChangeOutcome
from .spec import Source
from .watch import Filter, WatchHub

T = TypeVar("T")


class AsyncChangeover:
    """See `Changeover`: the same methods, to be awaited in one event loop."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._hub = WatchHub(connection)
        self._changes: ChangeWatcher | None = None
        self._finalizer = weakref.finalize(self, abandon, connection)
        self._finalizer.atexit = False

    def __getitem__(self, plugin: str) -> AsyncPluginHandle:
        """The plugin of that name. Whether there is one shows when it is called."""
        return AsyncPluginHandle(self.connection, plugin, self)

    # `name in co` and `for name in co` would ask the supervisor, and cannot be awaited.
    __contains__ = None
    __iter__ = None

    async def add(self, name: str, plugin: Source | Mapping[str, Any]) -> dict[str, Any]:
        """Load a plugin. Raises Refused if it fails."""
        return await self._wait(ask.add(name, plugin), None)

    async def remove(self, name: str) -> dict[str, Any]:
        """Finish a plugin's jobs and unload it."""
        return await self._wait(ask.remove(name), None)

    async def reload(
        self,
        name: str,
        new_callable: Callable[..., Any] | None = None,
        *,
        wait: Until | None = None,
        force: bool = False,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> ChangeOutcome:
        """Replace a plugin's release. Raises Refused."""
        asked = ask.reload(
            name, new_callable, force=force, dry_run=dry_run, wait=wait, timeout_s=timeout
        )
        return (await self._wait(asked, None))[0]

    async def reload_changed(
        self, names: Iterable[str] = (), *, wait: Until | None = None, force: bool = False
    ) -> list[ChangeOutcome]:
        """Several at once; without names whatever changed, and the config."""
        asked = ask.reload(list(names), None, force=force, dry_run=False, wait=wait, timeout_s=None)
        return await self._wait(asked, None)

    async def rollback(
        self,
        name: str,
        *,
        to: str | int | None = None,
        dry_run: bool = False,
        wait: Until | None = None,
    ) -> ChangeOutcome:
        """Back to the release that the last cut replaced, or to `to`."""
        return await self._wait(ask.rollback(name, to=to, dry_run=dry_run, wait=wait), None)

    async def on_changeover(self, callback: Callable[[Change], None]) -> None:
        """Call `callback` in this loop whenever a plugin's traffic has gone elsewhere."""
        loop = asyncio.get_running_loop()
        if self._changes is None:
            self._changes = ChangeWatcher()
            await _answer(self._hub.join(self._changes), ANSWER_S)
        self._changes.callbacks.append(lambda change: call_soon(loop, callback, change))

    async def status(self, plugin: str | None = None, *, job: str | None = None) -> dict[str, Any]:
        """The `changeover.status/1` document."""
        return await self._wait(ask.status(plugin, job))

    async def jobs(self, plugin: str | None = None) -> list[dict[str, Any]]:
        """What runs and what is queued."""
        return await self._wait(ask.jobs(plugin))

    async def cancel(self, job: str, *, kill: bool = False) -> dict[str, Any]:
        """Cancel a job: `{job, state}`."""
        return await self._wait(ask.cancel(job, kill=kill))

    async def pause(self, plugin: str | None = None, *, reject: bool = False) -> dict[str, Any]:
        """What runs finishes, callers wait meanwhile."""
        return await self._wait(ask.pause(plugin, reject=reject))

    async def resume(self, plugin: str | None = None) -> dict[str, Any]:
        """Undo `pause`."""
        return await self._wait(ask.resume(plugin))

    async def history(
        self, plugin: str | None = None, *, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """The audit trail, oldest first."""
        return await self._wait(ask.history(plugin, limit))

    async def logs(
        self,
        plugin: str | None = None,
        *,
        job: str | None = None,
        limit: int | None = None,
        level: str | None = None,
    ) -> list[dict[str, Any]]:
        """Lines of the supervisor and the workers, oldest first."""
        return await self._wait(ask.logs(plugin, job, limit, level))

    async def watch(
        self, *topics: str, plugin: str | None = None, min_level: str | None = None
    ) -> AsyncWatch:
        """An async iterator over what happens."""
        watch = AsyncWatch(self._hub, frozenset(topics), Filter(plugin, min_level))
        await _answer(self._hub.join(watch), ANSWER_S)
        return watch

    async def request(self, method: str, *params: Any, timeout: float | None = ANSWER_S) -> Any:
        """Ask anything of the wire's method table."""
        return await _answer(self.connection.request(method, params), timeout)

    async def close(self, *, now: bool = False) -> None:
        """Finish what was sent (`now`: cancel it) and leave."""
        self._finalizer.detach()
        await asyncio.to_thread(self.connection.close, now=now)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close(now=error is not None)

    async def _wait(self, asked: Ask[T], timeout_s: float | None = ANSWER_S) -> T:
        reply = self.connection.request(asked.method, asked.params, asked.read)
        answer: T = await _answer(reply, timeout_s)
        return answer


class Opening:
    """What `aconnect` and `alaunch` return: await it, or enter it with `async with`."""

    def __init__(self, open_: Callable[[], Connection]) -> None:
        self._open = open_
        self._opened: AsyncChangeover | None = None

    def __await__(self) -> Generator[Any, None, AsyncChangeover]:
        return self._start().__await__()

    async def __aenter__(self) -> AsyncChangeover:
        self._opened = await self._start()
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._opened is not None
        await self._opened.close(now=error is not None)

    async def _start(self) -> AsyncChangeover:
        opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        try:
            return AsyncChangeover(await asyncio.shield(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise


def aconnect(
    path: str | None = None,
    *,
    timeout: float = CONNECT_TIMEOUT_S,
    reconnect: float = RECONNECT_S,
) -> Opening:
    """See `connect`: `async with aconnect() as co`, or `co = await aconnect()`."""
    return Opening(lambda: open_socket(path, timeout, reconnect))


def alaunch(plugins: Mapping[str, Source | Mapping[str, Any]], **supervisor: Any) -> Opening:
    """See `launch`."""
    return Opening(lambda: open_child(plugins, supervisor))


def _close_unwanted(opening: asyncio.Task[Connection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().abandon(0.0)


async def _answer(reply: Any, timeout_s: float | None) -> Any:
    async with asyncio.timeout(timeout_s):
        return await asyncio.wrap_future(reply)
