"""The asyncio twin: the same names, awaited.

It stands on the same connection, whose own thread reads; what arrives is handed to the loop.
Nothing here blocks the loop: writes never wait, room in the session is awaited.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from . import ask
from .aio_handle import AsyncPluginHandle
from .aio_watch import AsyncWatch
from .ask import Ask, Until
from .changeover import ANSWER_S, abandon
from .changes import Change, ChangeWatcher
from .connecting import CONNECT_TIMEOUT_S, open_child, open_socket
from .connection import RECONNECT_S, Connection
from .outcome import ChangeOutcome
from .spec import Source
from .watch import Event, Filter, WatchHub

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

    async def add(self, name: str, plugin: Source | Mapping[str, Any]) -> dict[str, Any]:
        """Load a plugin. Raises Refused if it fails."""
        return await self._wait(ask.add(name, plugin), None)

    async def remove(self, name: str) -> dict[str, Any]:
        """Finish a plugin's jobs and unload it."""
        return await self._wait(ask.remove(name), None)

    async def reload(
        self,
        name: str | None = None,
        new_callable: Callable[..., Any] | None = None,
        *,
        wait: Until | None = None,
        force: bool = False,
        dry_run: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - the supervisor keeps it
    ) -> ChangeOutcome:
        """Replace a plugin's release. Raises Refused."""
        asked = ask.reload(
            name, new_callable, force=force, dry_run=dry_run, wait=wait, timeout_s=timeout
        )
        return (await self._wait(asked, None))[0]
