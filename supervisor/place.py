"""What the place that we run in does not allow us to promise, in words for the operator."""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


def notes() -> list[str]:
    """One for each promise that cannot be kept here; said once, at the start."""
    said = []
    if not (_PROC / "self" / "environ").exists():
        said.append(
            "there is no /proc here: what a worker has started and let go of (setsid, daemons) may "
            'outlive it, `status` knows no memory and CPU, and start = "forkserver" fails\n'
            "  mount /proc in this container"
        )
    if _dies_as_one():
        said.append(
            "memory.oom.group = 1 here: when the memory is at an end, the kernel kills this "
            "supervisor with all its workers, and no job survives\n"
            "  write 0 to it, or start this again whenever it was killed"
        )
    return said


def _dies_as_one() -> bool:
    """Does the kernel kill all of our cgroup, where version 2 is in its usual place?"""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
        ours = next((line[4:] for line in lines if line.startswith("0::/")), None)
        return ours is not None and (_CGROUPS / ours / "memory.oom.group").read_text() == "1\n"
    except OSError:
        return False
