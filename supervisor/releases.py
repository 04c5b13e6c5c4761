"""The releases that a plugin has had: their numbers, and to which one it can go back."""

from __future__ import annotations

from dataclasses import replace

from ..protocol.errors import Code, Fault
from .plugin import Plugin
from .release import Release

SERVED_MOST = 32  # so far back can be gone


def known_release(plugin: Plugin, digest: str, hash_: int, path: str, shown: str) -> Release:
    """The release of this content: the one it has had always, or a new number."""
    release = plugin.releases.get(digest)
    if release is None:
        number = max((known.number for known in plugin.releases.values()), default=0) + 1
        release = Release(number=number, digest=digest, hash=hash_, path=path, shown=shown)
    elif release.path != path:  # what the history knows has no place in the store yet
        release = replace(release, path=path, shown=shown)
    plugin.releases[digest] = release
    return release


def served_after(served: list[str], digest: str, *, is_way_back: bool) -> list[str]:
    """`plugin.served` after a cut to `digest`. What an automatic rollback leaves never served."""
    if is_way_back:
        served = served[:-1]
        if digest in served:
            last = len(served) - served[::-1].index(digest)
            return served[:last]
    if served[-1:] == [digest]:  # a refresh replaces nothing
        return served
    return [*served[1 - SERVED_MOST :], digest]


def fallback_release(plugin: Plugin, avoid: set[str]) -> Release | None:
    """The last release that finished its watch and is neither bad nor held.

    If none ever did, the last one that served: that is better than nothing.
    """
    unfit = plugin.bad.keys() | plugin.held | avoid
    for digest in [*reversed(plugin.approved), *reversed(plugin.served)]:
        if digest not in unfit and digest in plugin.releases:
            return plugin.releases[digest]
    return None


def rollback_target(plugin: Plugin, to: int | None) -> Release:
    """The release that served before, or number `to`. Raises Fault NOT_FOUND."""
    if to is not None:
        for release in plugin.releases.values():
            if release.number == to:
                return release
        raise Fault.new(Code.NOT_FOUND, f"{plugin.name} has no release @{to}")
    live = plugin.live.release.digest if plugin.live is not None else ""
    for digest in reversed(plugin.served):
        if digest not in {live, *plugin.bad} and digest in plugin.releases:
            return plugin.releases[digest]
    fallback = fallback_release(plugin, avoid={live})
    if fallback is None:
        raise Fault.new(Code.NOT_FOUND, f"{plugin.name} has no earlier release")
    return fallback
