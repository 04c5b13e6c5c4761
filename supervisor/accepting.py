"""Which jobs get into a plugin's queue: now, later from the lobby, or never.

A job is accepted when it has its place in the queue; before that it is nobody's promise.
"""

from __future__ import annotations

from collections.abc import Callable

from ..protocol.errors import Code, Fault
from .cancelling import Cancelling
from .desk import Desk
from .job import Job
from .orders import Admit
from .outcomes import Outcomes
from .plugin import Plugin
from .states import Gate


class Accepting:
    """The door of every queue."""

    def __init__(self, desk: Desk, outcomes: Outcomes, cancelling: Cancelling) -> None:
        self._desk = desk
        self._outcomes = outcomes
        self._cancelling = cancelling
        self.on_accepted: Callable[[Plugin], None] = lambda _: None  # set by the routing

    def submit(self, plugin: Plugin, job: Job, *, block_s: float | None = None) -> bool:
        """Accept a job, or let it wait for room in the queue; True if it was accepted now.

        Raises Fault STOPPING, UNAVAILABLE, BUSY or CONFLICT: then it never was a job.
        """
        jobs = self._outcomes.jobs
        if job.id in jobs:
            raise Fault.new(Code.CONFLICT, f"job {job.id} is under way", job=job.id)
        self._check_open(plugin)
        if job.timeout_s is None:
            job.timeout_s = plugin.spec.timeout_s
        job.queued_at = self._desk.now
        has_room = len(plugin.queue) < plugin.spec.queue and not plugin.lobby
        if not has_room and not _may_wait(plugin, block_s):
            raise _busy(plugin)
        jobs[job.id] = plugin.jobs[job.id] = job
        self._cancelling.arm(plugin, job, job.timeout_s)
        if has_room:
            self._accept(plugin, job)
            self.on_accepted(plugin)
        else:
            plugin.lobby.append(job)
            if block_s is not None:
                self._desk.arm(block_s, self._turn_away, plugin, job)
        return has_room

    def _check_open(self, plugin: Plugin) -> None:
        state = plugin.state
        if self._desk.is_stopping:
            raise Fault.new(Code.STOPPING, "the supervisor is stopping", plugin=plugin.name)
        if state == "closed":
            raise Fault.new(Code.STOPPING, f"{plugin.name} is being removed", plugin=plugin.name)
        if state == "failed":
            raise unavailable(plugin)
        if plugin.gate is Gate.SHUT and plugin.rejects:
            raise Fault.new(
                Code.UNAVAILABLE, f"{plugin.name} is paused", plugin=plugin.name, reason="paused"
            )
        if plugin.gate is Gate.HELD and plugin.holds_since is not None:
            held_s = self._desk.now - plugin.holds_since
            if held_s > plugin.spec.hold_timeout_s:
                raise Fault.new(
                    Code.BUSY,
                    f"{plugin.name} is held by a changeover for {held_s:.1f} s",
                    plugin=plugin.name,
                    reason="holding",
                )

    def _turn_away(self, plugin: Plugin, job: Job) -> None:
        """Its `block_ms` is over and there was no room: it was never accepted."""
        if job in plugin.lobby:
            self._outcomes.failed(plugin, job, _busy(plugin))

    def restore(self, plugin: Plugin, job: Job, left_s: float | None) -> None:
        """Take what a supervisor before this one had accepted: there is always room for it."""
        self._outcomes.jobs[job.id] = plugin.jobs[job.id] = job
        job.queued_at = self._desk.now
        self._cancelling.arm(plugin, job, left_s)
        self._accept(plugin, job)
        job.is_durable = job.is_accepted = True

    def _accept(self, plugin: Plugin, job: Job) -> None:
        plugin.last_seq += 1
        job.seq = plugin.last_seq
        # The items of a stream go to one session, which no journal can bring back.
        job.is_durable = plugin.spec.durable and "stream" not in (job.options or ())
        job.is_accepted = not job.is_durable  # else the shell says when
        plugin.counts.accepted += 1
        plugin.queue.put(job)

    def admit(self, plugin: Plugin) -> bool:
        """Let the lobby into the queue as far as there is room; was there any?"""
        room = plugin.spec.queue - len(plugin.queue)
        for _ in range(min(room, len(plugin.lobby))):
            job = plugin.lobby.popleft()
            self._accept(plugin, job)
            self._desk.give(Admit(job))
        return room > 0


def unavailable(plugin: Plugin) -> Fault:
    """What callers of a failed plugin are told."""
    reason = plugin.failure or "crash loop"
    return Fault.new(
        Code.UNAVAILABLE, f"{plugin.name} has failed: {reason}", plugin=plugin.name, reason="failed"
    )


def _may_wait(plugin: Plugin, block_s: float | None) -> bool:
    return plugin.spec.full == "block" if block_s is None else block_s > 0


def _busy(plugin: Plugin) -> Fault:
    return Fault.new(
        Code.BUSY,
        f"the queue of {plugin.name} is full ({plugin.spec.queue} waiting)",
        plugin=plugin.name,
        retry_after_ms=100,
    )
