"""Which keys of a spec need new workers when they change; the others are live at once."""

from __future__ import annotations

from dataclasses import replace

from .spec import PluginSpec

LAUNCH_KEYS = (
    "source", "pickled", "object", "command", "python", "include", "config", "env", "workers",
    "concurrency", "isolation", "env_pass", "network", "launcher", "start", "preload",
)  # fmt: skip


def launches_alike(one: PluginSpec, other: PluginSpec) -> bool:
    """Would both specs start the same workers, given the same content?"""
    return all(getattr(one, key) == getattr(other, key) for key in LAUNCH_KEYS)


def launched_as(spec: PluginSpec, running: PluginSpec) -> PluginSpec:
    """The live keys of one, the launch keys of what runs: a change of them may be refused."""
    return replace(spec, **{key: getattr(running, key) for key in LAUNCH_KEYS})
