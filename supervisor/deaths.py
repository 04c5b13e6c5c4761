"""What a worker's end means, by where it stood: bad content, bad luck, a crash, our own doing."""

from __future__ import annotations

from ..protocol.errors import Fault
from .back_off import back_off_s
from .changeover import Changeover
from .changes import Changes
from .desk import Desk
from .fleet import BLAMELESS, Fleet
from .generation import Generation
from .job import Job
from .orders import Flushed
from .plugin import Plugin
from .restarts import Restarts
from .rollbacks import Condemned, Rollbacks
from .routing import Routing
from .talking import FLUSH
from .worker import Worker

LAST_LINES = 5
MAX_LUCK = 5  # times that bad luck may take something from one changeover
# What a process does to itself: now and then bad luck, but not so many times in a row.
OWN_SIGNALS = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP")
EMPTY = b"\x90"  # an array without values
BEFORE_LOAD = ("spawn", "boot", "hello")  # another Python is to blame here, not the content
LOST_REASONS = {
    "drain": "killed_at_drain",
    "stop": "stopped",
    "protocol": "protocol",
    "memory": "memory",
}


class Deaths:
    """Judges deaths; what follows is up to the changeover or the restart policy."""

    def __init__(
        self, desk: Desk, routing: Routing, fleet: Fleet, changes: Changes, restarts: Restarts,
        rollbacks: Rollbacks,
    ) -> None:  # fmt: skip
        self._desk = desk
        self._routing = routing
        self._fleet = fleet
        self._changes = changes
        self._restarts = restarts
        self._rollbacks = rollbacks

    def died(self, plugin: Plugin, worker: Worker, death: Fault) -> None:
        """A worker that had been ready, or that we had given up, is gone."""
        death.data["reason"] = LOST_REASONS.get(worker.cause, "crashed")
        unexplained = worker.cause not in BLAMELESS
        generation, condemned = worker.generation, None
        jobs = list(worker.jobs.values())
        if unexplained and plugin.is_newcomer(generation):
            self._newcomer_failed(plugin, worker, death)
        elif unexplained and generation is plugin.live:
            condemned = self._restarts.saw_death(plugin, worker, death, jobs)
        self._give_up_flushes(plugin, worker, death)
        if worker.excess:
            death = Fault(death.code, worker.excess, death.data)
        waited_for = [job for job in jobs if not job.has_ended and job.cancel_reason is None]
        self._routing.take_back(plugin, worker, death, unexplained=unexplained)
        if worker.excess:
            self._say_killed(plugin, worker, waited_for)
        self._go_on(plugin, generation, condemned, unexplained=unexplained)

    def _say_killed(self, plugin: Plugin, worker: Worker, jobs: list[Job]) -> None:
        """By us, for its memory; its jobs have been taken back."""
        lost = sum(job.has_ended for job in jobs)
        text = f"worker {worker.pid} {worker.excess}\n  {len(jobs) - lost} re-run, {lost} lost"
        self._desk.narrate("warning", plugin.name, text)

    def _go_on(
        self, plugin: Plugin, generation: Generation, condemned: Condemned | None, *,
        unexplained: bool,
    ) -> None:  # fmt: skip
        if condemned is not None:
            self._rollbacks.roll_back(plugin, condemned)
        elif unexplained and generation is plugin.live:
            self._restarts.answer(plugin, generation)

    def boot_failed(self, plugin: Plugin, worker: Worker, stage: str, fault: Fault) -> None:
        """A worker never got ready, or did not answer check or adopt in time."""
        generation = worker.generation
        if plugin.is_newcomer(generation):
            self._newcomer_failed(plugin, worker, fault, stage)
        elif generation is plugin.live:
            condemned = None
            if fault.data.get("bad_luck"):
                generation.unlucky += 1
                text = f"{fault.message}\n  jobs wait for a worker; its start is tried again"
                self._desk.narrate("warning", plugin.name, text)
            else:
                condemned = self._restarts.saw_death(plugin, worker, fault, [])
            self._go_on(plugin, generation, condemned, unexplained=True)

    def _newcomer_failed(
        self, plugin: Plugin, worker: Worker, fault: Fault, stage: str = ""
    ) -> None:
        """Before the cut: bad content is refused; bad luck is tried again with back-off."""
        change = plugin.change
        assert change is not None
        signal = fault.data.get("signal") if worker.cause == "" else None
        luck = signal is not None or bool(fault.data.get("bad_luck"))
        if luck and change.luck < MAX_LUCK:
            self._try_again(plugin, change, worker, fault)
            return
        luck = luck and signal not in OWN_SIGNALS
        where = "" if stage in ("", "load", "boot", "spawn") else f"{stage}: "
        python = worker.generation.spec.python if stage in BEFORE_LOAD else ""
        by = f'; started by python = "{python}"' if python and stage != "spawn" else ""
        cause = f"{where}{fault.message}{by}{_last_words(fault)}"
        self._changes.refuse(plugin, change, cause, bad=not (luck or python), luck=luck)

    def _try_again(self, plugin: Plugin, change: Changeover, worker: Worker, fault: Fault) -> None:
        delay_s = back_off_s(change.spec, change.luck)
        change.luck += 1
        text = f"{fault.message}; trying again in {delay_s:.1f} s"
        self._desk.narrate("warning", plugin.name, text)
        self._desk.arm(delay_s, self._start_again, plugin, change, worker.slot)

    def _start_again(self, plugin: Plugin, change: Changeover, slot: int) -> None:
        new = change.new
        still_warms = plugin.change is change and not change.has_cut
        if still_warms and new is not None and slot not in new.workers:
            self._fleet.spawn(new, slot)

    def _give_up_flushes(self, plugin: Plugin, worker: Worker, death: Fault) -> None:
        for asked in worker.asks:
            if asked.purpose is FLUSH:
                self._desk.give(Flushed(plugin.name, EMPTY, death))
        worker.asks.clear()


def _last_words(death: Fault) -> str:
    """What a worker that left by itself wrote last: it often says why."""
    lines = str(death.data.get("stderr_tail") or "").strip().splitlines()
    return "".join(f"\n    {line}" for line in lines[-LAST_LINES:])
