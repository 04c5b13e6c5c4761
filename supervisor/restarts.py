"""What follows a death of the generation that serves: a new worker at once, later, or never.

Counted per digest, so that a crash loop follows its content through restarts and changeovers.
"""

from __future__ import annotations

from ..protocol.errors import Fault
from .accepting import unavailable
from .back_off import back_off_s
from .desk import Desk
from .fleet import Fleet
from .generation import Generation
from .job import Job
from .outcomes import Outcomes
from .plugin import Plugin
from .rollbacks import Condemned, Rollbacks
from .states import Restart
from .worker import Worker


class Restarts:
    """The restart policy of the generations that serve."""

    def __init__(self, desk: Desk, outcomes: Outcomes, fleet: Fleet, rollbacks: Rollbacks) -> None:
        self._desk = desk
        self._outcomes = outcomes
        self._fleet = fleet
        self._rollbacks = rollbacks

    def saw_death(
        self, plugin: Plugin, worker: Worker, death: Fault, jobs: list[Job]
    ) -> Condemned | None:
        """Count it, and let the watch judge it, before its jobs are judged."""
        digest = worker.generation.release.digest
        plugin.deaths[digest] = [*self._recent_deaths(plugin, digest), self._desk.now]
        deaths = len(plugin.deaths[digest])
        self._say_death(plugin, worker, death, jobs, deaths)
        watch = plugin.watch
        if watch is None or watch.generation is not worker.generation:
            return None
        cause = watch.saw_death([job for job in jobs if not job.has_ended], death.message)
        if not cause and deaths > plugin.spec.crash_loop_count:
            cause = f"{deaths} workers died: {death.message}"
        return self._rollbacks.condemn(plugin, cause) if cause else None

    def _recent_deaths(self, plugin: Plugin, digest: str) -> list[float]:
        since = self._desk.now - plugin.spec.crash_loop_window_s
        return [when for when in plugin.deaths.get(digest, ()) if when > since]

    def _say_death(
        self, plugin: Plugin, worker: Worker, death: Fault, jobs: list[Job], count: int
    ) -> None:
        loaded = worker.generation.loaded
        waited_for = [job for job in jobs if not job.has_ended and job.cancel_reason is None]
        again = sum(job.idempotent or loaded.is_pure(job.method) for job in waited_for)
        of = f", job {waited_for[0].id}" if waited_for else ""
        limit = plugin.spec.crash_loop_count
        restart = f"; restart {count} of {limit}" if count <= limit else ""
        state = ", and its state" if "state" in loaded.capabilities else ""
        self._desk.narrate(
            "warning",
            plugin.name,
            f"worker {worker.pid} {death.message}{of}\n"
            f"  {again} re-run, {len(waited_for) - again} lost{state}{restart}",
        )

    def answer(self, plugin: Plugin, generation: Generation) -> None:
        """Its jobs are back in the queue: start another worker, if this generation still serves."""
        if not _serves_on(plugin, generation):
            return
        deaths = len(self._recent_deaths(plugin, generation.release.digest))
        if deaths > plugin.spec.crash_loop_count:
            self._fail(plugin, generation, deaths)
        elif deaths <= 1 and not generation.unlucky and generation.restart is Restart.RUNNING:
            self._fleet.fill(generation)
        else:
            self._back_off(plugin, generation, max(0, deaths - 2) + generation.unlucky)

    def saw_excess(self, plugin: Plugin, generation: Generation) -> None:
        """We are killing a worker for its memory: start another, but not without end.

        That counts for no crash loop; what is killed again and again is started less often.
        """
        since = self._desk.now - plugin.spec.crash_loop_window_s
        recent = [when for when in generation.excesses if when > since]
        generation.excesses = [*recent, self._desk.now]
        if not _serves_on(plugin, generation):
            return
        if not recent and generation.restart is Restart.RUNNING:
            self._fleet.fill(generation)
        else:
            self._back_off(plugin, generation, max(0, len(recent) - 1))

    def _back_off(self, plugin: Plugin, generation: Generation, times: int) -> None:
        generation.turn("back_off")
        if generation.back_off is not None:
            generation.back_off.cancel()
        delay_s = back_off_s(plugin.spec, times) * (0.5 + self._desk.jitter() / 2)
        generation.back_off = self._desk.arm(delay_s, self._restart, plugin, generation)
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
        self._outcomes.refuse_waiting(plugin, unavailable(plugin))
        for worker in list(generation.workers.values()):
            self.retire_if_failed(worker)
        self._desk.narrate(
            "error",
            plugin.name,
            f"failed: {plugin.failure}\n  jobs are refused; fix it and save, or: "
            f"changeover reload {plugin.name}",
        )
        self._desk.show_plugin(plugin)

    def retire_if_failed(self, worker: Worker) -> None:
        """A worker of a failed generation finishes what it has and leaves."""
        if worker.generation.restart is Restart.FAILED and not worker.jobs:
            self._fleet.ladder.stop(worker, "retire")


def _serves_on(plugin: Plugin, generation: Generation) -> bool:
    """It has not failed, and is not being left."""
    if plugin.live is not generation or generation.restart is Restart.FAILED:
        return False
    change = plugin.change
    return change is None or change.undoes is None or change.has_cut
