"""Cancels and deadlines: a job that nobody wants any more, and a worker that will not let go."""

from __future__ import annotations

from collections.abc import Callable

from .desk import Desk
from .job import Job
from .orders import Tell
from .outcomes import Outcomes
from .plugin import Plugin
from .states import JobState
from .worker import Worker


class Cancelling:
    """Queued: ends at once. Running: the worker is asked, and has `kill_grace` to answer."""

    def __init__(self, desk: Desk, outcomes: Outcomes) -> None:
        self._desk = desk
        self._outcomes = outcomes
        self.on_overdue: Callable[[Worker], None] = lambda _: None  # set by the core

    def arm(self, plugin: Plugin, job: Job, left_s: float | None) -> None:
        """Its deadline runs from its submission, through queue, holds, runs and re-runs."""
        if left_s is not None:
            job.timer = self._desk.arm(left_s, self.cancel, plugin, job, "timeout")

    def cancel(self, plugin: Plugin, job: Job, reason: str) -> None:
        """End a job that is not wanted (client, disconnected) or is late (timeout, late).

        The answer of a worker that can cancel is the outcome; from one that cannot the caller
        gets `maybe` at once. A worker that still holds the job after `kill_grace` is killed as
        soon as it runs no other.
        """
        if job.has_ended or job.cancel_reason is not None:
            return
        job.cancel_reason = reason
        worker = job.worker
        if job.is_held:
            job.attempts -= 1  # it was never sent
        if job.state is JobState.QUEUED or worker is None or job.is_held:
            self._outcomes.cancelled(plugin, job)
            return
        can_cancel = "cancel" in worker.capabilities
        if can_cancel:
            self._desk.give(Tell(worker, "cancel", [job.id, reason]))
        if not can_cancel or reason == "late":
            self._outcomes.cancelled(plugin, job)
        self._desk.arm(plugin.spec.kill_grace_s, self._outlived, plugin, worker, job)

    def kill(self, plugin: Plugin, job: Job, reason: str) -> None:
        """The same without `kill_grace`."""
        worker = job.worker
        self.cancel(plugin, job, reason)
        if worker is not None and not job.is_held:
            self._outlived(plugin, worker, job)

    def _outlived(self, plugin: Plugin, worker: Worker, job: Job) -> None:
        """The worker still holds it: its caller waits no longer, and the worker must go."""
        if worker.jobs.get(job.id) is not job:
            return
        if not job.has_ended:
            self._outcomes.cancelled(plugin, job)
        worker.overdue.add(job.id)
        self.on_overdue(worker)
