"""Jobs between callers, the queue and the workers. The hot path of the core.

The queue belongs to the plugin; a worker only borrows jobs. How jobs end is in `outcomes.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from ..protocol.errors import Code, Fault
from .cancelling import Cancelling
from .desk import Desk
from .generation import Generation
from .job import Job
from .orders import Admit, Dispatch
from .outcomes import Outcomes
from .plugin import Plugin
from .states import Gate, Restart
from .worker import Worker

CANCELLED_CODES = (Code.CANCELLED, Code.DEADLINE)
PLUGIN_CODES = 10000


def is_plugin_error(fault: Fault) -> bool:
    """Did the plugin itself fail, rather than the caller or the supervisor?"""
    return fault.code in (Code.JOB_FAILED, Code.RESULT_INVALID) or fault.code >= PLUGIN_CODES


def unavailable(plugin: Plugin) -> Fault:
    """What callers of a failed plugin are told."""
    reason = plugin.failure or "crash loop"
    return Fault.new(
        Code.UNAVAILABLE, f"{plugin.name} has failed: {reason}", plugin=plugin.name, reason="failed"
    )


class Routing:
    """Accepts jobs, lends them to workers, takes them back."""

    def __init__(self, desk: Desk, outcomes: Outcomes, cancelling: Cancelling) -> None:
        self._desk = desk
        self._outcomes = outcomes
        self._cancelling = cancelling
        outcomes.on_room = self.dispatch
        # Set by the core: a worker has given a job back.
        self.on_end: Callable[[Plugin, Worker, Job, Fault | None], None] = lambda *_: None

    # -- accepting

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
        self._cancelling.arm(plugin, job)
        if has_room:
            self._accept(plugin, job)
            self.dispatch(plugin)
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

    def _accept(self, plugin: Plugin, job: Job) -> None:
        plugin.last_seq += 1
        job.seq = plugin.last_seq
        plugin.counts.accepted += 1
        plugin.queue.put(job)

    def _admit(self, plugin: Plugin) -> bool:
        """Let the lobby into the queue as far as there is room; was there any?"""
        room = plugin.spec.queue - len(plugin.queue)
        for _ in range(min(room, len(plugin.lobby))):
            job = plugin.lobby.popleft()
            self._accept(plugin, job)
            self._desk.give(Admit(job))
        return room > 0

    # -- lending

    def dispatch(self, plugin: Plugin) -> None:
        """Lend the oldest jobs to whoever has room, the least busy first."""
        self._lend_all(plugin)
        while plugin.lobby and self._admit(plugin):
            self._lend_all(plugin)

    def _lend_all(self, plugin: Plugin) -> None:
        live = plugin.live
        if live is None or plugin.gate is not Gate.OPEN or not plugin.queue:
            return
        if live.restart is Restart.FAILED:
            self._outcomes.refuse_waiting(plugin, unavailable(plugin))
            return
        limit = live.loaded.concurrency
        free = [worker for worker in live.workers.values() if worker.can_take(limit)]
        while free and plugin.queue:
            worker = free[0] if len(free) == 1 else min(free, key=_load)
            if not self._lend(plugin, live, worker) or len(worker.jobs) >= limit:
                free.remove(worker)

    def _lend(self, plugin: Plugin, live: Generation, worker: Worker) -> bool:
        """Give a worker the oldest job that it may have; False if there is none."""
        slots, busy = live.spec.workers, plugin.busy_keys

        def fits(key: str) -> bool:
            return key not in busy and crc32(key.encode()) % slots == worker.slot

        job = plugin.queue.take(fits)
        if job is None:
            return False
        job.turn("dispatch")
        job.attempts += 1
        job.worker = worker
        job.generation = live.number
        job.release = live.release
        job.started_at = self._desk.now
        job.queued_s += job.started_at - job.queued_at
        worker.jobs[job.id] = job
        if job.key is not None:
            busy.add(job.key)
        self._desk.give(Dispatch(worker, job))
        return True

    # -- taking back

    def answered(
        self, plugin: Plugin, worker: Worker, job_id: str, fault: Fault | None, result: bytes
    ) -> bool:
        """A worker answered a job. False: it holds no such job (a stray answer)."""
        job = worker.jobs.pop(job_id, None)
        if job is None:
            return False
        self._return(plugin, worker, job)
        if not job.has_ended:
            job.ran_s += self._desk.now - job.started_at
            self._judge_answer(plugin, job, fault, result)
        self.on_end(plugin, worker, job, fault)
        if plugin.queue or plugin.lobby:
            self.dispatch(plugin)
        return True

    def _return(self, plugin: Plugin, worker: Worker, job: Job) -> None:
        worker.overdue.discard(job.id)
        worker.ended_jobs += 1
        if job.key is not None:
            plugin.busy_keys.discard(job.key)

    def _judge_answer(self, plugin: Plugin, job: Job, fault: Fault | None, result: bytes) -> None:
        is_wanted = job.cancel_reason is None
        if fault is None:
            self._outcomes.done(plugin, job, result)
        elif not is_wanted and fault.code in CANCELLED_CODES:
            self._outcomes.cancelled(plugin, job)
        elif is_wanted and is_plugin_error(fault) and job.errors < plugin.spec.retries:
            job.errors += 1
            self._requeue(plugin, job)
        else:
            self._outcomes.failed(plugin, job, fault)

    def _requeue(self, plugin: Plugin, job: Job) -> None:
        job.turn("requeue")
        job.worker = None
        job.queued_at = self._desk.now
        plugin.counts.rerun += 1
        plugin.queue.put(job)

    def take_back(self, plugin: Plugin, worker: Worker, death: Fault, *, unexplained: bool) -> None:
        """A worker is gone: what it had borrowed goes back to its place, or its caller is told.

        `death` says how it died. An unexplained death counts against its jobs (`poison`).
        """
        jobs = sorted(worker.jobs.values(), key=lambda job: job.seq)
        worker.jobs.clear()
        for job in jobs:
            self._return(plugin, worker, job)
            if not job.has_ended:
                job.ran_s += self._desk.now - job.started_at
                if unexplained:
                    job.deaths = (*job.deaths, worker.generation.number)
                self._judge_death(plugin, worker, job, death)
        self.dispatch(plugin)

    def _judge_death(self, plugin: Plugin, worker: Worker, job: Job, death: Fault) -> None:
        counted = sum(number not in plugin.rolled_back for number in job.deaths)
        may_run_again = job.idempotent or worker.generation.loaded.is_pure(job.method)
        if job.cancel_reason is not None:
            self._outcomes.cancelled(plugin, job)
        elif worker.cause == "stop" or not may_run_again:
            lost = {**death.data, "retryable": may_run_again}
            self._outcomes.failed(plugin, job, Fault(death.code, death.message, lost))
        elif counted >= plugin.spec.poison:
            self._forgive_release(plugin, worker.generation.release.digest, counted)
            self._outcomes.failed(plugin, job, _poisoned(plugin, death, counted))
        else:
            self._requeue(plugin, job)

    def _forgive_release(self, plugin: Plugin, digest: str, deaths: int) -> None:
        """A poison job is to blame for its deaths, so the release is not."""
        times = plugin.deaths.get(digest, [])
        del times[max(0, len(times) - deaths) :]


def _load(worker: Worker) -> int:
    return len(worker.jobs)


def _may_wait(plugin: Plugin, block_s: float | None) -> bool:
    return plugin.spec.full == "block" if block_s is None else block_s > 0


def _busy(plugin: Plugin) -> Fault:
    return Fault.new(
        Code.BUSY,
        f"the queue of {plugin.name} is full ({plugin.spec.queue} waiting)",
        plugin=plugin.name,
        retry_after_ms=100,
    )


def _poisoned(plugin: Plugin, death: Fault, deaths: int) -> Fault:
    how = {key: death.data[key] for key in death.data.keys() - {"retryable", "executed"}}
    return Fault.new(
        Code.POISONED,
        f"this job ended {deaths} workers of {plugin.name}; it is not run again",
        **how,
    )
