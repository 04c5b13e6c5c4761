"""What must be true of the core's books after every step, and of everything at the end.

This runs after each of tens of thousands of steps a second: no text is made unless it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from changeover.supervisor.generation import Generation
from changeover.supervisor.past import Past
from changeover.supervisor.plugin import Plugin
from changeover.supervisor.states import Gate, Restart, WorkerState

from .sim_law import EPSILON, LONGEST_GRACE_S, Violation, require

if TYPE_CHECKING:
    from .sim_worker import Process
    from .sim_world import World


class Books:
    """Counts, places and limits."""

    def __init__(self, world: World) -> None:
        self._world = world

    # -- after every step

    def check(self) -> None:
        """Everything."""
        starting, now = 0, self._world.now
        for process in self._world.processes.values():
            if process.worker.state is WorkerState.STARTING:
                starting += 1
                self._check_start(process, now)
            if process.holds:
                self._check_wanted(process, now)
        if starting > self._world.max_spawns:
            raise Violation(f"{starting} workers start at once")
        for plugin in self._world.core.plugins.values():
            self._check_plugin(plugin)

    def _check_start(self, process: Process, now: float) -> None:
        worker = process.worker
        limit_s = process.warm_timeout_s + worker.clock.extra_s
        if now - process.begun_at > limit_s + EPSILON:
            raise Violation(f"{worker} starts since {process.begun_at:.3f}")

    def _check_wanted(self, process: Process, now: float) -> None:
        """A worker that holds nothing but jobs that nobody wants any more must go."""
        has_wanted = any(job.is_held for job in process.worker.jobs.values())
        for job in process.holds.values():
            if job.cancel_reason is None:
                has_wanted = True
            else:
                process.unwanted.setdefault(job.id, now)
        if has_wanted or process.is_doomed or process.is_dying:
            return
        newest = max(process.unwanted[job_id] for job_id in process.holds)
        if now - newest > LONGEST_GRACE_S + EPSILON:
            raise Violation(f"{process.worker} keeps {list(process.holds)}")

    def _check_plugin(self, plugin: Plugin) -> None:
        counts = plugin.counts
        open_jobs = len(plugin.jobs) - len(plugin.lobby)
        ended = counts.done + counts.failed + counts.cancelled + counts.lost
        if counts.accepted != ended + open_jobs:
            raise Violation(f"{plugin.name}: {counts}, {open_jobs} open")
        running, alive = 0, 0
        for generation in plugin.generations.values():
            running += self._check_generation(generation)
            alive += generation.is_alive
        if open_jobs != len(plugin.queue) + running:
            raise Violation(f"{plugin.name}: a job is nowhere")
        if alive > 2:
            raise Violation(f"{plugin.name}: {alive} generations are alive")
        if plugin.gate is Gate.HELD and plugin.change is None:
            raise Violation(f"{plugin.name} is held by nobody")
        if plugin.watch is not None and plugin.watch.generation is not plugin.live:
            raise Violation(f"{plugin.name}: what is watched does not serve")
        self._check_idle(plugin)

    def _check_generation(self, generation: Generation) -> int:
        """Returns how many jobs run whose callers wait."""
        running, processes = 0, self._world.processes
        for worker in (*generation.workers.values(), *generation.leaving):
            if worker.generation is not generation:
                raise Violation(f"{worker} belongs elsewhere")
            for job in worker.jobs.values():
                running += not job.has_ended
            process = processes.get(worker.id)
            if process is not None and process.holds.keys() != worker.jobs.keys():
                sent = {job.id for job in worker.jobs.values() if not job.is_held}
                if process.holds.keys() != sent:
                    raise Violation(f"{worker} holds others")
        return running

    def _check_idle(self, plugin: Plugin) -> None:
        """No job waits while a worker could take it."""
        live = plugin.live
        if live is None or plugin.gate is not Gate.OPEN or not plugin.queue:
            return
        head = next(iter(plugin.queue))
        if head.key is None:
            for worker in live.workers.values():
                if worker.can_take(live.loaded.concurrency):
                    raise Violation(f"{head.id} waits and {worker} is idle")

    # -- at the end

    def check_quiet(self) -> None:
        """Everybody is well and nobody wants anything: nothing may be left."""
        world = self._world
        self.check_settled()
        for change in world.changes:
            require(change.has_ended, f"never ended: {change.reason} in {change.step}")
        for plugin in world.core.plugins.values():
            self._check_quiet_plugin(plugin)
        require(world.core.next_due() is None, "a timer is left")

    def _check_quiet_plugin(self, plugin: Plugin) -> None:
        name = plugin.name
        require(plugin.change is None and plugin.pending is None, f"{name} still changes")
        require(plugin.watch is None, f"{name} is still watched")
        require(not plugin.busy_keys, f"{name}: keys {plugin.busy_keys} stay busy")
        require(plugin.gate is Gate.OPEN, f"{name} stays {plugin.gate}")
        require(not plugin.has_others_alive, f"{name}: an older generation is left over")
        again = Past(self._world.change_laws.history).plugin(plugin.spec)
        require(again.served == plugin.served, f"{name}: the history says {again.served}")
        live = plugin.live
        if live is not None and live.restart is Restart.RUNNING:
            ready = len(live.ready())
            require(ready == live.spec.workers, f"{name}: {ready} of {live.spec.workers} serve")
        elif live is not None:
            require(live.restart is Restart.FAILED, f"{name} stays in back-off")

    def check_settled(self) -> None:
        """1: every job that was taken has its outcome."""
        left = list(self._world.job_laws.open)
        require(not left, f"never settled: {left[:5]}")

    def check_stopped(self) -> None:
        """After a stop nothing is left at all."""
        world = self._world
        self.check_settled()
        require(world.core.is_idle, "stopped, and not idle")
        require(not world.processes, f"left running: {list(world.processes)}")
        for plugin in world.core.plugins.values():
            require(plugin.live is None and not plugin.generations, f"{plugin.name} is left")
