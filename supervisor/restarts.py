"""What follows an unexplained death: a new worker at once, later, or never.

Counted per digest, so that a crash loop follows its content through restarts and changeovers.
"""

from __future__ import annotations

from ..protocol.errors import Fault
from .changes import Changes
from .desk import Desk
from .fleet import Fleet
from .model import Generation, Job, Plugin, Worker
from .routing import Routing
from .states import Restart


class Restarts:
    """The restart policy of the generations that serve."""

    def __init__(self, desk: Desk, routing: Routing, fleet: Fleet, changes: Changes) -> None:
        self._desk = desk
        self._routing = routing
        self._fleet = fleet
        self._changes = changes

    def saw_death(self, plugin: Plugin, worker: Worker, death: Fault, jobs: list[Job]) -> None:
        """Count it, and let the watch judge it, before its jobs are judged."""
        digest = worker.generation.release.digest
        window_s = plugin.spec.crash_loop_window_s
        times = plugin.deaths.setdefault(digest, [])
        times[:] = [t for t in times if self._desk.now - t < window_s]
        times.append(self._desk.now)
        watch = plugin.watch
        if watch is not None and watch.generation is worker.generation:
            held = [job for job in jobs if not job.has_ended]
            cause = watch.saw_death(held, death.message)
            looping = len(times) >= plugin.spec.crash_loop_count
            if cause or looping:
                self._changes.roll_back(plugin, cause or f"{len(times)} deaths: {death.message}")
        self._say_death(plugin, worker, death, jobs, len(times))

    def _say_death(
        self, plugin: Plugin, worker: Worker, death: Fault, jobs: list[Job], count: int
    ) -> None:
        methods = worker.generation.loaded.methods
        again = [j for j in jobs if j.idempotent or methods.get(j.method, (False,))[0]]
        lost = len(jobs) - len(again)
        of = f", job {jobs[0].id}" if jobs else ""
        self._desk.narrate(
            "warning",
            plugin.name,
            f"worker {worker.pid} {death.message}{of}\n  {len(again)} re-run, {lost} lost; "
            f"restart {count} of {plugin.spec.crash_loop_count}",
        )

    def answer(self, plugin: Plugin, generation: Generation) -> None:
        """Its jobs are back in the queue: start another worker, if this generation still serves."""
        if plugin.live is not generation or generation.restart is Restart.FAILED:
            return
        deaths = len(plugin.deaths.get(generation.release.digest, ()))
        if deaths >= plugin.spec.crash_loop_count:
            self._fail(plugin, generation, deaths)
        elif deaths <= 1 and generation.restart is Restart.RUNNING:
            self._fleet.fill(generation)
        else:
            generation.turn("back_off")
            low_s, high_s = plugin.spec.restart_min_s, plugin.spec.restart_max_s
            delay_s = min(high_s, low_s * 2 ** max(0, deaths - 2)) * (0.5 + self._desk.jitter() / 2)
            self._desk.arm(delay_s, self._restart, plugin, generation)
            self._desk.show_plugin(plugin)

    def _restart(self, plugin: Plugin, generation: Generation) -> None:
        if plugin.live is generation and generation.restart is Restart.BACKOFF:
            generation.turn("restart")
            self._fleet.fill(generation)
            self._desk.show_plugin(plugin)

    def _fail(self, plugin: Plugin, generation: Generation, deaths: int) -> None:
        generation.turn("fail")
        window_s = plugin.spec.crash_loop_window_s
        plugin.failure = f"{deaths} workers died within {window_s:g} s"
        self._routing.refuse_all(plugin, self._changes.unavailable(plugin))
        for worker in list(generation.workers.values()):
            if not worker.jobs:
                self._fleet.stop(worker, "retire")
        self._desk.narrate(
            "error",
            plugin.name,
            f"failed: {plugin.failure}\n  jobs are refused; fix it and save, or: "
            f"changeover reload {plugin.name}",
        )
        self._desk.show_plugin(plugin)
