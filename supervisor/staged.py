"""What the store answers: a release on disk, or why there is none."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from .digest import Fingerprint, Keys

_BAD_LUCK = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EMFILE: "this process has too many files open: raise its limit (ulimit -n)",
    errno.ENFILE: "this machine has too many files open: raise fs.file-max",
    errno.EAGAIN: "the machine refused for the moment: try again",
    errno.ENOMEM: "memory is short: free some",
}
_BAD_PLACE = {
    errno.EROFS: "the file system is read-only: set state_dir to one that is not",
    errno.EACCES: "permission denied: give this user access",
    errno.EPERM: "permission denied: give this user access",
    errno.ENOTDIR: "a file is in the way: set state_dir to a folder",
    errno.EEXIST: "a file is in the way: set state_dir to a folder",
}


class StageError(Exception):
    """Nothing was staged, and nothing of the attempt is left.

    `bad_luck`: the content is not to blame, so the same content may be tried again later.
    """

    def __init__(self, message: str, *, bad_luck: bool) -> None:
        super().__init__(message)
        self.message = message
        self.bad_luck = bad_luck


def is_bad_luck(error: OSError) -> bool:
    """Would the same have worked at a better moment?"""
    return error.errno in _BAD_LUCK


def stage_error(error: OSError, what: str) -> StageError:
    """`error` in words for the operator."""
    code = error.errno or 0
    advice = _BAD_LUCK.get(code) or _BAD_PLACE.get(code) or "nothing was changed"
    place = f" ({error.filename})" if error.filename else ""
    message = f"{what}: {error.strerror or error}{place}\n  {advice}"
    return StageError(message, bad_luck=is_bad_luck(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A release in the store, proven to hold the bytes that its digest names."""

    digest: str
    hash: int
    path: Path  # what is started: the file or folder inside `root`, or `root` if nothing counts
    root: Path
    files: int
    size_bytes: int
    keys: Keys = ()  # the state of the live files it was read from; () when not to be trusted

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(digest=self.digest, hash=self.hash)
