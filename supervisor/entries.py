"""The lines of the history that the core writes: who, why, from, to, and what came of it."""

from __future__ import annotations

from .changeover import Changeover
from .plugin import Plugin
from .release import Release


def entry(plugin: Plugin, change: Changeover, event: str = "changeover") -> dict[str, object]:
    """One changeover. `held` and `bad` are all of the plugin's: a replay needs only the last."""
    old = change.old if change.number else plugin.live  # what serves, if it came to nothing
    return {
        "event": event,
        "plugin": plugin.name,
        "generation": change.number,
        "who": change.who,
        "why": change.reason,
        "from": _release(old.release if old else None),
        "to": _release(change.release),
        "outcome": "" if event == "cut" else change.outcome or "done",
        "stage": change.stage,
        "cause": change.cause or change.occasion,
        "drained": change.report.drained,
        "killed": change.report.killed,
        "lost": change.lost,
        "held": sorted(plugin.held),
        "bad": dict(plugin.bad),
    }


def approved(plugin: Plugin, change: Changeover, digest: str) -> dict[str, object]:
    """A release has finished its watch."""
    return {
        "event": "approved",
        "plugin": plugin.name,
        "generation": change.number,
        "digest": digest,
    }


def _release(release: Release | None) -> dict[str, object] | None:
    if release is None:
        return None
    return {
        "number": release.number,
        "version": release.version,
        "digest": release.digest,
        "hash": f"{release.hash:016x}",
        "shown": release.shown,
    }
