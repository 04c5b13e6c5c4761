"""The end of a plugin or of all of them: finish what was accepted, then let the workers go.

Level-triggered: `look` is called after every fact, so that nothing can be missed.
"""

from __future__ import annotations

from contextlib import suppress

from ..protocol.errors import Code, Fault
from .changes import Changes
from .desk import Desk
from .fleet import Fleet
from .outcomes import Outcomes
from .plugin import Plugin
from .registry import NotFound
from .rollbacks import Rollbacks
from .states import Gate


class Closing:
    """`remove` and `stop`."""

    def __init__(
        self, desk: Desk, outcomes: Outcomes, fleet: Fleet, changes: Changes, rollbacks: Rollbacks
    ) -> None:
        self._desk = desk
        self._outcomes = outcomes
        self._fleet = fleet
        self._changes = changes
        self._rollbacks = rollbacks
        self._is_on = False

    def remove(self, plugin: Plugin) -> None:
        """Accept nothing more for this plugin."""
        self._is_on = plugin.is_closing = True
        self._desk.show_plugin(plugin, "remove")

    def stop(self, *, at_once: bool) -> None:
        """Accept nothing more; with `at_once` nothing is finished either."""
        self._is_on = self._desk.is_stopping = True
        if not at_once:
            return
        self._desk.has_no_time = True
        for plugin in list(self._desk.plugins.values()):
            self._changes.abandon(plugin, at_once=True)
            for generation in list(plugin.generations.values()):
                for worker in [*generation.workers.values(), *generation.leaving]:
                    self._fleet.ladder.kill_at_once(worker, "stop")

    def look(self) -> None:
        """See to every plugin that is closing."""
        if self._is_on:
            for plugin in list(self._desk.plugins.values()):
                if plugin.is_closing or self._desk.is_stopping:
                    self._close(plugin)
            self._is_on = self._desk.is_stopping or any(
                plugin.is_closing for plugin in self._desk.plugins.values()
            )

    def _close(self, plugin: Plugin) -> None:
        if plugin.retry is not None:
            plugin.retry.cancel()
            plugin.retry = None
        self._changes.abandon(plugin, at_once=self._desk.has_no_time)
        if self._will_never_run(plugin):
            fault = Fault.new(Code.STOPPING, f"{plugin.name} is stopping", plugin=plugin.name)
            self._outcomes.refuse_waiting(plugin, fault)
        if plugin.jobs or plugin.change is not None:
            return
        self._stop_workers(plugin)
        if not plugin.generations or not any(g.is_alive for g in plugin.generations.values()):
            self._forget(plugin)

    def _will_never_run(self, plugin: Plugin) -> bool:
        nobody_comes = plugin.live is None and plugin.change is None
        return self._desk.has_no_time or plugin.gate is Gate.SHUT or nobody_comes

    def _stop_workers(self, plugin: Plugin) -> None:
        if plugin.watch is not None:
            watch, plugin.watch = plugin.watch, None
            self._rollbacks.end_watch(watch.change)
        for generation in list(plugin.generations.values()):
            for worker in list(generation.workers.values()):
                self._fleet.ladder.stop(worker, "stop")

    def _forget(self, plugin: Plugin) -> None:
        plugin.live = None
        plugin.generations.clear()
        if plugin.is_closing:
            del self._desk.plugins[plugin.name]
            self._desk.show_plugin(plugin, "removed")
            with suppress(NotFound):
                self._desk.registry.unload_plugin(plugin.name)
