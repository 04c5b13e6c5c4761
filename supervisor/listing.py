"""The files that count as a plugin's content at one moment, and how a folder is walked for them.

Knows nothing of plugins: `source.py` decides what is asked for.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

# Enough for any plugin, and an end when `source` names a home folder by mistake.
MAX_FILES = 100_000


class SourceError(Exception):
    """The source cannot be used as it is; the message says what to do."""


class SourceMissing(SourceError):
    """Not there, or not there yet: between the unlink and the rename of a slow copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files that count, at one moment."""

    files: tuple[tuple[str, str], ...]  # (relative path, absolute path), links resolved
    tree: bool  # digest over the tree; False: one file, digest = its sha256sum
    top: str = ""  # a folder's own name: kept in the store, no part of the digest
    folders: tuple[str, ...]  # where a change would show


def walk_files(folder: str) -> dict[str, str]:
    """Relative to absolute path of each regular file below, without what never counts.

    Folders behind links are entered, unless they are one that we are in. FIFOs, sockets and
    devices have no content and are passed over. FileNotFoundError when something goes meanwhile.
    """
    files: dict[str, str] = {}
    waiting = [("", folder, frozenset[tuple[int, int]]())]
    while waiting:
        inside, path, above = waiting.pop()
        here = os.stat(path)
        if (here.st_dev, here.st_ino) in above:
            continue
        above |= {(here.st_dev, here.st_ino)}
        for name in os.listdir(path):
            relative, full = os.path.join(inside, name), os.path.join(path, name)
            if is_ignored(name):
                continue
            mode = _mode(full)
            if stat.S_ISDIR(mode):
                waiting.append((relative, full, above))
            elif stat.S_ISREG(mode):
                files[relative] = full
        if len(files) > MAX_FILES:
            raise SourceError(_too_many(folder))
    return files


def is_ignored(relative: str) -> bool:
    return any(
        part == "__pycache__" or part.startswith(".") or part.endswith("~")
        for part in relative.split("/")
    )


def link_folders(path: str) -> set[str]:
    """The folders of all links on the way to `path`: a link that is flipped shows there."""
    folders = {os.path.dirname(path)}
    waiting, seen = [path], set[str]()
    while waiting:
        head = waiting.pop()
        while head not in seen and head != os.path.dirname(head):
            seen.add(head)
            if os.path.islink(head):
                folders.add(os.path.dirname(head))
                waiting.append(os.path.join(os.path.dirname(head), os.readlink(head)))
            head = os.path.dirname(head)
    return {os.path.realpath(folder) for folder in folders}


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            what = f"{path} is a link to {os.readlink(path)}, which does not exist"
            raise SourceMissing(f"{what}\n  put it there, or remove the link") from None
        raise


def _too_many(path: str) -> str:
    return f"{path} holds more than {MAX_FILES} files\n  name the plugin's own folder in source"
