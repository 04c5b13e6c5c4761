"""Recycling: what serves is replaced by fresh workers of the same release.

One worker at its `max_jobs`, `max_age` or `max_rss` is enough. A recycle is a changeover like any
other, to the staged bytes that serve, whatever the source holds. Level-triggered: a limit that
is reached while something else goes on is seen at the next look.
"""

from __future__ import annotations

from collections.abc import Mapping

from .changeover import Changeover
from .changes import Changes
from .desk import Desk
from .generation import Generation
from .plugin import Plugin
from .rest import LONGEST_PAUSE_S
from .spec import PluginSpec
from .states import Restart
from .units import format_duration, format_size
from .worker import Worker

EARLIER = 0.1  # of `max_jobs`: what was started together need not be recycled together
SOON_S = 3.0  # after the cut: who is above `max_rss` by then was not brought there by its jobs
Reached = tuple[str, str]  # the key, and which worker is at its limit, in words


class Recycles:
    """Begins recycles, and sees that those which do not help become rare."""

    def __init__(self, desk: Desk, changes: Changes) -> None:
        self._desk = desk
        self._changes = changes

    def job_ended(self, plugin: Plugin, worker: Worker) -> None:
        """It has given a job back."""
        if _has_had_enough(plugin.spec, worker):
            self.look(plugin, {})

    def look(self, plugin: Plugin, memory: Mapping[str, int]) -> None:
        """Is a worker that serves at a limit? `memory`: bytes by worker, where they are known."""
        live = plugin.live
        if live is None or not self._may_begin(plugin, live):
            return
        for worker in live.ready():
            reached = self._reached(plugin, worker, memory.get(worker.id, 0))
            if reached is not None:
                self._answer(plugin, live, reached)
                return

    def _may_begin(self, plugin: Plugin, live: Generation) -> bool:
        if plugin.change is not None or plugin.pending is not None:
            return False
        if plugin.is_closing or self._desk.is_stopping or live.restart is not Restart.RUNNING:
            return False
        return self._desk.now >= plugin.refused_recycles.until

    def _reached(self, plugin: Plugin, worker: Worker, taken: int) -> Reached | None:
        spec, age_s = plugin.spec, self._desk.now - worker.started_at
        if _has_had_enough(spec, worker):
            what = f"has had {worker.ended_jobs} jobs, max_jobs = {spec.max_jobs}"
            return "max_jobs", f"worker {worker.pid} {what}"
        if spec.max_age_s is not None and age_s >= spec.max_age_s:
            limit = format_duration(spec.max_age_s)
            what = f"is {format_duration(age_s)} old, max_age = {limit}"
            return "max_age", f"worker {worker.pid} {what}"
        is_resting = self._desk.now < plugin.vain_recycles.until
        if spec.max_rss_bytes is not None and taken > spec.max_rss_bytes and not is_resting:
            what = f"takes {format_size(taken)}, max_rss = {format_size(spec.max_rss_bytes)}"
            return "max_rss", f"worker {worker.pid} {what}"
        return None

    def _answer(self, plugin: Plugin, live: Generation, reached: Reached) -> None:
        key, occasion = reached
        if key == "max_rss" and self._is_vain(plugin, live):
            self._rest(plugin, live, occasion)
            return
        change = Changeover(plugin.name, live.spec, "recycle", who=key, target=live.release)
        change.occasion = occasion
        self._changes.request(plugin, change)

    def _is_vain(self, plugin: Plugin, live: Generation) -> bool:
        """Fresh workers take too much already: fresher ones would, too. Said once of each."""
        if plugin.vain_recycles.generation == live.number:
            return False
        if self._desk.now - live.loaded_at < SOON_S:
            return True
        plugin.vain_recycles.times = 0
        return False

    def _rest(self, plugin: Plugin, live: Generation, occasion: str) -> None:
        pause_s = plugin.vain_recycles.begin(self._desk.now, live.number)
        if plugin.vain_recycles.times == 1:
            longest = format_duration(LONGEST_PAUSE_S)
            self._desk.narrate(
                "warning",
                plugin.name,
                f"{occasion}, although it is fresh: recycling may not help\n"
                f"  it is tried in {pause_s:.1f} s, then less and less often, down to once in "
                f"{longest}; if {live.release} needs that much, raise max_rss",
            )

    def refused(self, plugin: Plugin) -> float:
        """A recycle failed before its cut; returns in how many seconds it is tried again."""
        number = plugin.live.number if plugin.live is not None else 0
        if plugin.refused_recycles.generation != number:
            plugin.refused_recycles.times = 0
        return plugin.refused_recycles.begin(self._desk.now, number)


def _has_had_enough(spec: PluginSpec, worker: Worker) -> bool:
    if spec.max_jobs is None:
        return False
    return worker.ended_jobs >= spec.max_jobs - int(spec.max_jobs * EARLIER * worker.jitter)
