"""What each step of a changeover does, and how it is undone.

A step's function is called again after every fact until it returns True; it must do its work
once and otherwise only look. Before the cut nothing here touches what serves, but for HOLD
(the queue waits) and, in stop-first, STOP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..protocol.errors import Code, Fault
from ..protocol.plugin_version import PluginVersion
from .changeover import Changeover
from .desk import Desk
from .fleet import Fleet
from .graceful import GracefulReload
from .model import Generation, Plugin, Worker
from .orders import Flushed, Record
from .routing import Routing
from .states import PLANS, Gate, Step, WorkerState
from .watch import Watch

if TYPE_CHECKING:
    from .changes import Changes


class _Stragglers:
    """The old workers as the drain sees them."""

    def __init__(self, old: Generation, kill: Callable[[], int]) -> None:
        self._old = old
        self._kill = kill

    @property
    def borrowed(self) -> int:
        return self._old.borrowed

    def force_kill(self) -> int:
        return self._kill()


class Steps:
    """The work of the steps."""

    def __init__(self, desk: Desk, routing: Routing, fleet: Fleet, changes: Changes) -> None:
        self._desk = desk
        self._routing = routing
        self._fleet = fleet
        self._changes = changes
        self._work: dict[Step, Callable[[Plugin, Changeover], bool]] = {
            Step.STAGE: lambda plugin, change: False,  # the shell is at it
            Step.WARM: self._warm,
            Step.CHECK: self._check,
            Step.HOLD: self._hold,
            Step.DRAIN: self._drain,
            Step.EXPORT: self._export,
            Step.ADOPT: self._adopt,
            Step.STOP: self._stop,
            Step.CUT: self._cut,
            Step.PARK: self._park,
        }

    def is_done(self, plugin: Plugin, change: Changeover) -> bool:
        """Do what the step under way still has to do; is it over?"""
        return self._work[change.step](plugin, change)

    def choose_plan(self, plugin: Plugin, change: Changeover) -> str:
        """`swap`, with `auto` decided by what the old release said when it was loaded."""
        old, swap = plugin.live, change.spec.swap
        if old is None or not old.workers:
            return "overlap"
        if swap == "auto":
            stateful = "state" in old.loaded.capabilities or old.loaded.frames == "ordered"
            swap = "handoff" if stateful else "overlap"
        if swap == "handoff" and max(change.spec.workers, old.spec.workers) > 1:
            self._desk.narrate(
                "warning",
                plugin.name,
                "handoff needs workers = 1: the workers overlap and the state is not handed over",
            )
            return "overlap"
        return swap

    # -- WARM, CHECK, ADOPT

    def find_warm(self, plugin: Plugin, change: Changeover) -> Generation | None:
        """A parked or draining generation that runs the wanted release already."""
        if change.target is None or change.force:
            return None
        for generation in plugin.generations.values():
            fit = generation.release.digest == change.target.digest
            if fit and generation is not plugin.live and _reusable(generation):
                return generation
        return None

    def _warm(self, plugin: Plugin, change: Changeover) -> bool:
        if change.new is None:
            warm = self.find_warm(plugin, change)
            if warm is not None:
                self._reanimate(plugin, change, warm)
            elif self._has_room(plugin):
                self._spawn_all(plugin, change)
            else:
                return False
        new = change.new
        assert new is not None
        return len(new.ready()) >= (1 if change.is_warm else change.spec.workers)

    def _has_room(self, plugin: Plugin) -> bool:
        """At most two generations are alive; a parked one is retired to make room."""
        watch = plugin.watch
        if watch is not None and watch.change.parked is not None:
            self.retire_parked(plugin, watch.change)
        others = [g for g in plugin.generations.values() if g is not plugin.live]
        return not any(g.is_alive for g in others)

    def _spawn_all(self, plugin: Plugin, change: Changeover) -> None:
        assert change.release is not None
        new = Generation(change.number, change.release, change.spec, _load_reason(change))
        change.new = plugin.generations[change.number] = new
        for slot in range(change.spec.workers):
            self._fleet.spawn(new, slot)

    def _reanimate(self, plugin: Plugin, change: Changeover, warm: Generation) -> None:
        """The parked workers serve again, under the new changeover's number."""
        new = Generation(change.number, warm.release, warm.spec, "change")
        new.loaded = warm.loaded
        for slot, worker in list(warm.workers.items()):
            if worker.state is WorkerState.DRAINING:
                worker.turn("return")
            if worker.state is WorkerState.READY:
                del warm.workers[slot]
                new.workers[slot] = worker
                worker.generation = new
                worker.passed -= {"adopt", "flush", "export_state"}
        change.new = plugin.generations[change.number] = new
        change.is_warm = True
        change.spec = warm.spec

    def _check(self, _plugin: Plugin, change: Changeover) -> bool:
        return change.is_warm or self._ask_all(change, "check", lambda: {})

    def _adopt(self, plugin: Plugin, change: Changeover) -> bool:
        old = change.old
        if old is None or (change.is_warm and change.state is None):
            return True
        version = _plugin_version(self._desk, plugin.name, old).wire()
        return self._ask_all(
            change, "adopt", lambda: {"old_version": version, "state": change.state}
        )

    def _ask_all(
        self, change: Changeover, method: str, options: Callable[[], dict[str, Any]]
    ) -> bool:
        assert change.new is not None
        done = True
        for worker in change.new.ready():
            if method in worker.passed or (
                method == "check" and "check" not in worker.capabilities
            ):
                continue
            done = False
            if not worker.asked:
                self._fleet.ask(worker, method, [options()])
        return done and len(change.new.ready()) >= (1 if change.is_warm else change.spec.workers)

    def replied(
        self, plugin: Plugin, change: Changeover, worker: Worker, method: str,
        fault: Fault | None, result: Any,
    ) -> None:  # fmt: skip
        """A worker answered check, adopt, flush or export_state."""
        if method in ("check", "adopt"):
            if fault is not None and fault.code != Code.METHOD_NOT_FOUND:
                self._changes.refuse(plugin, change, fault.message, bad=True)
        elif fault is not None:
            self._export_failed(plugin, change, f"{method}: {fault.message}")
        elif method == "flush":
            self._desk.give(Flushed(plugin.name, result))
        elif method == "export_state":
            change.state = result

    # -- HOLD, EXPORT, STOP

    def _hold(self, plugin: Plugin, change: Changeover) -> bool:
        plugin.turn_gate("hold")
        plugin.holds_since = self._desk.now
        change.lost_before = plugin.counts.lost
        for worker in plugin.live.ready() if plugin.live else ():
            worker.passed -= {"flush", "export_state"}
        if change.plan == "handoff":
            change.timer = self._desk.arm(
                change.spec.hold_timeout_s, self._hold_over, plugin, change
            )
        return True

    def _hold_over(self, plugin: Plugin, change: Changeover) -> None:
        if change.has_ended or change.has_cut:
            return
        limit_s = change.spec.hold_timeout_s
        if change.force and change.step in (Step.DRAIN, Step.EXPORT):
            self._start_fresh(plugin, change, f"no state within hold_timeout ({limit_s:g} s)")
            self._changes.pump(plugin)
        else:
            self._changes.refuse(
                plugin, change, f"hold_timeout: callers were held for {limit_s:g} s", bad=False
            )

    def _start_fresh(self, plugin: Plugin, change: Changeover, cause: str) -> None:
        """`--force`: the stragglers are killed and the new release starts without the state."""
        old = change.old
        assert old is not None
        for worker in list(old.workers.values()):
            change.report.killed += len(worker.jobs)
            self._fleet.kill(worker, "drain")
        self._desk.narrate("warning", plugin.name, f"the state is lost: {cause}; forced")

    def _export(self, plugin: Plugin, change: Changeover) -> bool:
        old = change.old
        assert old is not None
        workers = old.ready()
        if not workers:
            if "state" in old.loaded.capabilities:
                self._desk.narrate(
                    "warning", plugin.name, "the state is lost: its worker is gone; starting fresh"
                )
            return True
        worker = workers[0]
        for capability, method in (("flush", "flush"), ("state", "export_state")):
            if capability in worker.capabilities and method not in worker.passed:
                if not worker.asked:
                    self._fleet.ask(worker, method, [{}])
                return False
        return self._is_acceptable(plugin, change)

    def _is_acceptable(self, plugin: Plugin, change: Changeover) -> bool:
        accepts = change.new.loaded.state_accepts if change.new else ()
        old = change.old
        offered = old.loaded.state_format if old else ""
        if change.state is not None and accepts and offered not in accepts:
            self._export_failed(
                plugin, change, f"state format {offered!r} is not one of {list(accepts)}"
            )
            return not change.has_ended
        return True

    def _export_failed(self, plugin: Plugin, change: Changeover, cause: str) -> None:
        """The old worker goes on with its state, unless the change is forced or a way back."""
        change.state = None
        if change.force or change.undoes is not None:
            self._desk.narrate("warning", plugin.name, f"the state is lost: {cause}")
        else:
            self._changes.refuse(plugin, change, cause, bad=False)

    def _stop(self, _plugin: Plugin, change: Changeover) -> bool:
        old = change.old
        assert old is not None
        for worker in list(old.workers.values()):
            self._fleet.stop(worker, "stop-first")
        return not old.is_alive

    # -- DRAIN

    def _drain(self, plugin: Plugin, change: Changeover) -> bool:
        old = change.old
        if old is None:
            return True
        if change.drain is None:
            graceful = GracefulReload(_drain_timeout_s(change))
            stragglers = _Stragglers(old, lambda: self._kill_stragglers(plugin, change))
            change.drain = graceful.drain_and_reload(stragglers, self._desk.now)
            return self._drive(plugin, change, first=True)
        return self._drive(plugin, change, first=False)

    def _drive(self, plugin: Plugin, change: Changeover, *, first: bool) -> bool:
        assert change.drain is not None
        try:
            deadline = next(change.drain) if first else change.drain.send(self._desk.now)
        except StopIteration as stop:
            change.report.drained += stop.value.drained
            change.report.killed += stop.value.killed
            change.lost = plugin.counts.lost - change.lost_before
            return True
        if first and deadline is not None:
            self._desk.timers.arm(deadline, self._changes.pump, plugin)
        return False

    def _kill_stragglers(self, plugin: Plugin, change: Changeover) -> int:
        old = change.old
        assert old is not None
        if change.plan == "handoff" and not change.force:
            limit_s = change.spec.drain_timeout_s
            self._changes.refuse(
                plugin, change, f"drain_timeout: jobs still run after {limit_s:g} s", bad=False
            )
            return 0
        return self._fleet.force_kill(old)

    # -- CUT

    def _cut(self, plugin: Plugin, change: Changeover) -> bool:
        """One assignment: the queue points at the new workers."""
        new, old = change.new, change.old
        assert new is not None
        if old is not None:
            self._stop_routing(old)
            plugin.previous = old.release.digest
        plugin.live = new
        change.stop_timer()
        for worker in new.ready():
            self._fleet.settle_in(worker)
        self._register(plugin, change, new)
        self._begin_watch(plugin, change, new)
        if plugin.gate is Gate.HELD:
            plugin.turn_gate("release")
        plugin.holds_since = None
        if change.drain is None:
            change.lost_before = plugin.counts.lost
        if change.undoes is not None:
            self._changes.rolled_back(plugin, change.undoes)
        self._fleet.fill(new)
        self._routing.dispatch(plugin)
        return True

    def _stop_routing(self, old: Generation) -> None:
        for worker in list(old.workers.values()):
            if worker.state is WorkerState.READY:
                worker.turn("drain")
            else:
                self._fleet.kill(worker, "retire")

    def _register(self, plugin: Plugin, change: Changeover, new: Generation) -> None:
        """The registry learns it after success only."""
        release = replace(new.release, version=new.loaded.version)
        new.release = change.release = plugin.releases[release.digest] = release
        new.loaded_at = self._desk.now
        version = _plugin_version(self._desk, plugin.name, new)
        registry = self._desk.registry
        if plugin.name in registry.loaded_plugins:
            registry.reload_plugin(plugin.name, version)
            registry.update_hash(plugin.name, release.hash, release.digest)
        else:
            registry.register_loaded(version)
            registry.watch(plugin.name, release.shown, release.hash, release.digest)
        if change.reason == "rollback" and change.old is not None:
            plugin.held.add(change.old.release.digest)
        plugin.held.discard(release.digest)
        plugin.failure = ""
        self._desk.give(Record(self._changes.entry(plugin, change, "cut")))

    def _begin_watch(self, plugin: Plugin, change: Changeover, new: Generation) -> None:
        """The live one's watch ends at the newcomer's cut."""
        before, old = plugin.watch, change.old
        ended = (old.done + old.failed) if old else 0
        rate = old.failed / ended if old and ended else 0.0
        watch = plugin.watch = Watch(change, new, rate)
        if before is not None:
            self._changes.end_watch(plugin, before.change)
        change.watched_until = self._desk.now + plugin.spec.probation_s
        self._desk.timers.arm(change.watched_until, self._changes.watch_over, plugin, watch)

    # -- PARK, RETIRE

    def _park(self, plugin: Plugin, change: Changeover) -> bool:
        old = change.old
        if old is None:
            return True
        change.parked = old
        keep = plugin.spec.rollback_keep != "staged" and change.undoes is None
        if keep and plugin.watch is not None and plugin.watch.change is change:
            for worker in old.workers.values():
                if worker.state is WorkerState.DRAINING:
                    worker.turn("return")
        else:
            self.retire_parked(plugin, change)
        return True

    def retire_parked(self, _plugin: Plugin, change: Changeover) -> None:
        """Stop the workers that the cut replaced."""
        parked, change.parked = change.parked, None
        if parked is not None:
            for worker in list(parked.workers.values()):
                self._fleet.stop(worker, "retire")

    # -- undo

    def undo(self, plugin: Plugin, change: Changeover) -> None:
        """Backwards through what was done before the cut."""
        steps = PLANS[change.plan]
        done = steps[: steps.index(change.step) + 1]
        if change.new is not None:
            for worker in list(change.new.workers.values()):
                if change.is_warm:
                    self._fleet.stop(worker, "refused")
                else:
                    self._fleet.kill(worker, "refused")
        if Step.STOP in done and plugin.live is not None:
            self._fleet.fill(plugin.live)
        if Step.HOLD in done and plugin.holds_since is not None:
            plugin.holds_since = None
            plugin.turn_gate("release")
            self._routing.dispatch(plugin)


def _reusable(generation: Generation) -> bool:
    states = (WorkerState.READY, WorkerState.DRAINING)
    return any(w.state in states for w in generation.workers.values())


def _load_reason(change: Changeover) -> str:
    return "start" if change.old is None else "change"


def _drain_timeout_s(change: Changeover) -> float | None:
    if change.has_cut and change.spec.drain_over == "wait":
        return None
    return change.spec.drain_timeout_s


def _plugin_version(desk: Desk, name: str, generation: Generation) -> PluginVersion:
    return PluginVersion(
        id=name,
        version=generation.loaded.version,
        hash=generation.release.hash,
        loaded_at=desk.wall(generation.loaded_at),
    )
