"""Who may connect to the socket: its permissions, and the uids that are let in."""

from __future__ import annotations

import grp
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from .spec import SupervisorSpec

_OTHERS = 0o077
_PASS = 0o011  # a folder that those may go through for whom the socket is open


@dataclass(frozen=True, slots=True)
class Access:
    """`socket_mode`, `socket_group` and `allow_uids`.

    We and root are always let in. With `allow_uids` nobody else is but these; without, whoever
    the mode lets in: by default nobody.
    """

    mode: int = 0o600
    group: str = ""
    uids: Collection[int] = ()

    @classmethod
    def of(cls, spec: SupervisorSpec) -> Access:
        """As the config says."""
        return cls(spec.socket_mode, spec.socket_group, spec.allow_uids)

    def lets_in(self, uid: int) -> bool:
        """May a process of this user stay?"""
        if uid in (0, os.geteuid()):
            return True
        return uid in self.uids if self.uids else bool(self.mode & _OTHERS)

    def make_folder(self, folder: Path) -> None:
        """Make a folder for the socket that is ours alone, but for those who come through it."""
        folder.mkdir(mode=0o700, parents=True)
        self._give(folder)
        passes = self.mode >> 1 & _PASS  # who may write to the socket may pass
        if passes:
            folder.chmod(0o700 | passes)

    def open(self, path: str) -> None:
        """Let those in for whom a socket is that nobody else can open yet. Raises OSError."""
        self._give(Path(path))
        os.chmod(path, self.mode)

    def _give(self, path: Path) -> None:
        if self.group:
            os.chown(path, -1, _gid_of(self.group))


def _gid_of(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise OSError(None, f"socket_group: there is no group {group!r} on this machine") from None
