"""Jobs: accept, dispatch, cancel, settle, take back. The hot path of the core.

The queue belongs to the plugin; a worker only borrows jobs. Whatever ends a job ends it here,
through `_settle`, and the job's own table makes sure that it happens once.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from ..protocol.errors import Code, Fault
from .desk import Desk
from .model import Job, Plugin, Worker
from .orders import Admit, Dispatch, Settle, Tell
from .states import Gate, JobState, WorkerState

CANCELLED_CODES = (Code.CANCELLED, Code.DEADLINE)
PLUGIN_CODES = 10000


def is_plugin_error(fault: Fault) -> bool:
    """Did the plugin itself fail, rather than the caller or the supervisor?"""
    return fault.code in (Code.JOB_FAILED, Code.RESULT_INVALID) or fault.code >= PLUGIN_CODES


class Routing:
    """Moves jobs between callers, queues and workers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.jobs: dict[str, Job] = {}  # every job that has not ended, by id
        # Set by the core: what the fleet and the changes want to know.
        self.on_end: Callable[[Plugin, Worker, Job, Fault | None], None] = lambda *_: None
        self.on_overdue: Callable[[Worker], None] = lambda _: None

    def submit(self, plugin: Plugin, job: Job, *, block_s: float | None = None) -> bool:
        """Accept a job, or let it wait for room in the queue; True if it was accepted now.

        Raises Fault STOPPING, UNAVAILABLE, BUSY or CONFLICT: then it never was a job.
        """
        if job.id in self.jobs:
            raise Fault.new(Code.CONFLICT, f"job {job.id} is under way", job=job.id)
        self._check_open(plugin, job)
        if job.timeout_s is None:
            job.timeout_s = plugin.spec.timeout_s
        job.queued_at = self._desk.now
        has_room = len(plugin.queue) < plugin.spec.queue and not plugin.lobby
        if not has_room and not self._may_wait(plugin, block_s):
            raise self._busy(plugin)
        self.jobs[job.id] = plugin.jobs[job.id] = job
        if job.timeout_s is not None:
            job.timer = self._desk.arm(job.timeout_s, self._deadline, plugin, job)
        if has_room:
            self._accept(plugin, job)
            self.dispatch(plugin)
        else:
            plugin.lobby.append(job)
            if block_s is not None:
                self._desk.arm(block_s, self._turn_away, plugin, job)
        return has_room

    def _check_open(self, plugin: Plugin, job: Job) -> None:
        state = plugin.state
        if self._desk.is_stopping or state == "closed":
            raise Fault.new(Code.STOPPING, "the supervisor is stopping", plugin=plugin.name)
        if state == "failed":
            reason = plugin.failure or "crash loop"
            raise Fault.new(
                Code.UNAVAILABLE, f"{plugin.name} has failed: {reason}", plugin=plugin.name
            )
        if plugin.gate is Gate.SHUT and plugin.rejects:
            raise Fault.new(
                Code.UNAVAILABLE, f"{plugin.name} is paused", plugin=plugin.name, reason="paused"
            )
        if plugin.holds_since is not None and plugin.gate is Gate.HELD:
            held_s = self._desk.now - plugin.holds_since
            if held_s > plugin.spec.hold_timeout_s:
                raise Fault.new(
                    Code.BUSY,
                    f"{plugin.name} is held by a changeover for {held_s:.1f} s",
                    plugin=plugin.name,
                    reason="holding",
                )

    def _may_wait(self, plugin: Plugin, block_s: float | None) -> bool:
        return plugin.spec.full == "block" if block_s is None else block_s > 0

    def _busy(self, plugin: Plugin) -> Fault:
        return Fault.new(
            Code.BUSY,
            f"the queue of {plugin.name} is full ({plugin.spec.queue} waiting)",
            plugin=plugin.name,
            retry_after_ms=100,
        )

    def _turn_away(self, plugin: Plugin, job: Job) -> None:
        """Its `block_ms` is over and there was no room: it was never accepted."""
        if job in plugin.lobby:
            plugin.lobby.remove(job)
            self._end(plugin, job, "fail", self._busy(plugin))

    def _accept(self, plugin: Plugin, job: Job) -> None:
        plugin.last_seq += 1
        job.seq = plugin.last_seq
        plugin.counts.accepted += 1
        plugin.queue.put(job)

    def _admit(self, plugin: Plugin) -> None:
        """Let the lobby into the queue as far as there is room."""
        while plugin.lobby and len(plugin.queue) < plugin.spec.queue:
            job = plugin.lobby.popleft()
            self._accept(plugin, job)
            self._desk.give(Admit(job))

    def dispatch(self, plugin: Plugin) -> None:
        """Lend the oldest jobs to whoever has room, the least busy first."""
        live = plugin.live
        if live is None or plugin.gate is not Gate.OPEN:
            return
        limit = live.loaded.concurrency
        moved = True
        while moved and plugin.queue:
            moved = False
            workers = [w for w in live.ready() if len(w.jobs) < limit]
            for worker in sorted(workers, key=lambda w: len(w.jobs)):
                moved = self._lend(plugin, worker) or moved
        if plugin.lobby:
            self._admit_and_dispatch(plugin)

    def _admit_and_dispatch(self, plugin: Plugin) -> None:
        before = plugin.last_seq
        self._admit(plugin)
        if plugin.last_seq != before:
            self.dispatch(plugin)

    def _lend(self, plugin: Plugin, worker: Worker) -> bool:
        """Give one job to a worker that has room."""
        slots = worker.generation.spec.workers

        def fits(job: Job) -> bool:
            key = job.key or ""
            return key not in plugin.busy_keys and crc32(key.encode()) % slots == worker.slot

        job = plugin.queue.take(fits)
        if job is None:
            return False
        job.turn("dispatch")
        job.attempts += 1
        job.worker = worker
        job.generation = worker.generation.number
        job.release = worker.generation.release
        job.started_at = self._desk.now
        job.queued_s += job.started_at - job.queued_at
        worker.jobs[job.id] = job
        if job.key is not None:
            plugin.busy_keys.add(job.key)
        self._desk.give(Dispatch(worker, job))
        return True

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
        if plugin.gate is Gate.OPEN and worker.state is WorkerState.READY and plugin.queue:
            self.dispatch(plugin)
        elif plugin.lobby:
            self._admit_and_dispatch(plugin)
        return True

    def _return(self, plugin: Plugin, worker: Worker, job: Job) -> None:
        worker.overdue.discard(job.id)
        worker.ended_jobs += 1
        if job.key is not None:
            plugin.busy_keys.discard(job.key)

    def _judge_answer(self, plugin: Plugin, job: Job, fault: Fault | None, result: bytes) -> None:
        if fault is None:
            job.result = result
            self._end(plugin, job, "finish", None)
        elif job.cancel_reason is not None and fault.code in CANCELLED_CODES:
            self._end_cancelled(plugin, job, "maybe")
        elif is_plugin_error(fault) and job.errors < plugin.spec.retries:
            job.errors += 1
            self._requeue(plugin, job)
        else:
            self._end(plugin, job, "fail", fault)

    def _requeue(self, plugin: Plugin, job: Job) -> None:
        job.turn("requeue")
        job.worker = None
        job.queued_at = self._desk.now
        plugin.counts.rerun += 1
        plugin.queue.put(job)

    def cancel(self, plugin: Plugin, job: Job, reason: str) -> None:
        """End a job because its caller wants it (client, disconnected) or it is late (timeout, late).

        Queued: at once. Running: a worker that can cancel is asked, and its answer is the
        outcome; from one that cannot the caller gets `maybe` at once. Either way the worker has
        `kill_grace` to answer; then it is killed as soon as it runs no other job.
        """
        if job.has_ended or job.cancel_reason is not None:
            return
        job.cancel_reason = reason
        if job.state is JobState.QUEUED:
            self._end_cancelled(plugin, job, "no" if job.attempts == 0 else "maybe")
            return
        worker = job.worker
        assert worker is not None
        can_cancel = "cancel" in worker.capabilities
        if can_cancel:
            self._desk.give(Tell(worker, "cancel", [job.id, reason]))
        if not can_cancel or reason == "late":
            self._end_cancelled(plugin, job, "maybe")
        self._desk.arm(plugin.spec.kill_grace_s, self._outlived, plugin, worker, job)

    def _deadline(self, plugin: Plugin, job: Job) -> None:
        self.cancel(plugin, job, "timeout")

    def _outlived(self, plugin: Plugin, worker: Worker, job: Job) -> None:
        """`kill_grace` after the cancel: the job is overdue if the worker still holds it."""
        if worker.jobs.get(job.id) is not job:
            return
        if not job.has_ended:
            self._end_cancelled(plugin, job, "maybe")
        worker.overdue.add(job.id)
        self.on_overdue(worker)

    def _end_cancelled(self, plugin: Plugin, job: Job, executed: str) -> None:
        reason = job.cancel_reason or "client"
        if reason in ("timeout", "late"):
            limit = f" of {job.timeout_s:g} s" if reason == "timeout" and job.timeout_s else ""
            fault = Fault.new(
                Code.DEADLINE, f"not done within its deadline{limit}", executed=executed,
                reason=reason,
            )  # fmt: skip
            self._end(plugin, job, "fail", fault)
        else:
            fault = Fault.new(
                Code.CANCELLED, f"cancelled ({reason})", executed=executed, reason=reason
            )
            self._end(plugin, job, "cancel", fault)

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
                self._judge_death(plugin, job, death, unexplained=unexplained)
        self.dispatch(plugin)

    def _judge_death(self, plugin: Plugin, job: Job, death: Fault, *, unexplained: bool) -> None:
        worker = job.worker
        assert worker is not None
        if unexplained:
            job.deaths = [*(job.deaths or ()), worker.generation.number]
        counted = [n for n in job.deaths or () if n not in plugin.rolled_back]
        pure, _ = worker.generation.loaded.methods.get(job.method, (False, False))
        if job.cancel_reason is not None:
            self._end_cancelled(plugin, job, "maybe")
        elif not (pure or job.idempotent):
            self._end(plugin, job, "lose", self._lost(death, retryable=False))
        elif len(counted) >= plugin.spec.poison:
            self._forgive_release(plugin, worker.generation.release.digest, len(counted))
            poisoned = Fault.new(
                Code.POISONED,
                f"this job ended {len(counted)} workers of {plugin.name}; it is not run again",
                **{k: v for k, v in death.data.items() if k not in ("retryable", "executed")},
            )
            self._end(plugin, job, "lose", poisoned)
        else:
            self._requeue(plugin, job)

    def _lost(self, death: Fault, *, retryable: bool) -> Fault:
        return Fault(death.code, death.message, {**death.data, "retryable": retryable})

    def _forgive_release(self, plugin: Plugin, digest: str, deaths: int) -> None:
        """A poison job is to blame for its deaths, so the release is not."""
        times = plugin.deaths.get(digest, [])
        del times[max(0, len(times) - deaths) :]

    def refuse_all(self, plugin: Plugin, fault: Fault) -> None:
        """End everything that waits: nobody will run it."""
        for job in [*plugin.lobby, *plugin.queue]:
            self._end(plugin, job, "fail", fault)

    def _end(self, plugin: Plugin, job: Job, event: str, fault: Fault | None) -> None:
        """The one place where a job ends."""
        was_queued = job.state is JobState.QUEUED
        job.turn(event)
        if was_queued:
            self._leave_queue(plugin, job)
        if job.timer is not None:
            job.timer.cancel()
            job.timer = None
        if fault is not None:
            job.fault = self._about(plugin, job, fault)
        del self.jobs[job.id]
        del plugin.jobs[job.id]
        if job.seq:
            counts = plugin.counts
            setattr(counts, job.state.value, getattr(counts, job.state.value) + 1)
        self._desk.give(Settle(job))

    def _leave_queue(self, plugin: Plugin, job: Job) -> None:
        if job.seq:
            plugin.queue.forget(job)
            job.queued_s += self._desk.now - job.queued_at
        elif job in plugin.lobby:
            plugin.lobby.remove(job)
        if plugin.lobby:
            self._admit_and_dispatch(plugin)

    def _about(self, plugin: Plugin, job: Job, fault: Fault) -> Fault:
        """The same fault with what the supervisor knows of the job."""
        known = {"job": job.id, "plugin": plugin.name, "attempt": job.attempts}
        if job.release is not None:
            known["release"] = job.release.number
            known["generation"] = job.generation
        return Fault(fault.code, fault.message, {**fault.data, **known})
