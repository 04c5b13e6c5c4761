"""What a supervisor tells those who watch.

Each topic is asked for once per connection, however many watch: the wire has no way to stop a
watch, and a second one would double every notification. Who wants less is served less here.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from .call import Reply

if TYPE_CHECKING:
    from .connection import Connection

LEVELS = ("debug", "info", "warning", "error")
_TOPICS = {
    "plugin_changed": "plugins",
    "change_phase": "plugins",
    "worker_changed": "workers",
    "log_line": "log",
    "stats_tick": "stats",
}
_UNREAD = 10_000


class Event(NamedTuple):
    """One notification: `kind` is its method (`plugin_changed`), `params` as it travels."""

    kind: str
    params: list[Any]


class Watcher(Protocol):
    """Who is told, from the thread that reads."""

    topics: frozenset[str]

    def begin(self, snapshot: dict[str, Any]) -> None:
        """How things are now (again, after the supervisor restarted); what follows is later."""

    def take(self, event: Event) -> None:
        """One event of the topics, or `lagged`: some were dropped."""

    def end(self) -> None:
        """The connection is over."""


class WatchHub:
    """Hands the notifications of one connection to its watchers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._watchers: list[Watcher] = []
        self._asked: frozenset[str] = frozenset()
        connection.session.listen(self._take)
        connection.on_resumed(self._resume)

    def join(self, watcher: Watcher) -> Reply:
        """Begin to tell `watcher`; the reply is there once it has its snapshot."""

        def begin(answer: dict[str, Any]) -> None:
            watcher.begin(answer["snapshot"])
            self._watchers = [*self._watchers, watcher]

        news = watcher.topics - self._asked
        self._asked |= news
        return self._ask(news, begin)

    def leave(self, watcher: Watcher) -> None:
        """Tell it no more."""
        self._watchers = [known for known in self._watchers if known is not watcher]

    def _ask(self, topics: frozenset[str], begin: Any) -> Reply:
        options = {"min_level": LEVELS[0]} if "log" in topics else {}
        return self._connection.request("watch", [sorted(topics), options], begin)

    def _resume(self) -> None:
        if self._watchers:
            self._ask(self._asked, self._begin_again)

    def _begin_again(self, answer: dict[str, Any]) -> None:
        for watcher in self._watchers:
            watcher.begin(answer["snapshot"])

    def _take(self, method: str, params: list[Any]) -> None:
        if method == "":
            for watcher in self._watchers:
                watcher.end()
            return
        topic = _TOPICS.get(method)
        for watcher in self._watchers:
            if topic in watcher.topics or method == "lagged":
                watcher.take(Event(method, params))


class Filter:
    """What one watch wants of its topics."""

    def __init__(self, plugin: str | None, min_level: str | None) -> None:
        if min_level is not None and min_level not in LEVELS:
            raise ValueError(f"min_level must be one of {', '.join(LEVELS)}, not {min_level!r}")
        self._plugin = plugin
        self._levels = LEVELS[LEVELS.index(min_level or "info") :]

    def wants(self, event: Event) -> bool:
        """Is this event for the one who asked?"""
        if event.kind == "log_line" and event.params[1] not in self._levels:
            return False
        return self._plugin is None or self._plugin == _plugin_of(event)


def _plugin_of(event: Event) -> str | None:
    if event.kind == "worker_changed":
        plugin: str | None = event.params[1].get("plugin")
        return plugin
    return event.params[0] if isinstance(event.params[0], str) else None


class Watch(Iterator[Event]):
    """An iterator over events as they come; `snapshot` is the status document they go on from."""

    def __init__(self, hub: WatchHub, topics: frozenset[str], chosen: Filter) -> None:
        self.snapshot: dict[str, Any] = {}
        self.topics = topics
        self.dropped = 0  # events that nobody took in time
        self._hub = hub
        self._filter = chosen
        self._arrived: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._is_open = True

    def __next__(self) -> Event:
        event = self._arrived.get() if self._is_open else None
        if event is None:
            self._is_open = False
            raise StopIteration
        return event

    def close(self) -> None:
        """Take no more; a thread that waits in `next` is released."""
        self._hub.leave(self)
        self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self, snapshot: dict[str, Any]) -> None:
        """How things are now."""
        self.snapshot = snapshot

    def take(self, event: Event) -> None:
        """One event."""
        if not self._filter.wants(event):
            return
        if self._arrived.qsize() < _UNREAD:
            self._arrived.put(event)
        else:
            self.dropped += 1

    def end(self) -> None:
        """There will be no more."""
        self._arrived.put(None)
