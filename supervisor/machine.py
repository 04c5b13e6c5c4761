"""What this machine allows, as `changeover doctor` tells it. Looks, and changes nothing."""

from __future__ import annotations

import asyncio
import os
import platform
import pwd
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ..protocol.paths import default_socket
from . import bubblewrap, confine
from .children import Children
from .levels import Levels
from .spec import Isolation
from .state_dir import default_path

LEVELS: tuple[Isolation, ...] = ("trusted", "limited", "sandboxed")
_LIMITS = {
    "descriptors": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "data_bytes": resource.RLIMIT_DATA,
    "locked_bytes": resource.RLIMIT_MEMLOCK,
}
_ANSWER_S = 10.0


def facts(name: str) -> dict[str, Any]:
    """Everything, for a supervisor of that name; the levels with why they cannot be had."""
    abi = confine.landlock_abi()
    return {
        "kernel": {"release": platform.release(), "machine": platform.machine()},
        "python": platform.python_version(),
        "memfd": _has_memfd(),
        "pidfd": _has_pidfd(),
        "limits": {key: _limits(number) for key, number in _LIMITS.items()},
        "landlock": {"abi": abi},
        "cgroup": cgroup(),
        "permissions": _permissions(name),
        **asyncio.run(_contained(abi)),
    }


async def _contained(abi: int) -> dict[str, Any]:
    children = Children()
    levels = Levels(children, abi)
    return {
        "bubblewrap": {
            "version": _bwrap_version(),
            "why_not": await bubblewrap.why_not(children, network=False),
        },
        "levels": {
            level: {
                "why_not": await levels.why_not(level, network=False),
                "why_not_with_network": await levels.why_not(level, network=True),
            }
            for level in LEVELS
        },
    }


def _has_memfd() -> bool:
    try:
        os.close(os.memfd_create("changeover-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    except OSError:
        return False
    return True


def _has_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _limits(number: int) -> dict[str, int | None]:
    soft, hard = resource.getrlimit(number)
    return {
        "soft": None if soft == resource.RLIM_INFINITY else soft,
        "hard": None if hard == resource.RLIM_INFINITY else hard,
    }


def _bwrap_version() -> str:
    program = shutil.which("bwrap")
    if program is None:
        return ""
    said = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False, timeout=_ANSWER_S
    )
    return said.stdout.strip().rpartition(" ")[2]


def cgroup(proc: Path = Path("/proc/self/cgroup")) -> dict[str, Any]:
    """Ours in the unified hierarchy: whether it is delegated to us, and whether it dies as one."""
    lines = proc.read_text().splitlines() if proc.exists() else []
    path = next((line[3:] for line in lines if line.startswith("0::")), "")
    folder = _mounted(path)
    if folder is None:
        return {"path": path, "delegated": False, "oom_group": False}
    return {
        "path": path,
        "delegated": all(
            os.access(folder / file, os.W_OK) for file in ("cgroup.procs", "cgroup.subtree_control")
        ),
        "oom_group": _read(folder / "memory.oom.group") == "1",
    }


def _mounted(path: str) -> Path | None:
    """The folder of a cgroup, where version 2 is mounted."""
    for line in _read(Path("/proc/self/mounts")).splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and path:
            return Path(place) / path.lstrip("/")
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _permissions(name: str) -> dict[str, Any]:
    socket = default_socket(name)
    return {
        "uid": os.geteuid(),
        "user": _user(),
        "state_dir": _place(default_path(name)),
        "socket": _place(Path(socket)),
    }


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _place(path: Path) -> dict[str, Any]:
    """May it be made or written there? What is not there yet is made in its nearest folder."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    return {"path": str(path), "writable": os.access(there, os.W_OK)}
