"""The laws about jobs: invariants 1, 3, 5 and 6 of the architecture page.

They keep their own ledger from facts and orders; the core's books are not believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from changeover.protocol.errors import Code
from changeover.supervisor import orders as o
from changeover.supervisor.job import Job
from changeover.supervisor.plugin import Plugin
from changeover.supervisor.states import JobState

from .sim_law import EPSILON, LONGEST_GRACE_S, require

if TYPE_CHECKING:
    from .sim_worker import Process
    from .sim_world import World

OUTCOME = {
    Code.CANCELLED: JobState.CANCELLED,
    Code.WORKER_LOST: JobState.LOST,
    Code.POISONED: JobState.LOST,
}
LOST_FOR = ("crashed", "killed_at_drain", "memory", "protocol", "stopped")
Counted = tuple[int, int, int]
NOBODY_RUNS_IT = (Code.UNAVAILABLE, Code.STOPPING)


class Ledger:
    """What is known of one job from outside."""

    __slots__ = ("accepted", "asked_at", "dispatches")

    def __init__(self, asked_at: float) -> None:
        self.asked_at = asked_at
        self.accepted = False
        self.dispatches = 0


class JobLaws:
    """Follows every job from its submission to its one outcome."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.open: dict[str, Ledger] = {}  # submitted, not settled
        self._dying: list[Job] = []
        self._counted: Counted = (0, 0, 0)

    # -- 1: every accepted job ends exactly once

    def submitted(self, job: Job, *, accepted: bool) -> None:
        """The core took it."""
        ledger = self.open[job.id] = Ledger(self._world.now)
        ledger.accepted = accepted
        self._world.journal(job)
        require(job.seq > 0 or not accepted, f"{job.id} was accepted without a place")

    def admitted(self, order: o.Admit) -> None:
        """It left the lobby."""
        ledger = self.open.get(order.job.id)
        require(ledger is not None and not ledger.accepted, f"{order.job.id} admitted twice")
        assert ledger is not None
        ledger.accepted = True
        self._world.journal(order.job)

    def inherited(self, job: Job) -> None:
        """A supervisor before this one had accepted it, and may have lent it."""
        ledger = self.open[job.id] = Ledger(self._world.now)
        ledger.accepted = True
        ledger.dispatches = job.attempts

    def settled(self, order: o.Settle) -> None:
        """It ended."""
        job = order.job
        ledger = self.open.pop(job.id, None)
        require(ledger is not None, f"{job.id} settled twice, or never submitted")
        assert ledger is not None
        require(job.has_ended, f"{job.id} settled while {job.state}")
        expected = JobState.DONE
        if job.fault is not None:
            expected = OUTCOME.get(job.fault.code, JobState.FAILED)  # type: ignore[call-overload]
        require(job.state is expected, f"{job.id} {job.state} with {job.fault}")
        self._check_truth(job, ledger)
        self._check_deadline(job, ledger)

    def _check_truth(self, job: Job, ledger: Ledger) -> None:
        """What its caller is told of whether it ran."""
        if job.fault is None:
            return
        executed = job.fault.executed
        has_run = ledger.dispatches > 0
        require(has_run == (executed != "no"), f"{job.id} ran: {has_run}, is said: {executed}")
        if job.fault.code == Code.WORKER_LOST:
            reason = job.fault.data.get("reason")
            require(reason in LOST_FOR, f"{job.id} lost for {reason}")

    def _check_deadline(self, job: Job, ledger: Ledger) -> None:
        if job.timeout_s is not None:
            took_s = self._world.now - ledger.asked_at
            limit_s = job.timeout_s + LONGEST_GRACE_S + EPSILON
            require(took_s <= limit_s, f"{job.id} took {took_s:.3f} s of {job.timeout_s:g}")

    # -- 3, 6: who gets which job, and when

    def lent(self, process: Process, job: Job) -> None:
        """A worker is to have a job."""
        self._check_order(self._world.core.plugins[job.plugin], job)
        if job.key is not None:
            self._check_key(process, job, job.key)

    def sent(self, process: Process, job: Job) -> None:
        """It has it."""
        worker = process.worker
        require(job.is_accepted, f"{job.id} is sent before the journal has it")
        plugin = self._world.core.plugins[job.plugin]
        ledger = self.open.get(job.id)
        if ledger is not None:
            ledger.dispatches += 1
            may = ledger.dispatches == 1 or job.idempotent or job.method == "run" or job.errors > 0
            require(may, f"{job.id} is not pure and is run again")
        self._world.change_laws.lent(plugin, job)
        require(not process.was_told_to_go, f"{job.id} lent to {worker}, which must go")
        limit = worker.generation.loaded.concurrency
        require(len(process.holds) < limit, f"{worker} holds more than {limit}")

    def _check_order(self, plugin: Plugin, job: Job) -> None:
        for other in plugin.queue:
            if other.seq > job.seq:
                return
            if job.key is None:
                require(other.key is not None, f"{job.id} overtakes {other.id}")
            else:
                require(other.key != job.key, f"{job.id} overtakes {other.id} of its key")

    def _check_key(self, process: Process, job: Job, key: str) -> None:
        slots = process.worker.generation.spec.workers
        slot = crc32(key.encode()) % slots
        require(process.worker.slot == slot, f"{job.id} of key {key} went to another slot")
        for peer in self._world.processes.values():
            for held in peer.holds.values():
                is_same = held.plugin == job.plugin and held.key == key
                require(not is_same, f"{job.id} runs beside {held.id} of its key")

    # -- 5: what a dying worker held

    def before_death(self, process: Process) -> None:
        """It is reaped now."""
        self._dying = [job for job in process.holds.values() if not job.has_ended]
        self._counted = self._counts(process)

    def after_death(self, process: Process) -> None:
        """Each job that it held went back to the queue, or its caller was told."""
        worker = process.worker
        if worker.cause == "memory":
            require(process.is_too_big, f"{worker} was killed for memory that it never took")
            require(self._counts(process) == self._counted, f"the death of {worker} counts")
        for job in self._dying:
            is_pure = job.method == "run" and worker.generation.loaded.is_pure("run")
            if job.cancel_reason is not None:
                require(job.has_ended, f"{job.id} was cancelled, its worker died, it goes on")
            elif worker.cause == "stop" or not (is_pure or job.idempotent):
                require(job.state is JobState.LOST, f"{job.id} is {job.state}, not lost")
            elif job.has_ended:
                self._check_given_up(job)

    def _counts(self, process: Process) -> Counted:
        """Deaths, as crash loop, watch and poison count them."""
        plugin = self._world.core.plugins[process.worker.generation.spec.name]
        digest = process.worker.generation.release.digest
        in_watch = plugin.watch.deaths if plugin.watch is not None else 0
        of_jobs = sum(len(job.deaths) for job in self._dying)
        return len(plugin.deaths.get(digest, ())), in_watch, of_jobs

    def _check_given_up(self, job: Job) -> None:
        """It could have been run again."""
        fault = job.fault
        assert fault is not None
        if fault.code in NOBODY_RUNS_IT:
            return
        if fault.data.get("reason") == "memory":
            poison = self._world.core.plugins[job.plugin].spec.poison
            require(job.kills >= poison, f"{job.id} is lost for memory after {job.kills} kills")
            return
        require(fault.code == Code.POISONED, f"{job.id} could run again, and got {fault}")
        plugin = self._world.core.plugins[job.plugin]
        counted = [number for number in job.deaths if number not in plugin.rolled_back]
        require(len(counted) >= plugin.spec.poison, f"{job.id} is no poison: {job.deaths}")
