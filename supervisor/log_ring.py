"""The log lines that `changeover logs` can show: the newest, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")
_ENTRY_BYTES = 200  # an entry beside its texts, roughly


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line. `time` is Unix time; `plugin`, `worker`, `job` are "" where nobody knows."""

    time: float
    level: Level
    message: str
    plugin: str = ""
    worker: str = ""
    job: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """About what it costs to keep."""
        return _ENTRY_BYTES + len(self.message) + sum(len(str(v)) for v in self.fields.values())


class LogRing:
    """Keeps the newest entries, whichever bound is reached first."""

    def __init__(self, entries: int = 10_000, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._limit = entries
        self._max_bytes = max_bytes
        self._entries: deque[LogEntry] = deque()
        self._bytes = 0

    def add(self, entry: LogEntry) -> None:
        """Append, and forget the oldest as needed."""
        self._entries.append(entry)
        self._bytes += entry.size_bytes
        while len(self._entries) > self._limit or self._bytes > self._max_bytes:
            self._bytes -= self._entries.popleft().size_bytes

    def tail(
        self, n: int, *, plugin: str = "", job: str = "", level: Level = "debug"
    ) -> list[LogEntry]:
        """The last `n` that match, oldest first. `level` is the lowest to show."""
        shown = LEVELS[LEVELS.index(level) :]
        matching = (
            entry
            for entry in reversed(self._entries)
            if entry.level in shown and plugin in ("", entry.plugin) and job in ("", entry.job)
        )
        return [*islice(matching, n)][::-1]
