"""The hard limit of a worker's memory: whoever is above it is killed at once.

Such a death is our own doing: it counts for no crash loop, against no job and no release.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..protocol.errors import Code, Fault
from .desk import Desk
from .fleet import Fleet
from .plugin import Plugin
from .restarts import Restarts
from .states import WorkerState
from .units import format_size
from .worker import Worker

MAY_BE_KILLED = (WorkerState.STARTING, WorkerState.READY, WorkerState.DRAINING)


class MemoryLimit:
    """Holds workers to `memory`."""

    def __init__(self, desk: Desk, fleet: Fleet, restarts: Restarts) -> None:
        self._desk = desk
        self._fleet = fleet
        self._restarts = restarts

    def look(self, plugin: Plugin, memory: Mapping[str, int]) -> None:
        """`memory`: bytes by worker, where they are known."""
        limit = plugin.spec.memory_bytes
        if limit is None:
            return
        for generation in list(plugin.generations.values()):
            for worker in list(generation.workers.values()):
                taken = memory.get(worker.id, 0)
                if taken > limit and worker.state in MAY_BE_KILLED:
                    excess = f"{format_size(taken)}, memory = {format_size(limit)}"
                    self._kill(plugin, worker, excess)

    def _kill(self, plugin: Plugin, worker: Worker, excess: str) -> None:
        generation = worker.generation
        is_live, is_starting = generation is plugin.live, worker.state is WorkerState.STARTING
        if is_starting or plugin.is_newcomer(generation):
            text = f"memory: worker {worker.pid} took {excess}"
            # Content that does not fit is bad, unless it serves: then its start is tried again.
            fault = Fault.new(Code.CHANGE_FAILED, text, reason="memory", bad_luck=is_live)
            has_read = worker.asked not in ("", "hello") or not is_starting
            self._fleet.fail_boot(worker, "" if has_read else "boot", fault, at_once=True)
            return
        worker.excess = f"was killed: it took {excess}"
        self._fleet.ladder.kill_at_once(worker, "memory")
        if is_live:
            self._restarts.saw_excess(plugin, generation)
