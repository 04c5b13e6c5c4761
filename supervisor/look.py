"""One look at a source, in the helper thread: its files' state and, if wanted, their bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from .digest import Breathe, Keys, Torn, keys_of, read_files
from .listing import SourceError
from .settling import Sight
from .source import SourceSet

Folder = tuple[str, int, int]  # path, device, inode: the same path may become another folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found, and the folders in which events would show (none: as before)."""

    sight: Sight
    folders: frozenset[Folder] = frozenset()


def look_all(tasks: Iterable[tuple[SourceSet, Keys, bool]], breathe: Breathe) -> list[Look]:
    """`look` at each source in turn."""
    return [look(source, trusted, is_reading, breathe) for source, trusted, is_reading in tasks]


def look(source: SourceSet, trusted: Keys, is_reading: bool, breathe: Breathe) -> Look:
    """Which files count, their state, and if wanted (and the state is not trusted) their bytes."""
    try:
        return _look(source, trusted, is_reading, breathe)
    except (Torn, FileNotFoundError):
        return Look(sight=Sight(is_torn=True))
    except SourceError as error:
        words = str(error)
    except OSError as error:
        words = f"{source.shown} cannot be read: {error.strerror} ({error.filename})"
    return Look(sight=Sight(trouble=words), folders=_nearest(source.path))


def _look(source: SourceSet, trusted: Keys, is_reading: bool, breathe: Breathe) -> Look:
    listing = source.resolve()
    folders = [(folder, os.stat(folder)) for folder in listing.folders]
    keys, fingerprint = keys_of(listing.files), None
    if is_reading and keys != trusted:
        reading = read_files(listing.files, tree=listing.tree, breathe=breathe)
        keys, fingerprint = reading.keys, reading.fingerprint
    # A file that went, or a link that was flipped, shows in the time of its folder alone.
    changed_ns = max([key[-1] for key in keys] + [status.st_mtime_ns for _, status in folders])
    ago_s = time.time() - changed_ns / 1e9
    return Look(
        sight=Sight(keys=keys, fingerprint=fingerprint, changed_ago_s=ago_s),
        folders=frozenset((path, status.st_dev, status.st_ino) for path, status in folders),
    )


def _nearest(path: str) -> frozenset[Folder]:
    """Where a source that is not to be had will come back: the nearest folder that is there."""
    while path != os.path.dirname(path):
        path = os.path.dirname(path)
        try:
            status = os.stat(path)
        except OSError:
            continue
        return frozenset([(path, status.st_dev, status.st_ino)])
    return frozenset()
