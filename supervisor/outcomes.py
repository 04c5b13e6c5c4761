"""How a job ends: the one place where it does, and what its caller is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..protocol.errors import Code, Fault
from .desk import Desk
from .job import Job
from .orders import Settle
from .plugin import Plugin
from .states import JobState

# What a fault makes of the job; every other code: failed.
ENDS = {Code.CANCELLED: "cancel", Code.WORKER_LOST: "lose", Code.POISONED: "lose"}
LATE = ("timeout", "late")  # reasons of a DEADLINE; the others are of a CANCELLED


class Outcomes:
    """Ends jobs. The job's own table makes sure that each ends once."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.jobs: dict[str, Job] = {}  # every job that has not ended, by id
        self.on_room: Callable[[Plugin], None] = lambda _: None  # set by the routing

    def done(self, plugin: Plugin, job: Job, result: bytes) -> None:
        """It has a result."""
        job.result = result
        self._end(plugin, job, "finish")

    def failed(self, plugin: Plugin, job: Job, fault: Fault) -> None:
        """It has none; the code of the fault says whether it failed, was cancelled or lost."""
        job.fault = _about(plugin, job, fault)
        self._end(plugin, job, ENDS.get(fault.code, "fail"))  # type: ignore[call-overload]

    def cancelled(self, plugin: Plugin, job: Job) -> None:
        """Its caller wanted that, or it is late."""
        executed = "maybe" if job.attempts else "no"
        reason = job.cancel_reason or "client"
        if reason in LATE:
            limit = f" of {job.timeout_s:g} s" if reason == "timeout" and job.timeout_s else ""
            code, message = Code.DEADLINE, f"not done within its deadline{limit}"
        else:
            code, message = Code.CANCELLED, f"cancelled ({reason})"
        self.failed(plugin, job, Fault.new(code, message, executed=executed, reason=reason))

    def refuse_waiting(self, plugin: Plugin, fault: Fault) -> None:
        """End everything that waits: nobody will run it."""
        lobby = list(plugin.lobby)
        plugin.lobby.clear()  # first: what leaves the queue must not let these in
        for job in [*lobby, *plugin.queue]:
            executed = {"executed": "maybe"} if job.attempts else {}
            self.failed(plugin, job, Fault(fault.code, fault.message, {**fault.data, **executed}))

    def _end(self, plugin: Plugin, job: Job, event: str) -> None:
        was_queued = job.state is JobState.QUEUED
        job.turn(event)
        if job.timer is not None:
            job.timer.cancel()
            job.timer = None
        del self.jobs[job.id]
        del plugin.jobs[job.id]
        if job.seq:
            plugin.counts.count(job.state)
        self._desk.give(Settle(job))
        if was_queued:
            self._leave_queue(plugin, job)

    def _leave_queue(self, plugin: Plugin, job: Job) -> None:
        if job.seq:
            plugin.queue.forget()
            job.queued_s += self._desk.now - job.queued_at
        elif job in plugin.lobby:
            plugin.lobby.remove(job)
        if plugin.lobby:
            self.on_room(plugin)


def _about(plugin: Plugin, job: Job, fault: Fault) -> Fault:
    """The same fault with what the supervisor knows of the job."""
    known: dict[str, Any] = {"job": job.id, "plugin": plugin.name, "attempt": job.attempts}
    if job.release is not None:
        known["release"] = job.release.number
        known["generation"] = job.generation
    return Fault(fault.code, fault.message, {**fault.data, **known})
