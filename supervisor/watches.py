"""Who watches what. Notifications carry `seq`, so that snapshot and stream join without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..protocol.errors import Code, Fault
from .log_ring import LEVELS

if TYPE_CHECKING:
    from .session import Session

STATS_S = 1.0
WATCHES = 64  # of one session: each costs something at every event


@dataclass(frozen=True, slots=True)
class _Watch:
    number: int
    session: Session
    topics: frozenset[str]
    plugin: str | None
    min_level: str

    def wants(self, topic: str, plugin: str) -> bool:
        return topic in self.topics and self.plugin in (None, plugin)


class Watches:
    """The watches of all sessions."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, stats: Callable[[], dict[str, Any]]
    ) -> None:
        self._loop = loop
        self._stats = stats
        self._watches: list[_Watch] = []
        self._count = 0
        self._ticking: asyncio.TimerHandle | None = None

    @property
    def has_any(self) -> bool:
        """Does anybody watch anything?"""
        return bool(self._watches)

    def add(
        self, session: Session, topics: frozenset[str], plugin: str | None, min_level: str
    ) -> int:
        """Begin a watch; its number. Raises Fault INVALID_PARAMS beyond `WATCHES`."""
        if sum(watch.session is session for watch in self._watches) >= WATCHES:
            raise Fault.new(Code.INVALID_PARAMS, f"{WATCHES} watches in one session")
        self._count += 1
        self._watches.append(_Watch(self._count, session, topics, plugin, min_level))
        if "stats" in topics and self._ticking is None:
            self._ticking = self._loop.call_later(STATS_S, self._tick)
        return self._count

    def forget(self, session: Session) -> None:
        """The session has ended."""
        self._watches = [watch for watch in self._watches if watch.session is not session]

    def tell(self, topic: str, plugin: str, method: str, params: list[Any]) -> None:
        """Notify everyone who watches this."""
        for watch in self._watches:
            if watch.wants(topic, plugin):
                watch.session.notify_watch(watch.number, method, params)

    def tell_log(self, plugin: str, level: str, message: str, fields: dict[str, Any]) -> None:
        """A log line, to whoever wants lines of this level."""
        for watch in self._watches:
            if watch.wants("log", plugin) and LEVELS.index(level) >= LEVELS.index(watch.min_level):
                params = [plugin, level, message, fields]
                watch.session.notify_watch(watch.number, "log_line", params)

    def _tick(self) -> None:
        self._ticking = None
        watching = [watch for watch in self._watches if "stats" in watch.topics]
        if not watching:
            return
        stats = self._stats()
        for watch in watching:
            watch.session.notify_watch(watch.number, "stats_tick", [stats])
        self._ticking = self._loop.call_later(STATS_S, self._tick)

    def close(self) -> None:
        """Nobody is told any more."""
        self._watches.clear()
        if self._ticking is not None:
            self._ticking.cancel()
