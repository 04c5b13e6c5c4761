"""One file to another, sharing its blocks where the file system can. Never a hard link.

A hard link would be the author's file under a second name: a write in place would reach the
release that runs.
"""

from __future__ import annotations

import errno
import fcntl
import os

from .digest import CHUNK_BYTES, Breathe

_FICLONE = 0x40049409
_RANGE_BYTES = 32 * CHUNK_BYTES

# "Not here": another file system, one that cannot, a kernel that cannot, a sandbox that forbids.
_CANNOT = {
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EPERM,
    errno.ETXTBSY,
}


def copy_content(source: int, target: int, size: int, breathe: Breathe) -> None:
    """Copy `size` bytes between descriptors that stand at the beginning; fewer if it has fewer."""
    if not _reflink(source, target):
        left = size - _copy_range(source, target, size, breathe)
        _read_write(source, target, left, breathe)


def _reflink(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True


def _copy_range(source: int, target: int, size: int, breathe: Breathe) -> int:
    left = size
    try:
        while left and (count := os.copy_file_range(source, target, min(left, _RANGE_BYTES))):
            left -= count
            breathe()
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    return size - left


def _read_write(source: int, target: int, left: int, breathe: Breathe) -> None:
    while left and (data := os.read(source, min(left, CHUNK_BYTES))):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
        left -= len(data)
        breathe()
