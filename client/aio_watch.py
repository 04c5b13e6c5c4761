"""Watching, as a coroutine does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from .aio_handle import call_soon
from .watch import Event, Filter, WatchHub


class AsyncWatch(AsyncIterator[Event]):
    """See `Watch`: an async iterator over events, with `snapshot` and `close()`."""

    def __init__(self, hub: WatchHub, topics: frozenset[str], chosen: Filter) -> None:
        self.snapshot: dict[str, Any] = {}
        self.topics = topics
        self._hub = hub
        self._filter = chosen
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[Event | None] = asyncio.Queue()

    async def __anext__(self) -> Event:
        event = await self._arrived.get()
        if event is None:
            self._arrived.put_nowait(None)
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """Take no more."""
        self._hub.leave(self)
        self.end()

    def begin(self, snapshot: dict[str, Any]) -> None:
        """How things are now."""
        self.snapshot = snapshot

    def take(self, event: Event) -> None:
        """One event, from the thread that reads."""
        if self._filter.wants(event):
            call_soon(self._loop, self._arrived.put_nowait, event)

    def end(self) -> None:
        """There will be no more."""
        call_soon(self._loop, self._arrived.put_nowait, None)
