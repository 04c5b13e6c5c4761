"""What is loaded, what is watched and when a schedule is due: the registry of the core.

This is the seed's `HotReloadManager` made real. It reads no file and no clock: hashes and times
are given to it. `status` reads it, the watcher feeds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cronsim import CronSim

from ..protocol.plugin_version import PluginVersion


@dataclass(frozen=True, slots=True)
class OnChange:
    """Replace the plugin as soon as its content has changed."""


@dataclass(frozen=True, slots=True)
class OnSignal:
    """Replace it only when HUP or `reload` asks."""


@dataclass(frozen=True, slots=True)
class Every:
    """Replace it at a fixed interval, in seconds of the monotonic clock."""

    interval_s: float


@dataclass(frozen=True, slots=True)
class Cron:
    """Replace it at the times of a cron expression, by the wall clock."""

    expression: str


@dataclass(frozen=True, slots=True)
class Disabled:
    """Never replace it."""


ReloadPolicy = OnChange | OnSignal | Every | Cron | Disabled
ON_CHANGE = OnChange()


class NotFound(LookupError):
    """No plugin of this name is loaded."""

    def __init__(self, plugin_id: str) -> None:
        super().__init__(f"no plugin {plugin_id!r} is loaded")
        self.plugin_id = plugin_id


@dataclass(slots=True)
class WatchEntry:
    """One watched source: the FNV-1a hash and the SHA-256 digest last seen serving."""

    plugin_id: str
    path: str
    last_hash: int
    last_digest: str = ""


class HotReloadManager:
    """The loaded releases, the watch entries and the due times of all plugins."""

    def __init__(self) -> None:
        self.loaded_plugins: dict[str, PluginVersion] = {}
        self.watchers: dict[str, WatchEntry] = {}
        self.policies: dict[str, ReloadPolicy] = {}
        self._due_s: dict[str, float] = {}
        self._due_at: dict[str, datetime] = {}

    def register_loaded(self, version: PluginVersion) -> None:
        """Record a first load."""
        self.loaded_plugins[version.id] = version

    def watch(self, plugin_id: str, path: str, initial_hash: int, digest: str = "") -> None:
        """Watch a source whose content had this hash when it was loaded."""
        self.watchers[plugin_id] = WatchEntry(plugin_id, path, initial_hash, digest)

    def check_for_changes(self, current: Mapping[str, int | tuple[int, str]]) -> list[str]:
        """The watched plugins whose content differs from what serves.

        `current` maps a plugin to the FNV-1a hash of its source now, or to (hash, SHA-256
        digest): with a digest a crafted FNV collision is caught. Nothing is updated here.
        """
        return [
            entry.plugin_id
            for entry in self.watchers.values()
            if entry.plugin_id in current and _differs(entry, current[entry.plugin_id])
        ]

    def update_hash(self, plugin_id: str, new_hash: int, digest: str = "") -> None:
        """Store what serves now; called after a changeover succeeded, never before."""
        entry = self.watchers.get(plugin_id)
        if entry is not None:
            entry.last_hash, entry.last_digest = new_hash, digest

    def reload_plugin(self, plugin_id: str, version: PluginVersion) -> None:
        """Record that another release serves. Raises NotFound if none was loaded."""
        if plugin_id not in self.loaded_plugins:
            raise NotFound(plugin_id)
        self.loaded_plugins[plugin_id] = version

    def unload_plugin(self, plugin_id: str) -> PluginVersion:
        """Forget a plugin and return what was loaded. Raises NotFound."""
        self.watchers.pop(plugin_id, None)
        self.policies.pop(plugin_id, None)
        self._due_s.pop(plugin_id, None)
        self._due_at.pop(plugin_id, None)
        try:
            return self.loaded_plugins.pop(plugin_id)
        except KeyError:
            raise NotFound(plugin_id) from None

    def set_policy(self, plugin_id: str, policy: ReloadPolicy, now: float, wall: datetime) -> None:
        """Set when a plugin is replaced; a schedule counts from `now` and `wall`."""
        if self.policies.get(plugin_id) == policy:
            return
        self.policies[plugin_id] = policy
        self._due_s.pop(plugin_id, None)
        self._due_at.pop(plugin_id, None)
        if isinstance(policy, Every):
            self._due_s[plugin_id] = now + policy.interval_s
        elif isinstance(policy, Cron):
            self._due_at[plugin_id] = next(CronSim(policy.expression, wall))

    def is_scheduled_reload_due(self, plugin_id: str, now: float, wall: datetime) -> bool:
        """Is a scheduled changeover due? True resets the timer, so a due time fires once."""
        policy = self.policies.get(plugin_id)
        if isinstance(policy, Every) and now >= self._due_s[plugin_id]:
            self._due_s[plugin_id] = now + policy.interval_s
            return True
        if isinstance(policy, Cron) and wall >= self._due_at[plugin_id]:
            self._due_at[plugin_id] = next(CronSim(policy.expression, wall))
            return True
        return False

    def next_due_s(self, now: float, wall: datetime) -> float | None:
        """Seconds until the next schedule is due, or None when there is none."""
        waits = [due - now for due in self._due_s.values()]
        waits += [(due - wall).total_seconds() for due in self._due_at.values()]
        return max(0.0, min(waits)) if waits else None

    def auto_reload_enabled(self, plugin_id: str) -> bool:
        """May anything replace this plugin?"""
        return not isinstance(self.policies.get(plugin_id, ON_CHANGE), Disabled)


def _differs(entry: WatchEntry, seen: int | tuple[int, str]) -> bool:
    if isinstance(seen, tuple):
        return seen[0] != entry.last_hash or (entry.last_digest not in ("", seen[1]))
    return seen != entry.last_hash
