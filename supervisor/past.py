"""What the history knows of a plugin: its releases, which are approved, bad or held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .plugin import Plugin
from .release import Release
from .releases import served_after
from .spec import PluginSpec


class Past:
    """Made once at start by replaying the history, then asked for each plugin that is added."""

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self.last_generation = 0
        self._entries: dict[str, list[Mapping[str, Any]]] = {}
        for entry in entries:
            if isinstance(entry.get("generation"), int):
                self.last_generation = max(self.last_generation, entry["generation"])
            if isinstance(entry.get("plugin"), str):
                self._entries.setdefault(entry["plugin"], []).append(entry)

    def plugin(self, spec: PluginSpec) -> Plugin:
        """A plugin with what is known of it."""
        plugin = Plugin(spec)
        for entry in self._entries.get(spec.name, ()):
            _take(plugin, entry)
        return plugin


def _take(plugin: Plugin, entry: Mapping[str, Any]) -> None:
    for key in ("from", "to"):
        release = _release(entry.get(key))
        if release is not None:
            plugin.releases[release.digest] = release
    if entry.get("event") == "approved" and isinstance(entry.get("digest"), str):
        digest = entry["digest"]
        plugin.approved = [d for d in plugin.approved if d != digest] + [digest]
    if isinstance(entry.get("held"), list):
        plugin.held = {str(digest) for digest in entry["held"]}
    if isinstance(entry.get("bad"), dict):
        plugin.bad = {str(digest): str(why) for digest, why in entry["bad"].items()}
    if entry.get("event") == "cut" and isinstance(entry.get("to"), dict):
        digest, is_way_back = str(entry["to"].get("digest", "")), entry.get("why") == "watch"
        plugin.served = served_after(plugin.served, digest, is_way_back=is_way_back)


def _release(entry: Any) -> Release | None:
    if not isinstance(entry, dict):
        return None
    try:
        return Release(
            number=int(entry["number"]), digest=str(entry["digest"]), hash=int(entry["hash"], 16),
            path="", shown=str(entry.get("shown", "")), version=str(entry.get("version", "")),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return None
