"""Which keys of a plugin changed, and what each change takes.

A key that shapes the worker process, or what runs in it, takes a changeover: the workers
that are there were started with the old value. Everything else is read by the supervisor
whenever it decides, so the new value counts from the next decision on.
"""

from __future__ import annotations

from .config_tables import PLUGIN_FIELDS, PLUGIN_KEYS
from .spec import PluginSpec

CHANGEOVER_KEYS = frozenset(
    {
        "source",
        "object",
        "command",
        "include",  # another source set, another digest
        "config",
        "env",
        "pin",  # the source must be staged again to be held against it
        "workers",
        "concurrency",
        "start",
        "preload",
    }
)
LIVE_KEYS = frozenset(PLUGIN_KEYS) - CHANGEOVER_KEYS


def changed_keys(old: PluginSpec, new: PluginSpec) -> tuple[set[str], set[str]]:
    """The keys that differ: those that count at once, and those that take a changeover."""
    changed = {key for key in PLUGIN_KEYS if _value(old, key) != _value(new, key)}
    return changed & LIVE_KEYS, changed & CHANGEOVER_KEYS


def _value(spec: PluginSpec, key: str) -> tuple[object, ...]:
    return tuple(getattr(spec, field) for field in PLUGIN_FIELDS.get(key, (key,)))
