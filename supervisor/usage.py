"""How much memory and CPU a worker's process tree takes.

Sees processes by their parent: what escaped from the tree is not counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """`rss_bytes` counts shared pages in every process that has them. One busy core is 100 %."""

    rss_bytes: int
    cpu_percent: float


class UsageMeter:
    """Measures workers by pid. CPU is that since the measurement before: the first is 0."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def read(self, pids: Iterable[int]) -> dict[int, Usage]:
        """The usage of each worker that is still there. One scan of the processes for all.

        Nothing where there is no descriptor left to look with: everything else can still be told.
        """
        try:
            trees = _trees(pids)
        except OSError:
            return {}
        seen = {pid for tree in trees.values() for pid in tree}
        self._known = {pid: process for pid, process in self._known.items() if pid in seen}
        read = {worker: self._sum(tree) for worker, tree in trees.items()}
        return {worker: usage for worker, usage in read.items() if usage is not None}

    def _sum(self, tree: list[int]) -> Usage | None:
        """None when the worker itself, the first of its tree, has gone."""
        usages = [self._one(pid) for pid in tree]
        if not usages or usages[0] is None:
            return None
        there = [usage for usage in usages if usage is not None]
        return Usage(
            rss_bytes=sum(usage.rss_bytes for usage in there),
            cpu_percent=round(sum(usage.cpu_percent for usage in there), 1),
        )

    def _one(self, pid: int) -> Usage | None:
        try:
            process = self._known.get(pid)
            if process is None or not process.is_running():  # the pid may be another's by now
                process = self._known[pid] = psutil.Process(pid)
            with process.oneshot():
                return Usage(rss_bytes=process.memory_info().rss, cpu_percent=process.cpu_percent())
        except (psutil.Error, OSError):
            return None


def memory_of(pids: Iterable[int]) -> dict[int, int]:
    """Bytes that each worker and what it has started take. Only that: no CPU, nothing is kept.

    One process takes its RSS, as `Usage` shows it. Of several the proportional set size (PSS) is
    taken, so that a model which a worker shares with its children counts once.
    """
    try:
        trees = _trees(pids)
    except OSError:  # no descriptor left to look with: it is known at the next look
        return {}
    return {worker: _tree_memory(tree) for worker, tree in trees.items()}


def _tree_memory(tree: list[int]) -> int:
    if len(tree) == 1:
        return _resident(tree[0])
    return sum(_proportional(pid) for pid in tree)


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):
        return 0


def _proportional(pid: int) -> int:
    """Of a process that may not be looked into (another user's): the RSS."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
    except OSError:
        return _resident(pid)
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:"))


def _trees(pids: Iterable[int]) -> dict[int, list[int]]:
    """For each pid, itself and its descendants."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    trees = {}
    for root in pids:
        tree = trees[root] = [root]
        for pid in tree:  # grows while it is walked
            tree += children.get(pid, ())
    return trees


def _parents() -> Iterator[tuple[int, int]]:
    """Every process and its parent. psutil's `children` reads them all again for each worker."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_bytes()
            except OSError:
                continue  # gone meanwhile
            yield int(name), int(stat.rpartition(b")")[2].split()[1])
