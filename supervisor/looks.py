"""The periodic look at the plugins that have limits: measures, and tells the core.

Only while there are such plugins, and memory only of those that limit it. It decides nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .plugin import Plugin
from .spec import PluginSpec
from .usage import memory_of

if TYPE_CHECKING:
    from .shell import Shell

LOOK_S = 1.0


class Looks:
    """One look a second at all of them."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def arm(self) -> None:
        """There may be limits now."""
        is_on = self._timer is not None or self._task is not None
        if not is_on and self._limited():
            self._timer = self._shell.loop.call_later(LOOK_S, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._task = self._shell.later(self._look())
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            self.arm()

    async def _look(self) -> None:
        """In a thread: a machine may have thousands of processes to go through."""
        shell, limited = self._shell, self._limited()
        pids = {name: _pids(plugin) for name, plugin in limited.items()}
        known = [pid for of_one in pids.values() for pid in of_one.values()]
        taken = await shell.loop.run_in_executor(None, memory_of, known) if known else {}
        for name, of_one in pids.items():
            memory = {worker: taken[pid] for worker, pid in of_one.items() if pid in taken}
            shell.core.measured(shell.now(), name, memory)
        shell.act()

    def _limited(self) -> dict[str, Plugin]:
        plugins = self._shell.core.plugins
        return {name: plugin for name, plugin in plugins.items() if _has_limits(plugin.spec)}

    def close(self) -> None:
        """Look at nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()


def _has_limits(spec: PluginSpec) -> bool:
    limits = (spec.max_jobs, spec.max_age_s, spec.max_rss_bytes, spec.memory_bytes)
    return any(limit is not None for limit in limits)


def _pids(plugin: Plugin) -> dict[str, int]:
    """By worker, where memory is limited."""
    if plugin.spec.max_rss_bytes is None and plugin.spec.memory_bytes is None:
        return {}
    return {
        worker.id: worker.pid
        for generation in plugin.generations.values()
        for worker in generation.workers.values()
        if worker.pid
    }
