"""The history beside the loop: written and read in the helper thread, replayed once at start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .chain import HistoryError
from .history import History
from .past import Past


class Chronicle:
    """`on_error` is told, on the loop, when an entry is not on disk."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        files: Executor,
        path: Path,
        on_error: Callable[[str], None],
    ) -> None:
        """Raises HistoryError when the history cannot be had."""
        self._loop = loop
        self._files = files
        self._history = History(path, time=_now())
        self._on_error = on_error
        self.past = Past(self._history.replay())

    @property
    def notes(self) -> list[str]:
        """What had to be repaired, in words for the operator."""
        return self._history.notes

    def record(self, entry: dict[str, Any]) -> None:
        """Append, in the order of the calls."""
        self._loop.run_in_executor(self._files, self._append, entry, _now())

    def _append(self, entry: dict[str, Any], when: str) -> None:
        try:
            self._history.append(entry, time=when)
        except HistoryError as error:
            self._loop.call_soon_threadsafe(self._on_error, str(error))

    async def written(self) -> None:
        """All that was recorded so far is in the file, or `on_error` was told why not."""
        await self._loop.run_in_executor(self._files, _nothing)

    async def read(self, plugin: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest entries, oldest first."""
        tail = self._history.tail
        entries = await self._loop.run_in_executor(self._files, tail, limit, plugin)
        return [dict(entry) for entry in entries]

    async def verify(self) -> dict[str, Any]:
        """Is the chain whole?"""
        found = await self._loop.run_in_executor(self._files, self._history.verify)
        return {
            "ok": found.is_ok,
            "lines": found.lines,
            "bad_line": found.bad_line,
            "reason": found.reason,
        }

    def close(self) -> None:
        """Once the helper thread has ended."""
        self._history.close()


def _nothing() -> None:
    """Its turn comes after all earlier lines."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
