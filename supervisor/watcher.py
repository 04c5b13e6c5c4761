"""Watches the sources of all plugins and reports each new content once, when it is at rest.

The truth is the state and the bytes of the files, looked at in the caller's helper thread; events
only say when to look, and a slow sweep looks anyway. Decides nothing about plugins: whether a
candidate is loaded is the core's business.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Literal

from .digest import Breathe, Fingerprint, Keys, Torn, go_on
from .hints import Hints
from .look import Folder, look_all
from .settling import Candidate, Settling, Trouble
from .source import SourceSet

Mode = Literal["auto", "poll", "off"]


@dataclass(slots=True, eq=False)
class _Watched:
    name: str
    source: SourceSet
    settling: Settling
    folders: frozenset[Folder] = frozenset()
    is_hinted: bool = True
    is_busy: bool = field(default=False)


class Watcher:
    """All watched plugins of one supervisor."""

    def __init__(
        self,
        *,
        settle_s: float,
        mode: Mode,
        executor: Executor,
        on_candidate: Callable[[str, Fingerprint], None],
        on_note: Callable[[str, str], None],
        breathe: Breathe = go_on,
        sweep_s: float = 2.0,
    ) -> None:
        """`executor` runs the looks (one helper thread); the callbacks run on the loop.

        `on_note(plugin name, words)` tells what an operator should know: a source that stays
        missing or unreadable (once), and, with "" for the name, that events do not work here.
        """
        self._settle_s = settle_s
        self._mode = mode
        self._executor = executor
        self._on_candidate = on_candidate
        self._on_note = on_note
        self._caller_breathe = breathe
        self._poll_s = min(max(settle_s, 0.1), 1.0)
        self._sweep_s = self._poll_s if mode == "poll" else sweep_s
        self._watched: dict[str, _Watched] = {}
        self._wake = asyncio.Event()
        self._next_sweep = 0.0
        self._hints = Hints(self._on_hint, self._on_failure)
        self._has_events = mode == "auto"
        self._hinted_folders: frozenset[Folder] = frozenset()
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    def watch(
        self, name: str, source: SourceSet, known: Fingerprint | None = None, keys: Keys = ()
    ) -> None:
        """Report when `source` holds something else than `known` (what runs, or was refused).

        `keys`: of the `Staged` that `known` comes from; then nothing is read until it changes.
        """
        if self._mode == "off" or not source.path:
            return
        settling = Settling(settle_s=self._settle_s, known=known, keys=keys)
        self._watched[name] = _Watched(name, source, settling)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(_reveal)
        self._wake.set()

    def unwatch(self, name: str) -> None:
        """Forget a plugin; what is being read of it is reported no more."""
        if self._watched.pop(name, None) is not None:
            self._aim_hints()

    async def close(self) -> None:
        """Stop watching; returns when no thread of ours is left."""
        self._is_closed = True
        self._watched.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._hints.close()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as looks:
            while True:
                await self._until_due()
                for batch in self._due_batches(asyncio.get_running_loop().time()):
                    looks.create_task(self._look(batch))

    async def _until_due(self) -> None:
        times = [w.settling.look_at for w in self._watched.values() if not w.is_busy]
        next_look = min((at for at in times if at is not None), default=self._next_sweep)
        try:
            async with asyncio.timeout_at(min(next_look, self._next_sweep)):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _due_batches(self, now: float) -> list[list[_Watched]]:
        """Readings one by one, they may be long; all others together, in one hop."""
        is_sweep = now >= self._next_sweep
        if is_sweep:
            self._next_sweep = now + self._sweep_s
        reads: list[list[_Watched]] = []
        looks: list[_Watched] = []
        for watched in self._watched.values():
            if watched.is_busy:
                continue
            if watched.settling.is_reading_due(now):
                reads.append([watched])
            elif is_sweep or _is_due(watched, now):
                looks.append(watched)
        return [*reads, looks] if looks else reads

    async def _look(self, batch: list[_Watched]) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        tasks = [(w.source, w.settling.trusted, w.settling.is_reading_due(now)) for w in batch]
        for watched in batch:
            watched.is_busy, watched.is_hinted = True, False
        found = await loop.run_in_executor(self._executor, look_all, tasks, self._breathe)
        for watched, look in zip(batch, found, strict=True):
            watched.is_busy = False
            if self._watched.get(watched.name) is watched:
                watched.folders = look.folders or watched.folders
                self._report(watched, watched.settling.saw(loop.time(), look.sight))
        self._aim_hints()
        self._wake.set()

    def _report(self, watched: _Watched, news: Candidate | Trouble | None) -> None:
        match news:
            case Candidate(fingerprint=fingerprint):
                self._on_candidate(watched.name, fingerprint)
            case Trouble(message=message):
                self._on_note(watched.name, message)

    def _aim_hints(self) -> None:
        folders = frozenset[Folder]().union(*(w.folders for w in self._watched.values()))
        if self._has_events and folders != self._hinted_folders:
            self._hinted_folders = folders
            self._hints.follow({path for path, _, _ in folders})

    def _breathe(self) -> None:
        if self._is_closed:
            raise Torn("")  # nobody waits for the rest of what is being read
        self._caller_breathe()

    def _on_hint(self, changed: set[str]) -> None:
        if any(path in changed for path, _, _ in self._hinted_folders):
            # A folder itself changed. If it was made anew, its events are not ours any more, and
            # the inode number may well be the old one: aim again whatever it looks like.
            self._hinted_folders = frozenset()
        folders = changed | {os.path.dirname(path) for path in changed}
        for watched in self._watched.values():
            if not changed or any(path in folders for path, _, _ in watched.folders):
                watched.is_hinted = True
        self._wake.set()

    def _on_failure(self, reason: str) -> None:
        self._has_events, self._sweep_s, self._next_sweep = False, self._poll_s, 0.0
        self._on_note(
            "",
            f"file events do not work here: {reason}\n"
            f"  changes are found by looking every {self._poll_s:g} s instead; "
            "for events raise fs.inotify.max_user_watches and max_user_instances",
        )
        self._wake.set()


def _is_due(watched: _Watched, now: float) -> bool:
    at = watched.settling.look_at
    return watched.is_hinted or (at is not None and now >= at)


def _reveal(task: asyncio.Task[None]) -> None:
    """A watcher that ended by a mistake of ours must not go unseen."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": "the watcher ended", "exception": error})
