"""Jobs between the queue and the workers. The hot path of the core.

The queue belongs to the plugin; a worker only borrows jobs. How they get into the queue is in
`accepting.py`, how they end in `outcomes.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from ..protocol.errors import Code, Fault
from .accepting import Accepting, unavailable
from .desk import Desk
from .generation import Generation
from .job import Job
from .orders import Dispatch
from .outcomes import Outcomes
from .plugin import Plugin
from .states import Gate, Restart, WorkerState
from .worker import Worker

CANCELLED_CODES = (Code.CANCELLED, Code.DEADLINE)
PLUGIN_CODES = 10000


def is_plugin_error(fault: Fault) -> bool:
    """Did the plugin itself fail, rather than the caller or the supervisor?"""
    return fault.code in (Code.JOB_FAILED, Code.RESULT_INVALID) or fault.code >= PLUGIN_CODES


class Routing:
    """Lends jobs to workers and takes them back."""

    def __init__(self, desk: Desk, outcomes: Outcomes, accepting: Accepting) -> None:
        self._desk = desk
        self._outcomes = outcomes
        self._accepting = accepting
        accepting.on_accepted = outcomes.on_room = self.dispatch
        # Set by the core: a worker has answered a job; it has one less, however that came.
        self.on_end: Callable[[Plugin, Worker, Job, Fault | None], None] = lambda *_: None
        self.on_freed: Callable[[Plugin, Worker], None] = lambda *_: None

    # -- lending

    def dispatch(self, plugin: Plugin) -> None:
        """Lend the oldest jobs to whoever has room, the least busy first."""
        self._lend_all(plugin)
        while plugin.lobby and self._accepting.admit(plugin):
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
        job.is_held = job.is_durable
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

    def begin(self, plugin: Plugin, worker: Worker, job: Job) -> bool:
        """The journal has it that this job begins there: may it, still?

        Else it has ended, or it goes back to its place: as if it had not been lent.
        """
        if worker.jobs.get(job.id) is not job:
            return False
        if not job.has_ended and self._still_serves(plugin, worker):
            job.is_held = False
            job.generation = worker.generation.number  # which is new after a way back
            return True
        self._take_unsent(plugin, worker, job)
        return False

    def _still_serves(self, plugin: Plugin, worker: Worker) -> bool:
        is_live = worker.generation is plugin.live and worker.state is WorkerState.READY
        return is_live and plugin.gate is Gate.OPEN

    def refused(self, plugin: Plugin, job: Job, fault: Fault) -> None:
        """The journal cannot keep a new job: it is not accepted, and runs nowhere."""
        worker = job.worker
        if not job.has_ended:
            job.attempts = 0
            self._outcomes.failed(plugin, job, fault)
            plugin.counts.accepted -= 1
            plugin.counts.failed -= 1
        if worker is not None and worker.jobs.get(job.id) is job:
            self._take_unsent(plugin, worker, job)

    def _take_unsent(self, plugin: Plugin, worker: Worker, job: Job) -> None:
        del worker.jobs[job.id]
        self._return(plugin, worker, job)
        if not job.has_ended:
            self._requeue(plugin, job)
        self.on_freed(plugin, worker)
        self.dispatch(plugin)

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
        self.on_freed(plugin, worker)
        if plugin.queue or plugin.lobby:
            self.dispatch(plugin)
        return True

    def _return(self, plugin: Plugin, worker: Worker, job: Job) -> None:
        worker.overdue.discard(job.id)
        worker.ended_jobs += not job.is_held  # else it was never sent
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
        if job.is_held:
            job.is_held = False
            job.attempts -= 1
        else:
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
                if unexplained and not job.is_held:
                    job.deaths = (*job.deaths, worker.generation.number)
                job.kills += worker.cause == "memory" and not job.is_held
                self._judge_death(plugin, worker, job, death)
        self.dispatch(plugin)

    def _judge_death(self, plugin: Plugin, worker: Worker, job: Job, death: Fault) -> None:
        if job.is_held:  # it was never sent
            self._requeue(plugin, job)
            return
        counted = sum(number not in plugin.rolled_back for number in job.deaths)
        may_run_again = job.idempotent or worker.generation.loaded.is_pure(job.method)
        never_fits = worker.cause == "memory" and job.kills >= plugin.spec.poison
        if job.cancel_reason is not None:
            self._outcomes.cancelled(plugin, job)
        elif worker.cause == "stop" or not may_run_again or never_fits:
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


def _poisoned(plugin: Plugin, death: Fault, deaths: int) -> Fault:
    how = {key: death.data[key] for key in death.data.keys() - {"retryable", "executed"}}
    return Fault.new(
        Code.POISONED,
        f"this job ended {deaths} workers of {plugin.name}; it is not run again",
        **how,
    )
