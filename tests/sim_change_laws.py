"""The laws about changeovers: invariants 2, 3 and 4, and the limits of a hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from changeover.supervisor import orders as o
from changeover.supervisor.changeover import Changeover
from changeover.supervisor.job import Job
from changeover.supervisor.ladder import STACKS_S
from changeover.supervisor.plugin import Plugin
from changeover.supervisor.rest import FIRST_PAUSE_S
from changeover.supervisor.states import Restart, Step, WorkerState

from .sim_law import EPSILON, LONGEST_GRACE_S, require

if TYPE_CHECKING:
    from .sim_worker import Process
    from .sim_world import World

NEEDS = {"check": "check", "flush": "flush", "export_state": "state"}  # which capability


class ChangeLaws:
    """Follows what serves: who may be touched, and who may be lent jobs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.history: list[dict[str, object]] = []
        self._cut: dict[str, int] = {}  # plugin: the generation that serves
        self._held: dict[str, float] = {}  # plugins whose queue a changeover holds, until when
        self._served: dict[str, list[str]] = {}  # plugin: where rollbacks lead
        self._numbers: dict[tuple[str, str], int] = {}  # plugin, digest: the release's number
        self._marked: set[int] = set()  # changeovers that began with bad or held content
        self._loading: set[int] = set()  # generations of which a worker was asked to load

    # -- 3: after the cut no job starts on the old release

    def lent(self, plugin: Plugin, job: Job) -> None:
        """A job starts."""
        name, serving = plugin.name, self._cut.get(plugin.name)
        require(job.generation == serving, f"{job.id} on #{job.generation}, #{serving} serves")
        require(name not in self._held, f"{job.id} is lent while callers are held")
        change = plugin.change  # a way back that was itself condemned serves on if none is left
        way_back = change is not None and change.undoes is not None and change.number != serving
        is_bad = serving in plugin.rolled_back
        require(not (way_back and is_bad), f"{job.id} is lent to a release that is left")

    def recorded(self, order: o.Record) -> None:
        """The history learns of a cut."""
        entry = order.entry
        self.history.append(entry)
        if entry["event"] != "cut":
            return
        self._check_number(entry)
        name, number = str(entry["plugin"]), int(str(entry["generation"]))
        require(number > self._cut.get(name, 0), f"generation {number} is not new")
        self._cut[name] = number
        self._held.pop(name, None)
        change = self._world.core.plugins[name].change
        if change is not None and change.number == number:  # else it went further at once
            self._check_proven(change)
        self._check_way_back(entry)

    def _check_number(self, entry: dict[str, object]) -> None:
        """A release's number belongs to its content for ever."""
        to, name = entry["to"], str(entry["plugin"])
        assert isinstance(to, dict)
        known = self._numbers.setdefault((name, to["digest"]), to["number"])
        require(known == to["number"], f"{name}: @{known} is @{to['number']} now")
        same = [d for (n, d), number in self._numbers.items() if (n, number) == (name, known)]
        require(len(same) == 1, f"{name}: @{known} is two contents")

    def _check_way_back(self, entry: dict[str, object]) -> None:
        """A recycle is no other release: a rollback leads where it led before."""
        plugin, old, new = (
            self._world.core.plugins[str(entry["plugin"])],
            entry["from"],
            entry["to"],
        )
        if entry["why"] == "recycle":
            is_same = isinstance(old, dict) and isinstance(new, dict) and old == new
            require(is_same, f"{plugin.name}: recycled from {old} to {new}")
            before = self._served.get(plugin.name, plugin.served)
            require(plugin.served == before, f"{plugin.name}: a recycle moved the way back")
        self._served[plugin.name] = plugin.served

    def forget(self, name: str) -> None:
        """A plugin is added without its history."""
        self._served.pop(name, None)
        self._numbers = {key: number for key, number in self._numbers.items() if key[0] != name}
        self.history = [entry for entry in self.history if entry["plugin"] != name]

    # -- nothing unproven serves

    def _check_proven(self, change: Changeover) -> None:
        assert change.new is not None
        for worker in change.new.workers.values():
            process = self._world.processes.get(worker.id)
            is_new = process is not None and worker.id not in change.warm
            if process is None or not is_new or worker.state is not WorkerState.READY:
                continue
            needed = {"load"} | ({"adopt"} if change.old is not None else set())
            missing = (needed | ({"check"} & worker.capabilities)) - process.answered
            require(not missing, f"{worker} was cut to without {missing}")

    def entered(self, order: o.Phase) -> None:
        """A changeover entered a step."""
        change = order.change
        if change.reason == "recycle":
            self._check_recycle(change, order.step)
        if order.step is Step.HOLD:
            self._hold(change)
        elif order.step is Step.WARM:
            self._warm(change)

    def _warm(self, change: Changeover) -> None:
        plugin, release = self._world.core.plugins[change.plugin], change.release
        assert release is not None
        is_marked = release.digest in plugin.bad or release.digest in plugin.held
        if is_marked:
            self._marked.add(change.number)
        if change.reason in ("file", "signal", "config") and change.target is None:
            require(not is_marked, f"{plugin.name}: {change.reason} warms marked content")

    def _check_recycle(self, change: Changeover, step: Step) -> None:
        """To what serves, by workers that are new, and not at once again where that is vain."""
        require(not change.warm, f"{change.plugin}: recycled to workers that were left before")
        if step is Step.STAGE:
            self._world.changes.append(change)
            live = self._world.core.plugins[change.plugin].live
            assert live is not None
            is_same = change.target is not None and change.target.digest == live.release.digest
            require(is_same, f"{change.plugin}: a recycle leads to another release")
            is_due = change.who != "max_rss" or self._world.now - live.loaded_at >= FIRST_PAUSE_S
            require(is_due, f"{change.plugin}: recycled in a hot loop")

    def spawned(self, process: Process) -> None:
        """4: a process is started, of bytes that are in the store."""
        release = process.worker.generation.release
        require(bool(release.path), f"{process.worker} is started from nowhere")

    # -- content that nobody has read is not to blame

    def _check_blame(self, change: Changeover) -> None:
        """What another Python could not begin with says nothing of the content."""
        plugin, release = self._world.core.plugins.get(change.plugin), change.release
        new = change.new
        if plugin is None or release is None or new is None or not change.spec.python:
            return
        is_marked = release.digest in plugin.bad
        has_been_read = bool(change.warm) or new.number in self._loading
        may_be = has_been_read or change.number in self._marked
        require(may_be or not is_marked, f"{plugin.name}: unread content is marked")

    # -- 2: before the cut nothing that serves is touched

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
            require(may, f"{worker} serves and is sent away ({worker.cause})")
        if worker.cause == "retire":
            has_failed = worker.generation.restart is Restart.FAILED
            require(has_failed, f"{worker} serves and is retired")

    def asked(self, process: Process, method: str) -> None:
        """A control request."""
        if method == "load":
            self._loading.add(process.worker.generation.number)
        needs = NEEDS.get(method)
        has = needs is None or needs in process.worker.capabilities
        require(has, f"{method} asked without capability")
        if method == "unload":
            held = [job.id for job in process.holds.values() if not job.has_ended]
            require(not held, f"{process.worker} is unloaded under {held}")

    # -- holds end in time

    def _hold(self, change: Changeover) -> None:
        """A handoff must have done with its callers in time; forced, it kills and begins again."""
        limit_s = change.spec.hold_timeout_s
        if change.force:
            limit_s += limit_s + STACKS_S + LONGEST_GRACE_S + 0.1
        is_limited = change.plan == "handoff"
        self._held[change.plugin] = self._world.now + limit_s if is_limited else float("inf")

    def ended(self, order: o.Ended) -> None:
        """A changeover ended, or is drained."""
        change = order.change
        self._held.pop(change.plugin, None)
        at_rest = change.has_ended or change.step in (Step.WATCH, Step.RETIRE)
        require(at_rest, f"a changeover is said to have ended in {change.step}")
        if change.outcome == "refused":
            self._check_blame(change)

    def check_holds(self) -> None:
        """After every step."""
        for name, until in self._held.items():
            require(self._world.now <= until + EPSILON, f"{name} is held beyond its limit")
