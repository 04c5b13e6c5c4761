"""The supervisor's folder: who holds it, and where it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from pathlib import Path

from .spec import SupervisorSpec
from .trees import remove_tree

_TEMPORARY = "changeover-private-"


class StateDirError(Exception):
    """It cannot be had; the message says why and what to do."""


class StateDir:
    """A locked folder; a temporary one is removed at the end."""

    def __init__(self, path: Path, *, is_temporary: bool) -> None:
        self.path = path
        self.is_temporary = is_temporary
        self._lock_fd = _lock(path)

    @classmethod
    def open(cls, spec: SupervisorSpec, *, stdio: bool) -> StateDir:
        """The one that the config names. Raises StateDirError."""
        if spec.state_dir == "auto" and stdio:
            _remove_abandoned()
            return cls(Path(tempfile.mkdtemp(prefix=_TEMPORARY)), is_temporary=True)
        path = default_path(spec.name) if spec.state_dir == "auto" else Path(spec.state_dir)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateDirError(
                f"the state_dir {path} cannot be made: {error.strerror}\n"
                '  name another one: state_dir = "…" in [supervisor]'
            ) from error
        return cls(path, is_temporary=False)

    def close(self) -> None:
        """Let others have it."""
        if self.is_temporary:
            remove_tree(self.path)
        os.close(self._lock_fd)


def default_path(name: str) -> Path:
    """`$STATE_DIRECTORY` or `$XDG_STATE_HOME/changeover/NAME`."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home) / "changeover" / name


def _remove_abandoned() -> None:
    """A private supervisor that was killed could not remove its folder: the next one does."""
    with os.scandir(tempfile.gettempdir()) as found:
        folders = [each.path for each in found if each.name.startswith(_TEMPORARY)]
    for folder in folders:
        with contextlib.suppress(OSError):  # somebody else's, or another one removes it
            _remove_if_abandoned(Path(folder))


def _remove_if_abandoned(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        # The pid is written under the lock: without it somebody is just about to lock it.
        if os.read(fd, 1):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(folder)
    finally:
        os.close(fd)


def _lock(path: Path) -> int:
    try:
        fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateDirError(
            f"the state_dir {path} cannot be written: {error.strerror}\n"
            '  let this user write there, or name another one: state_dir = "…"'
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(fd, 32).decode("ascii", "replace").strip() or "?"
        os.close(fd)
        raise StateDirError(
            f"another supervisor (pid {holder}) holds {path}\n"
            "  stop it: changeover stop      or give this one its own name or state_dir"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
