"""The trigger table: when a changeover that somebody asks for is one, and what becomes of it else.

Source: the architecture page. This says whether there is one; how it goes is in `changes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from .launching import launches_alike
from .registry import HotReloadManager, OnChange
from .releases import fallback_release
from .states import Restart

if TYPE_CHECKING:
    from .changeover import Changeover
    from .plugin import Plugin
    from .release import Release

Reason = Literal[
    "start",
    "add",
    "file",
    "signal",
    "schedule",
    "reload",
    "rollback",
    "config",
    "watch",
    "recycle",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One row: what the same content, bad or held content, and `disabled` mean to it."""

    same: Literal["begin", "unchanged"]
    marked: Literal["try", "unchanged", "refresh", "approved"]  # bad or held content
    disabled: Literal["begin", "unchanged", "refuse"]
    is_by_itself: bool = False  # nobody waits for it: what fails by bad luck comes back


TRIGGERS: Mapping[Reason, Trigger] = {
    "start": Trigger(same="begin", marked="approved", disabled="begin", is_by_itself=True),
    "add": Trigger(same="begin", marked="try", disabled="begin"),
    "file": Trigger(same="unchanged", marked="unchanged", disabled="unchanged", is_by_itself=True),
    "signal": Trigger(
        same="unchanged", marked="unchanged", disabled="unchanged", is_by_itself=True
    ),
    "config": Trigger(
        same="unchanged", marked="unchanged", disabled="unchanged", is_by_itself=True
    ),
    "schedule": Trigger(same="begin", marked="refresh", disabled="unchanged", is_by_itself=True),
    "reload": Trigger(same="unchanged", marked="try", disabled="refuse"),
    # These name their release: it does not come from the source.
    "rollback": Trigger(same="begin", marked="try", disabled="refuse"),
    "watch": Trigger(same="begin", marked="try", disabled="begin"),
    "recycle": Trigger(same="begin", marked="try", disabled="begin"),
}


class Verdict(NamedTuple):
    """What becomes of a changeover whose content is known."""

    what: Literal["begin", "unchanged", "refuse", "fall back"]
    cause: str = ""
    release: Release | None = None


def judge(plugin: Plugin, change: Changeover) -> Verdict:
    """Does this content start a changeover?"""
    row, release = TRIGGERS[change.reason], change.release
    assert release is not None
    mark = plugin.mark(release.digest)
    if mark and change.target is None and row.marked != "try":
        if plugin.live is None:
            approved = fallback_release(plugin, avoid=set())
            return Verdict("fall back" if approved else "refuse", mark, approved)
        if row.marked != "refresh":
            return Verdict("unchanged", mark)
        release = plugin.live.release
    pin = change.spec.pin
    if pin and release.digest != pin:
        return Verdict("refuse", f"pin allows only sha256:{pin[:12]}…")
    if row.same == "unchanged" and not change.force and _serves_already(plugin, change, release):
        return Verdict("unchanged")
    return Verdict("begin", release=release)


def _serves_already(plugin: Plugin, change: Changeover, release: Release) -> bool:
    live = plugin.live
    if live is None or live.restart is Restart.FAILED:
        return False
    return live.release.digest == release.digest and launches_alike(live.spec, change.spec)


def is_news(plugin: Plugin, registry: HotReloadManager, hash_: int, digest: str) -> bool:
    """The source has settled on this content: is that worth a changeover? (on-change only)"""
    if not isinstance(plugin.spec.reload, OnChange) or plugin.mark(digest):
        return False
    newest = plugin.pending or plugin.change
    if newest is not None and newest.target is None and not newest.has_cut:
        return newest.release is None or newest.release.digest != digest
    is_watched = plugin.name in registry.watchers
    return not is_watched or bool(registry.check_for_changes({plugin.name: (hash_, digest)}))
