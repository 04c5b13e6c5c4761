"""Which keys of a plugin changed, and what each change takes.

A key that shapes the worker process, or what runs in it, takes a changeover: the workers
that are there were started with the old value. Everything else is read by the supervisor
whenever it decides, so the new value counts from the next decision on.
"""

from __future__ import annotations

from .config_tables import PLUGIN_FIELDS, PLUGIN_KEYS
from .launching import LAUNCH_KEYS
from .spec import PluginSpec


def changed_keys(old: PluginSpec, new: PluginSpec) -> tuple[set[str], set[str]]:
    """The keys that differ: those that count at once, and those that take a changeover."""
    changed = {key for key in PLUGIN_KEYS if _values(old, key) != _values(new, key)}
    return changed - CHANGEOVER_KEYS, changed & CHANGEOVER_KEYS


def _fields(key: str) -> tuple[str, ...]:
    return PLUGIN_FIELDS.get(key, (key,))


def _values(spec: PluginSpec, key: str) -> tuple[object, ...]:
    return tuple(getattr(spec, field) for field in _fields(key))


# A new pin starts nothing of another kind, but the source has to be held against it.
CHANGEOVER_KEYS = frozenset(
    key for key in PLUGIN_KEYS if key == "pin" or set(_fields(key)) & set(LAUNCH_KEYS)
)
LIVE_KEYS = frozenset(PLUGIN_KEYS) - CHANGEOVER_KEYS
