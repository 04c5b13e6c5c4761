"""Trees of files in the store: filled from a listing, made read-only and durable, removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from .copying import copy_content
from .digest import Breathe, Files, open_regular

_SEALED = 0o500
_OPEN = 0o700


def fill_tree(folder: Path, files: Files, breathe: Breathe) -> None:
    """Copy every file to its relative path below `folder`, read-only and on disk."""
    for relative, path in files:
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        source = open_regular(path)
        try:
            status = os.fstat(source)
            mode = 0o500 if status.st_mode & stat.S_IXUSR else 0o400
            fd = _create(target)
            try:
                copy_content(source, fd, status.st_size, breathe)
                _settle(fd, mode)
            finally:
                os.close(fd)
        finally:
            os.close(source)


def write_file(target: Path, content: bytes) -> None:
    """A read-only file with that content, on disk."""
    fd = _create(target)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        _settle(fd, 0o400)
    finally:
        os.close(fd)


def seal_tree(folder: Path) -> None:
    """Make all folders durable and read-only, from the leaves up."""
    for path, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(path))
        os.chmod(path, _SEALED)


def move_into(source: Path, sealed: Path) -> None:
    """Rename `source`, a file or a sealed folder, into another sealed folder."""
    is_folder = source.is_dir()
    os.chmod(source.parent, _OPEN)
    os.chmod(sealed, _OPEN)
    if is_folder:
        os.chmod(source, _OPEN)  # its ".." is rewritten
    os.rename(source, sealed / source.name)
    if is_folder:
        os.chmod(sealed / source.name, _SEALED)
    os.chmod(sealed, _SEALED)
    sync_folder(sealed)


def remove_tree(folder: Path) -> None:
    """Remove what can be removed; the rest is a leftover that the next start tries again."""
    with contextlib.suppress(OSError):
        for path, _, _ in os.walk(folder):
            os.chmod(path, _OPEN)
    shutil.rmtree(folder, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _create(target: Path) -> int:
    return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _settle(fd: int, mode: int) -> None:
    os.fchmod(fd, mode)
    os.fsync(fd)
