"""The invariants of the architecture page, as far as the outside can see them.

The laws keep their own books from facts and orders, so that the core's are not believed. A
violation is raised where it is seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from changeover.protocol.errors import Code
from changeover.supervisor import orders as o
from changeover.supervisor.fleet import STACKS_S
from changeover.supervisor.model import Generation, Job, Plugin
from changeover.supervisor.states import Gate, JobState, Restart, Step, WorkerState

if TYPE_CHECKING:
    from changeover.supervisor.changeover import Changeover

    from .sim_worker import Process
    from .sim_world import World

EPSILON = 1e-9
LONGEST_GRACE_S = 0.1  # of the specs in sim_people.py
OUTCOME = {Code.CANCELLED: JobState.CANCELLED, Code.WORKER_LOST: JobState.LOST,
           Code.POISONED: JobState.LOST}  # fmt: skip


class Violation(AssertionError):
    """The core broke a law."""


class Ledger:
    """What is known of one job from outside."""

    __slots__ = ("accepted", "asked_at", "dispatches", "held_before", "job", "settled")

    def __init__(self, job: Job, asked_at: float) -> None:
        self.job = job
        self.asked_at = asked_at
        self.accepted = False
        self.settled = False
        self.dispatches = 0


class Laws:
    """Checks orders as they are given, and everything after each step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.open: dict[str, Ledger] = {}  # submitted, not settled
        self.accepted = 0
        self.ended_jobs = 0
        self._early: dict[str, o.Settle] = {}
        self._cut: dict[str, int] = {}  # plugin: the generation that serves
        self._held: dict[str, float] = {}  # plugins whose queue a changeover holds, until when
        self._dying: list[Job] = []
        self.history: list[dict[str, object]] = []
        self._numbers: dict[tuple[str, str], int] = {}  # plugin, digest: the release's number

    def check(self, holds: bool, law: str) -> None:
        """Raise unless it holds."""
        if not holds:
            raise Violation(law)

    # -- 1: every accepted job ends exactly once

    def submitted(self, job: Job, *, accepted: bool) -> None:
        """The core took it."""
        ledger = self.open[job.id] = Ledger(job, self._world.now)
        ledger.accepted = accepted
        self.accepted += accepted
        self.check(job.seq > 0 or not accepted, f"{job.id} was accepted without a place")

    def admitted(self, order: o.Admit) -> None:
        """It left the lobby."""
        ledger = self.open.get(order.job.id)
        self.check(ledger is not None and not ledger.accepted, f"{order.job.id} admitted twice")
        assert ledger is not None
        ledger.accepted = True
        self.accepted += 1

    def settled(self, order: o.Settle) -> None:
        """It ended."""
        job = order.job
        ledger = self.open.pop(job.id, None)
        self.check(ledger is not None, f"{job.id} settled twice, or never submitted")
        assert ledger is not None
        self.ended_jobs += 1
        self.check(job.has_ended, f"{job.id} settled while {job.state}")
        expected = JobState.DONE
        if job.fault is not None:
            expected = OUTCOME.get(job.fault.code, JobState.FAILED)  # type: ignore[call-overload]
        self.check(job.state is expected, f"{job.id} {job.state} with {job.fault}")
        self._check_truth(job, ledger)
        self._check_deadline(job, ledger)

    def _check_truth(self, job: Job, ledger: Ledger) -> None:
        """What its caller is told of whether it ran."""
        if job.fault is None:
            return
        executed = job.fault.executed
        if executed == "no":
            self.check(ledger.dispatches == 0, f"{job.id} ran, and is said not to have")
        if ledger.dispatches == 0:
            self.check(executed == "no", f"{job.id} never ran, and is said to have: {executed}")
        if job.fault.code == Code.WORKER_LOST:
            reason = job.fault.data.get("reason")
            known = ("crashed", "killed_at_drain", "protocol", "stopped")
            self.check(reason in known, f"{job.id} lost for {reason}")

    def _check_deadline(self, job: Job, ledger: Ledger) -> None:
        if job.timeout_s is None:
            return
        took_s = self._world.now - ledger.asked_at
        limit_s = job.timeout_s + LONGEST_GRACE_S + EPSILON
        self.check(took_s <= limit_s, f"{job.id} took {took_s:.3f} s of {job.timeout_s:g}")

    # -- 3, 6: who gets which job, and when

    def dispatched(self, process: Process, job: Job) -> None:
        """A job was lent."""
        worker = process.worker
        plugin = self._world.core.plugins[job.plugin]
        ledger = self.open.get(job.id)
        if ledger is not None:
            ledger.dispatches += 1
            if ledger.dispatches > 1:
                self._check_rerun(process, job)
        self.check(
            job.generation == self._cut.get(plugin.name),
            f"{job.id} starts on generation {job.generation}, not {self._cut.get(plugin.name)}",
        )
        self.check(not process.was_told_to_go, f"{job.id} lent to {worker}, which must go")
        self.check(plugin.name not in self._held, f"{job.id} is lent while callers are held")
        limit = worker.generation.loaded.concurrency
        self.check(len(process.holds) < limit, f"{worker} holds more than {limit}")
        way_back = plugin.change is not None and plugin.change.undoes is not None
        is_bad = plugin.live is not None and plugin.live.number in plugin.rolled_back
        self.check(not (way_back and is_bad), f"{job.id} is lent to a release that is left")
        self._check_order(plugin, process, job)

    def _check_rerun(self, process: Process, job: Job) -> None:
        may = job.idempotent or job.method == "run" or job.errors > 0
        self.check(may, f"{job.id} is not pure and is run again")

    def _check_order(self, plugin: Plugin, process: Process, job: Job) -> None:
        for other in plugin.queue:
            if other.seq > job.seq:
                break
            if job.key is None:
                self.check(other.key is not None, f"{job.id} overtakes {other.id}")
            else:
                self.check(other.key != job.key, f"{job.id} overtakes {other.id} of its key")
        if job.key is None:
            return
        slots = process.worker.generation.spec.workers
        slot = crc32(job.key.encode()) % slots
        self.check(process.worker.slot == slot, f"{job.id} of key {job.key} went to another slot")
        for peer in self._world.processes.values():
            for held in peer.holds.values():
                same = held.plugin == job.plugin and held.key == job.key
                self.check(not same, f"{job.id} runs beside {held.id} of its key")

    # -- 2: before the cut nothing that serves is touched

    def recorded(self, order: o.Record) -> None:
        """The history learns of a cut."""
        entry = order.entry
        self.history.append(entry)
        if entry["event"] != "cut":
            return
        self._check_number(entry)
        name, number = str(entry["plugin"]), int(str(entry["generation"]))
        self.check(number > self._cut.get(name, 0), f"generation {number} is not new")
        self._cut[name] = number
        self._held.pop(name, None)
        plugin = self._world.core.plugins[name]
        change = plugin.change
        if change is None or change.number != number or change.new is None:
            return  # it went further in the same fact
        for worker in change.new.workers.values():
            process = self._world.processes.get(worker.id)
            if process is None or worker.id in change.warm:
                continue
            self._check_proven(process, has_old=change.old is not None)

    def _check_number(self, entry: dict[str, object]) -> None:
        """A release's number belongs to its content for ever."""
        to, name = entry["to"], str(entry["plugin"])
        assert isinstance(to, dict)
        known = self._numbers.setdefault((name, to["digest"]), to["number"])
        self.check(known == to["number"], f"{name}: @{known} is @{to['number']} now")
        same = [d for (n, d), number in self._numbers.items() if (n, number) == (name, known)]
        self.check(len(same) == 1, f"{name}: @{known} is two contents")

    def forget(self, name: str) -> None:
        """A plugin is added without its history."""
        self._numbers = {key: number for key, number in self._numbers.items() if key[0] != name}
        self.history = [entry for entry in self.history if entry["plugin"] != name]

    def warming(self, order: o.Phase) -> None:
        """A changeover begins in earnest: may its trigger begin one with this content?"""
        change = order.change
        if order.step is Step.HOLD:
            self._hold(change)
        if order.step is not Step.WARM or change.release is None or change.target is not None:
            return
        plugin = self._world.core.plugins[change.plugin]
        digest = change.release.digest
        if change.reason in ("file", "signal", "config"):
            is_marked = digest in plugin.bad or digest in plugin.held
            self.check(not is_marked, f"{plugin.name}: {change.reason} warms marked content")

    def _hold(self, change: Changeover) -> None:
        """A handoff must have done with its callers in time; forced, it kills and begins again."""
        limit_s = change.spec.hold_timeout_s
        if change.force:
            limit_s += limit_s + STACKS_S + LONGEST_GRACE_S + 0.1
        is_limited = change.plan == "handoff"
        self._held[change.plugin] = self._world.now + limit_s if is_limited else float("inf")

    def spawned(self, process: Process) -> None:
        """A process is started, of bytes that are in the store."""
        release = process.worker.generation.release
        self.check(bool(release.path), f"{process.worker} is started from nowhere")

    def _check_proven(self, process: Process, *, has_old: bool) -> None:
        worker = process.worker
        if worker.state is not WorkerState.READY:
            return
        needed = {"load"} | ({"adopt"} if has_old else set())
        needed |= {"check"} & worker.capabilities
        missing = needed - process.answered
        self.check(not missing, f"{worker} was cut to without {missing}")

    def sent_away(self, process: Process, number: int) -> None:
        """It was decided that a worker, then of this generation, must go."""
        worker = process.worker
        plugin = self._world.core.plugins[worker.generation.spec.name]
        serves = worker.generation is plugin.live and plugin.live.number == number
        was_doomed, process.is_doomed = process.is_doomed, True
        if was_doomed or not serves:
            return
        if worker.cause in ("drain", "stop-first"):
            change = plugin.change
            may = change is not None and (change.plan == "stop-first" or change.force)
            self.check(may, f"{worker} serves and is sent away ({worker.cause})")
        if worker.cause == "retire":
            has_failed = worker.generation.restart is Restart.FAILED
            self.check(has_failed, f"{worker} serves and is retired")

    # -- 5: what a dying worker held

    def before_death(self, process: Process) -> None:
        """It is reaped now."""
        self._dying = [job for job in process.holds.values() if not job.has_ended]

    def after_death(self, process: Process) -> None:
        """Each job that it held went back to the queue, or its caller was told."""
        worker = process.worker
        for job in self._dying:
            pure = job.method == "run" and worker.generation.loaded.is_pure("run")
            if job.cancel_reason is not None:
                self.check(job.has_ended, f"{job.id} was cancelled, its worker died, it goes on")
            elif worker.cause == "stop" or not (pure or job.idempotent):
                self.check(job.state is JobState.LOST, f"{job.id} is {job.state}, not lost")
            elif job.state is JobState.LOST:
                self._check_poisoned(job)

    def _check_poisoned(self, job: Job) -> None:
        plugin = self._world.core.plugins[job.plugin]
        counted = [number for number in job.deaths if number not in plugin.rolled_back]
        assert job.fault is not None
        self.check(job.fault.code == Code.POISONED, f"{job.id} is pure and lost: {job.fault}")
        self.check(len(counted) >= plugin.spec.poison, f"{job.id} is no poison: {job.deaths}")

    # -- requests

    def asked(self, process: Process, method: str) -> None:
        """A control request."""
        needs = {"check": "check", "flush": "flush", "export_state": "state"}.get(method)
        if needs is not None:
            self.check(needs in process.worker.capabilities, f"{method} asked without capability")
        if method == "unload":
            held = [job.id for job in process.holds.values() if not job.has_ended]
            self.check(not held, f"{process.worker} is unloaded under {held}")

    def ended(self, order: o.Ended) -> None:
        """A changeover ended, or is drained."""
        change = order.change
        self._held.pop(change.plugin, None)
        at_rest = change.has_ended or change.step.value in ("watch", "retire")
        self.check(at_rest, f"a changeover is said to have ended in {change.step}")

    # -- after every step

    def check_all(self) -> None:
        """The core's books, and the counts."""
        starting, now = 0, self._world.now
        for process in self._world.processes.values():
            if process.worker.state is WorkerState.STARTING:
                starting += 1
                self._check_start(process, now)
            if process.holds:
                self._check_wanted(process, now)
        for name, until in self._held.items():
            if not (now <= until + EPSILON):
                raise Violation(f"{name} is held beyond its limit")
        if not (starting <= self._world.max_spawns):
            raise Violation(f"{starting} workers start at once")
        for plugin in self._world.core.plugins.values():
            self._check_plugin(plugin)

    def _check_start(self, process: Process, now: float) -> None:
        worker = process.worker
        limit_s = process.warm_timeout_s + worker.clock.extra_s
        took_s = now - process.begun_at
        if not (took_s <= limit_s + EPSILON):
            raise Violation(f"{worker} starts for {took_s:.3f} s")

    def _check_wanted(self, process: Process, now: float) -> None:
        """A worker that holds nothing but jobs that nobody wants any more must go."""
        has_wanted = False
        for job in process.holds.values():
            if job.cancel_reason is None:
                has_wanted = True
            else:
                process.unwanted.setdefault(job.id, now)
        if not has_wanted and not process.is_doomed and not process.is_dying:
            newest = max(process.unwanted[job_id] for job_id in process.holds)
            late = now - newest > LONGEST_GRACE_S + EPSILON
            if late:
                raise Violation(f"{process.worker} keeps {list(process.holds)}")

    def _check_plugin(self, plugin: Plugin) -> None:
        counts = plugin.counts
        open_jobs = len(plugin.jobs) - len(plugin.lobby)
        ended = counts.done + counts.failed + counts.cancelled + counts.lost
        self.check(
            counts.accepted == ended + open_jobs, f"{plugin.name}: {counts}, {open_jobs} open"
        )
        running, alive = 0, 0
        for generation in plugin.generations.values():
            running += self._check_generation(plugin, generation)
            alive += generation.is_alive
        if not (open_jobs == len(plugin.queue) + running):
            raise Violation(f"{plugin.name}: a job is nowhere")
        if not (alive <= 2):
            raise Violation(f"{plugin.name}: {alive} generations are alive")
        if not (plugin.gate is not Gate.HELD or plugin.change is not None):
            raise Violation("held by nobody")
        self._check_idle(plugin)

    def _check_generation(self, plugin: Plugin, generation: Generation) -> int:
        running = 0
        for worker in (*generation.workers.values(), *generation.leaving):
            if worker.generation is not generation:
                raise Violation(f"{worker} belongs elsewhere")
            for job in worker.jobs.values():
                running += not job.has_ended
            process = self._world.processes.get(worker.id)
            if process is not None and process.holds.keys() != worker.jobs.keys():
                raise Violation(f"{worker} holds others")
        return running

    def _check_idle(self, plugin: Plugin) -> None:
        """No job waits while a worker could take it."""
        live = plugin.live
        if live is None or plugin.gate is not Gate.OPEN or not plugin.queue:
            return
        head = next(iter(plugin.queue))
        for worker in live.workers.values():
            can = worker.can_take(live.loaded.concurrency)
            if can and head.key is None:
                raise Violation(f"{head.id} waits and {worker} is idle")

    # -- at the end

    def check_quiet(self) -> None:
        """Everybody is well and nobody wants anything: nothing may be left."""
        world = self._world
        self.check(not self.open, f"never settled: {list(self.open)[:5]}")
        for change in world.changes:
            self.check(change.has_ended, f"never ended: {change.reason} in {change.step}")
        for plugin in world.core.plugins.values():
            self._check_quiet_plugin(plugin)
        self.check(world.core.next_due() is None, "a timer is left")

    def _check_quiet_plugin(self, plugin: Plugin) -> None:
        name = plugin.name
        self.check(plugin.change is None and plugin.pending is None, f"{name} still changes")
        self.check(plugin.watch is None, f"{name} is still watched")
        self.check(not plugin.busy_keys, f"{name}: keys {plugin.busy_keys} stay busy")
        self.check(plugin.gate is Gate.OPEN, f"{name} stays {plugin.gate}")
        for generation in plugin.generations.values():
            is_live = generation is plugin.live
            self.check(is_live or not generation.is_alive, f"{name}: {generation} is left over")
        live = plugin.live
        if live is not None and live.restart is Restart.RUNNING:
            ready = len(live.ready())
            self.check(ready == live.spec.workers, f"{name}: {ready} of {live.spec.workers} serve")
        elif live is not None:
            self.check(live.restart is Restart.FAILED, f"{name} stays in back-off")

    def check_stopped(self) -> None:
        """After a stop nothing is left at all."""
        world = self._world
        self.check(world.core.is_idle, "stopped, and not idle")
        self.check(not world.processes, f"left running: {list(world.processes)}")
        for plugin in world.core.plugins.values():
            self.check(plugin.live is None and not plugin.generations, f"{plugin.name} is left")
