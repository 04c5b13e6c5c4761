"""The store as the shell has it: what the core orders staged, what is proven, what is kept.

All of it happens in the one helper thread. Decides nothing about changeovers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import orders as o
from .changeover import Changeover
from .digest import TICK_NS, Keys
from .generation import Generation
from .source import SourceSet
from .staged import Staged, StageError
from .store import Store

if TYPE_CHECKING:
    from .shell import Listener, Shell

T = TypeVar("T")

# Nobody has just said that the source is ready: it must have come to rest.
BY_ITSELF = ("file", "schedule")
ATTEMPTS = 20  # each `settle` long, at a source that does not rest


class Staging:
    """Stages releases for changes, proves and retains them."""

    def __init__(self, shell: Shell, store: Store, listener: Listener) -> None:
        self.known: dict[str, Staged] = {}  # by digest
        self._shell = shell
        self._store = store
        self._listener = listener
        self._under_way = 0  # of which the core does not know the digest yet
        self._retain_is_due = False

    # -- STAGE

    def begin(self, order: o.Stage) -> None:
        """Bring the content of a change into the store."""
        self._shell.later(self._stage(order.change))

    async def _stage(self, change: Changeover) -> None:
        shell, source = self._shell, SourceSet.of(change.spec)
        self._under_way += 1
        try:
            staged = await self._staged(change, source)
        except StageError as error:
            shell.core.stage_failed(shell.now(), change, error.message, luck=error.bad_luck)
        except Exception as error:  # a bug of ours must not leave the change and its caller waiting
            shell.core.stage_failed(
                shell.now(), change, f"internal error: {error!r}; the log has more", luck=True
            )
            shell.act()
            raise
        else:
            self.known[staged.digest] = staged
            shell.core.staged(
                shell.now(), change, digest=staged.digest, hash_=staged.hash,
                path=str(staged.path), shown=source.shown,
            )  # fmt: skip
        finally:
            self._under_way -= 1
        shell.act()
        if self._retain_is_due:
            self.retain()

    async def _staged(self, change: Changeover, source: SourceSet) -> Staged:
        refusal = await self._shell.crew.refusal(change.spec)
        if refusal:
            raise StageError(refusal, bad_luck=False)
        if change.target is not None:
            return await self._do(self._store.find, change.target.digest, source)
        if change.reason in BY_ITSELF:
            return await self._staged_at_rest(source)
        return await self._do(self._store.stage, source, breathe=self._shell.files.breathe)

    async def _staged_at_rest(self, source: SourceSet) -> Staged:
        """A writer may have begun since the watcher looked, or a schedule met one in the middle."""
        settle_s = max(self._shell.core.desk.spec.settle_s, 2 * TICK_NS / 1e9)
        before: Staged | None = None
        for _ in range(ATTEMPTS):
            staged = await self._do(self._store.stage, source, breathe=self._shell.files.breathe)
            left_s = settle_s - _rested_s(staged.keys)
            if left_s <= 0 or not source.path or (before is not None and staged == before):
                return staged
            before = staged
            await asyncio.sleep(min(left_s, settle_s))
        text = f"{source.shown} is still being written\n  when that has ended it is tried again"
        raise StageError(text, bad_luck=True)

    async def peek(self, source: SourceSet) -> str:
        """The digest of what the source holds now; nothing is staged. Raises StageError."""
        return (await self._do(self._store.peek, source, breathe=self._shell.files.breathe)).digest

    async def _do(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        files = self._shell.files
        return await self._shell.loop.run_in_executor(files, partial(work, *args, **options))

    # -- what is there already

    def root(self, digest: str) -> Path:
        """The folder in the store that holds this release and nothing else."""
        return self._store.path(digest)

    async def prove(self, generation: Generation) -> None:
        """See that its bytes in the store are still what was approved; mend them if need be.

        Raises StageError when they are not, and the source has others by now.
        """
        source, digest = SourceSet.of(generation.spec), generation.release.digest
        if await self._do(self._mend_now, source, digest):
            text = f"{generation.release} was harmed in the store; made again from its source"
            self._listener.narrate("warning", generation.spec.name, text)

    def _mend_now(self, source: SourceSet, digest: str) -> bool:
        try:
            self._store.find(digest, source)
        except StageError as error:
            if error.bad_luck or not self._is_made_again(source, digest):
                raise
            return True
        return False

    def _is_made_again(self, source: SourceSet, digest: str) -> bool:
        try:
            return self._store.stage(source, breathe=self._shell.files.breathe).digest == digest
        except StageError:  # the source is gone: the harm is the news
            return False

    def retain(self) -> None:
        """Delete from the store what nobody may need again.

        Not while something is being staged: it would be deleted as soon as it is there.
        """
        self._retain_is_due = self._under_way > 0
        if self._retain_is_due:
            return
        keep: set[str] = set()
        newest: list[str] = []
        core = self._shell.core
        for plugin in core.plugins.values():
            keep |= {g.release.digest for g in plugin.generations.values()}
            keep |= {c.release.digest for c in (plugin.change, plugin.pending) if c and c.release}
            keep |= {*plugin.served[-2:], *plugin.approved[-1:]}
            by_age = sorted(plugin.releases.values(), key=lambda r: -r.number)
            newest += [r.digest for r in by_age[: core.desk.spec.keep_releases]]
        self.known = {name: self.known[name] for name in self.known.keys() & {*keep, *newest}}
        self._shell.loop.run_in_executor(self._shell.files, self._retain_now, keep, newest)

    def _retain_now(self, keep: set[str], newest: list[str]) -> None:
        try:
            self._store.retain(keep, newest, len(newest))
        except StageError as error:
            say = self._shell.loop.call_soon_threadsafe
            say(self._listener.narrate, "warning", "", error.message)


def _rested_s(keys: Keys) -> float:
    """Since when the files have not been changed; of a time to come nothing is known."""
    newest_ns = max((key[-1] for key in keys), default=time.time_ns())
    return max(0.0, (time.time_ns() - newest_ns) / 1e9)
