"""Hints that something changed in a folder: watchfiles in a thread of its own. Never the truth.

Hints may come late, twice, for nothing or not at all. The thread only wakes the loop; it reads no
file of a plugin and knows none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Collection

from watchfiles import watch

# What the watching thread waits between two looks at its queue, and the longest that a stream of
# events is gathered before it is passed on.
_STEP_MS = 50
_GATHER_MS = 100
_END_S = 5.0
_TRIES = 5


class Hints:
    """Watches a set of folders (not what is below them), replaced as a whole by `follow`."""

    def __init__(self, on_hint: Callable[[set[str]], None], on_failure: Callable[[str], None]):
        """`on_hint(changed paths)`; an empty set: anything may have changed. On the loop."""
        self._on_hint = on_hint
        self._on_failure = on_failure
        self._current: _Watch | None = None
        self._ending: set[_Watch] = set()

    def follow(self, folders: Collection[str]) -> None:
        """Watch these folders from now on; the hint that it has begun is an empty set."""
        self._stop_current()
        if folders:
            self._current = _Watch(sorted(folders), self._hear)

    async def close(self) -> None:
        """Stop, and wait until no thread is left (a step, 50 ms)."""
        self._stop_current()
        for ending in tuple(self._ending):
            async with asyncio.timeout(_END_S):
                await ending.ended.wait()
            ending.thread.join(_END_S)

    def _stop_current(self) -> None:
        if self._current is not None:
            self._current.is_stopped = True
            self._ending.add(self._current)
            self._current = None

    def _hear(self, watcher: _Watch, heard: set[str] | str | None) -> None:
        if heard is None:
            self._ending.discard(watcher)
            watcher.ended.set()
        elif watcher is self._current and isinstance(heard, str):
            self._on_failure(heard)
        elif watcher is self._current and not isinstance(heard, str):
            self._on_hint(heard)


class _Watch:
    """One run of watchfiles. It is its own stop event, which Rust asks at every step."""

    def __init__(
        self, folders: list[str], hear: Callable[[_Watch, set[str] | str | None], None]
    ) -> None:
        self.is_stopped = False
        self.ended = asyncio.Event()
        self._has_begun = False
        self._folders = folders
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self.thread = threading.Thread(target=self._run, name="changeover-hints", daemon=True)
        self.thread.start()

    def is_set(self) -> bool:
        if not self._has_begun:
            # Asked for the first time: the folders are being watched. What changed before that
            # made no event, so everybody has to look once.
            self._has_begun = True
            self._tell(set())
        return self.is_stopped

    def _run(self) -> None:
        try:
            self._watch_what_is_there()
        except (OSError, RuntimeError) as error:
            self._tell(str(error))
        self._tell(None)

    def _watch_what_is_there(self) -> None:
        """A folder may go at any time; the others are watched all the same."""
        for tries in range(1, _TRIES + 1):
            folders = [folder for folder in self._folders if os.path.isdir(folder)]
            try:
                if folders:
                    self._watch(folders)
                break
            except FileNotFoundError:
                if tries == _TRIES:
                    raise

    def _watch(self, folders: list[str]) -> None:
        for changes in watch(
            *folders,
            watch_filter=None,
            debounce=_GATHER_MS,
            step=_STEP_MS,
            stop_event=self,
            rust_timeout=0,
            raise_interrupt=False,
            force_polling=False,
            recursive=False,
            ignore_permission_denied=True,
        ):
            self._tell({path for _, path in changes})

    def _tell(self, heard: set[str] | str | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._hear, self, heard)
