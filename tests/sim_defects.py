"""Deliberate defects of the core: each must be found by the simulation, or the net has a hole.

`python -m tests.simulate --defects` shows the seed that finds each.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from changeover.protocol.errors import Fault
from changeover.supervisor import deaths
from changeover.supervisor.cancelling import Cancelling
from changeover.supervisor.changeover import Changeover
from changeover.supervisor.core import Core
from changeover.supervisor.cut import Cut
from changeover.supervisor.desk import Desk
from changeover.supervisor.fleet import Fleet
from changeover.supervisor.generation import Generation
from changeover.supervisor.graceful import DrainReport, GracefulReload
from changeover.supervisor.holding import Holding
from changeover.supervisor.job import Job
from changeover.supervisor.ladder import Ladder
from changeover.supervisor.memory_limit import MemoryLimit
from changeover.supervisor.orders import Ask, Settle
from changeover.supervisor.outcomes import Outcomes
from changeover.supervisor.plugin import Plugin
from changeover.supervisor.queue import JobQueue
from changeover.supervisor.recycles import Recycles
from changeover.supervisor.restarts import Restarts
from changeover.supervisor.rollbacks import Rollbacks
from changeover.supervisor.routing import Routing
from changeover.supervisor.states import WorkerState
from changeover.supervisor.steps import Steps
from changeover.supervisor.talking import Talking
from changeover.supervisor.worker import Worker

Defect = tuple[object, str, object]  # whose method, its name, what stands there instead


def _forgets(_self: Routing, _plugin: Plugin, job: Job) -> None:
    job.turn("requeue")


def _appends(self: JobQueue, job: Job) -> None:
    self._waiting += 1
    self._jobs.append(job)


def _settles_never(self: Outcomes, plugin: Plugin, job: Job, event: str) -> None:
    job.turn(event)
    del self.jobs[job.id], plugin.jobs[job.id]


_end = Outcomes._end


def _settles_twice(self: Outcomes, plugin: Plugin, job: Job, event: str) -> None:
    _end(self, plugin, job, event)
    self._desk.give(Settle(job))


def _drains_at_once(
    _self: GracefulReload, _old: Any, _now: float
) -> Generator[float | None, float, DrainReport]:
    yield from ()
    return DrainReport()


def _asks_at_once(self: Talking, worker: Worker, method: str, params: list[Any], **_: Any) -> None:
    self._desk.give(Ask(worker, method, params))


_exited = Core.exited


def _is_deaf_to_late_exits(self: Core, now: float, worker: Worker, death: Fault) -> None:
    if worker.state is not WorkerState.KILLING:
        _exited(self, now, worker, death)


_cut = Cut.cut


def _cuts_without_the_queue(self: Cut, plugin: Plugin, change: Changeover) -> bool:
    routing = self._routing
    self._routing = _Deaf()  # type: ignore[assignment]
    try:
        return _cut(self, plugin, change)
    finally:
        self._routing = routing


class _Deaf:
    """Dispatches nothing."""

    def dispatch(self, plugin: Plugin) -> None:
        """Nothing."""


def _loses_what_was_borrowed(
    _self: Routing, _plugin: Plugin, worker: Worker, _death: Fault, **_: Any
) -> None:
    worker.jobs.clear()


def _runs_everything_again(
    self: Routing, plugin: Plugin, _worker: Worker, job: Job, _death: Fault
) -> None:
    self._requeue(plugin, job)


_take = JobQueue.take


def _takes_any_key(self: JobQueue, _fits: Callable[[str], bool]) -> Job | None:
    return _take(self, lambda _key: True)


def _leaves_the_old_one_ready(self: Cut, old: Generation) -> None:
    starting = [w for w in old.workers.values() if w.state is not WorkerState.READY]
    self._fleet.ladder.kill_all(starting, "retire")


def _serves_the_old_one(self: Cut, plugin: Plugin, change: Changeover) -> bool:
    live = plugin.live
    is_cut = _cut(self, plugin, change)
    plugin.live = live or plugin.live
    return is_cut


def _kills_the_old_one_first(self: Steps, plugin: Plugin, change: Changeover) -> bool:
    for worker in list(change.old.workers.values()) if change.old is not None else []:
        self._fleet.ladder.kill(worker, "drain")
    return _warm(self, plugin, change)


_warm = Steps._warm


def _cancels_in_silence(_self: Cancelling, _plugin: Plugin, job: Job, reason: str) -> None:
    if not job.has_ended:
        job.cancel_reason = reason


def _finds_any(_: Steps, plugin: Plugin, change: Changeover) -> Generation | None:
    others = [each for each in plugin.generations.values() if each is not plugin.live]
    return next((each for each in others if change.target and each.ready()), None)


def _crashes(self: MemoryLimit, _: Plugin, worker: Worker, excess: str) -> None:
    worker.excess = excess
    self._fleet.ladder.kill_at_once(worker, "protocol")


DEFECTS: dict[str, Defect] = {
    # the queue and the jobs
    "the queue is not moved at the cut": (Cut, "cut", _cuts_without_the_queue),
    "a job that comes back is forgotten": (Routing, "_requeue", _forgets),
    "a job that comes back goes to the end": (JobQueue, "put", _appends),
    "what a dead worker had borrowed is lost": (Routing, "take_back", _loses_what_was_borrowed),
    "a job that is not pure is run again": (Routing, "_judge_death", _runs_everything_again),
    "an outcome is not told": (Outcomes, "_end", _settles_never),
    "an outcome is told twice": (Outcomes, "_end", _settles_twice),
    "a key is not kept together": (JobQueue, "take", _takes_any_key),
    "a cancelled job goes on": (Cancelling, "cancel", _cancels_in_silence),
    "a deadline is not armed": (Cancelling, "arm", lambda *_: None),
    "an overdue job keeps its worker": (Fleet, "kill_if_overdue", lambda *_: None),
    # the changeover
    "the cut comes before the new one is ready": (Steps, "_warm", lambda *_: True),
    "the cut comes before the check": (Steps, "_check", lambda *_: True),
    "adopt is skipped": (Steps, "_adopt", lambda *_: True),
    "the old one is killed while the new one warms": (Steps, "_warm", _kills_the_old_one_first),
    "the old one goes on after the cut": (Cut, "cut", _serves_the_old_one),
    "the old workers do not drain": (Cut, "_stop_routing", _leaves_the_old_one_ready),
    "nothing is drained": (GracefulReload, "drain_and_reload", _drains_at_once),
    "the queue stays held": (Plugin, "release", lambda _: None),
    "the queue is not held": (Plugin, "hold", lambda *_: None),
    "the export has no limit": (Holding, "_limit", lambda *_: None),
    "undo does nothing": (Steps, "undo", lambda *_: None),
    "a third generation is started": (Steps, "_has_room", lambda *_: True),
    "a generation's number is used twice": (Desk, "next_generation", lambda _: 1),
    "a watch never ends": (Rollbacks, "_watch_over", lambda *_: None),
    "bad content is tried again": (Plugin, "mark", lambda *_: ""),
    "content that nobody has read is bad": (deaths, "BEFORE_LOAD", ()),
    "a recycle has no watch to go on with": (Rollbacks, "_watch_on", lambda *_: None),
    "recycling in vain goes on and on": (Recycles, "_is_vain", lambda *_: False),
    "a recycle brings old workers back": (Steps, "find_warm", _finds_any),
    # the workers
    "a kill for memory is a crash": (MemoryLimit, "_kill", _crashes),
    "a late exit is not heard": (Core, "exited", _is_deaf_to_late_exits),
    "a crashed worker is not replaced": (Fleet, "fill", lambda *_: None),
    "a back-off never ends": (Restarts, "_restart", lambda *_: None),
    "requests overlap": (Talking, "ask", _asks_at_once),
    "warm_timeout has no clock": (Talking, "run_clock", lambda *_: None),
    "the kill ladder ends at TERM": (Ladder, "_kill_now", lambda *_: None),
    "a stopped worker is not told": (Ladder, "unloaded", lambda *_: None),
}


@contextmanager
def defect(name: str) -> Iterator[None]:
    """The core has it meanwhile."""
    owner, attribute, broken = DEFECTS[name]
    whole = getattr(owner, attribute)
    setattr(owner, attribute, broken)
    try:
        yield
    finally:
        setattr(owner, attribute, whole)
