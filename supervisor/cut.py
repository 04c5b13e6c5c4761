"""CUT, PARK and RETIRE: the queue points at the new workers, and what becomes of the old ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .changeover import Changeover
from .desk import Desk
from .entries import entry
from .fleet import Fleet
from .generation import Generation, plugin_version
from .orders import Record
from .plugin import Plugin
from .releases import served_after
from .routing import Routing
from .states import WorkerState


class Cut:
    """The work of these steps."""

    def __init__(self, desk: Desk, routing: Routing, fleet: Fleet) -> None:
        self._desk = desk
        self._routing = routing
        self._fleet = fleet
        self.on_cut: Callable[[Plugin, Changeover], None] = lambda *_: None  # set by the core

    def cut(self, plugin: Plugin, change: Changeover) -> bool:
        """One assignment: the queue points at the new workers."""
        new, old = change.new, change.old
        assert new is not None
        if change.drain is None:
            change.lost_before = plugin.counts.lost
        if old is not None:
            self._stop_routing(old)
        plugin.live = new
        plugin.served = served_after(
            plugin.served, new.release.digest, is_way_back=change.undoes is not None
        )
        change.stop_timer()
        self._register(plugin, change, new)
        self.on_cut(plugin, change)
        plugin.forget_dead()
        plugin.release()
        self._fleet.fill(new)
        self._routing.dispatch(plugin)
        return True

    def _stop_routing(self, old: Generation) -> None:
        starting = [w for w in old.workers.values() if w.state is not WorkerState.READY]
        self._fleet.ladder.kill_all(starting, "retire")
        for worker in old.workers.values():
            worker.turn("drain")

    def _register(self, plugin: Plugin, change: Changeover, new: Generation) -> None:
        """The registry learns it after success only."""
        release = replace(new.release, version=new.loaded.version)
        new.release = change.release = plugin.releases[release.digest] = release
        new.loaded_at = self._desk.now
        version = plugin_version(plugin.name, new, self._desk.wall(new.loaded_at))
        registry = self._desk.registry
        if plugin.name in registry.loaded_plugins:
            registry.reload_plugin(plugin.name, version)
            registry.update_hash(plugin.name, release.hash, release.digest)
        else:
            registry.register_loaded(version)
            registry.watch(plugin.name, release.shown, release.hash, release.digest)
        if change.reason == "rollback" and change.old is not None:
            plugin.held.add(change.old.release.digest)
        plugin.held.discard(release.digest)
        plugin.failure = ""
        self._desk.give(Record(entry(plugin, change, "cut")))

    # -- PARK, RETIRE

    def park(self, plugin: Plugin, change: Changeover) -> bool:
        """The old workers stay, idle and warm, while the new release is watched."""
        old = change.old
        if old is None:
            return True
        change.parked = old
        if self._may_return(plugin, change):
            for worker in old.workers.values():
                worker.turn("return")
        else:
            self.retire_parked(change)
        return True

    def _may_return(self, plugin: Plugin, change: Changeover) -> bool:
        """Not to workers that were at their limit, nor to what was left because it was bad."""
        is_watched = plugin.watch is not None and plugin.watch.change is change
        is_worse = change.undoes is not None or change.reason == "recycle"
        return is_watched and plugin.spec.rollback_keep != "staged" and not is_worse

    def retire_parked(self, change: Changeover) -> None:
        """Stop the workers that the cut replaced."""
        parked, change.parked = change.parked, None
        if parked is not None:
            for worker in list(parked.workers.values()):
                self._fleet.ladder.stop(worker, "retire")
