"""What each step of a changeover does, and how it is undone.

A step's function is called again after every fact until it returns True; it must do its work
once and otherwise only look. Before the cut nothing here touches what serves. The steps that
hold the queue are in `holding.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..protocol.errors import Code, Fault
from .changeover import Changeover
from .cut import Cut
from .desk import Desk
from .fleet import Fleet
from .generation import Generation, plugin_version
from .holding import Holding
from .plugin import Plugin
from .routing import Routing
from .states import PLANS, Step, WorkerState
from .talking import Talking
from .worker import Worker

Refuse = Callable[..., None]


class Steps:
    """The work of the steps."""

    def __init__(
        self, desk: Desk, routing: Routing, fleet: Fleet, talking: Talking, holding: Holding,
        cut: Cut,
    ) -> None:  # fmt: skip
        self._desk = desk
        self._routing = routing
        self._fleet = fleet
        self._talking = talking
        self._holding = holding
        self._cut = cut
        self.on_refused: Refuse = lambda *_, **__: None  # set by the core
        self._work: dict[Step, Callable[[Plugin, Changeover], bool]] = {
            Step.WARM: self._warm,
            Step.CHECK: self._check,
            Step.HOLD: holding.hold,
            Step.DRAIN: holding.drain,
            Step.EXPORT: holding.export,
            Step.STOP: holding.stop,
            Step.ADOPT: self._adopt,
            Step.CUT: cut.cut,
            Step.PARK: cut.park,
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
            is_stateful = "state" in old.loaded.capabilities or old.loaded.frames == "ordered"
            swap = "handoff" if is_stateful else "overlap"
        if swap != "handoff":
            return swap
        if change.undoes is not None:
            text = "the state since the changeover is lost: it is that of a bad release"
        elif max(change.spec.workers, old.spec.workers) > 1:
            text = "handoff needs workers = 1: they overlap, and the state is not handed over"
        else:
            return swap
        self._desk.narrate("warning", plugin.name, text)
        return "overlap"

    # -- WARM

    def find_warm(self, plugin: Plugin, change: Changeover) -> Generation | None:
        """A parked or draining generation that runs the wanted release already."""
        if change.target is None or change.reason == "recycle":
            return None
        for generation in plugin.generations.values():
            is_wanted = generation.release.digest == change.target.digest
            if is_wanted and generation is not plugin.live and _has_reusable(generation):
                return generation
        return None

    def _warm(self, plugin: Plugin, change: Changeover) -> bool:
        if change.new is None:
            warm = self.find_warm(plugin, change)
            if warm is not None:
                self._reanimate(plugin, change, warm)
            elif self._has_room(plugin, change):
                self._spawn_all(plugin, change)
        return _has_enough(change)

    def _has_room(self, plugin: Plugin, change: Changeover) -> bool:
        """At most two generations are alive; what an earlier cut replaced is retired for it."""
        watch = plugin.watch
        for earlier in (watch.change if watch is not None else None, change.undoes):
            if earlier is not None:
                self._retire_replaced(plugin, earlier)
        return not plugin.has_others_alive

    def _retire_replaced(self, plugin: Plugin, earlier: Changeover) -> None:
        if earlier.step is Step.DRAIN and self._holding.drain(plugin, earlier):
            earlier.parked = earlier.old
        self._cut.retire_parked(earlier)

    def _spawn_all(self, plugin: Plugin, change: Changeover) -> None:
        assert change.release is not None
        reason = "start" if change.old is None else "change"
        new = Generation(change.number, change.release, change.spec, reason)
        change.new = plugin.generations[change.number] = new
        for slot in range(change.spec.workers):
            self._fleet.spawn(new, slot)

    def _reanimate(self, plugin: Plugin, change: Changeover, warm: Generation) -> None:
        """The parked workers serve again, under the new changeover's number."""
        new = Generation(change.number, warm.release, warm.spec, "change")
        new.loaded = warm.loaded
        new.leaving, warm.leaving = warm.leaving, set()
        new.workers, warm.workers = warm.workers, {}
        for worker in (*new.workers.values(), *new.leaving):
            worker.generation = new
        for worker in new.workers.values():
            if worker.state is WorkerState.DRAINING:
                worker.turn("return")
            change.warm.add(worker.id)
        change.new = plugin.generations[change.number] = new
        change.spec = warm.spec
        plugin.forget_dead()

    # -- CHECK, ADOPT

    def _check(self, _plugin: Plugin, change: Changeover) -> bool:
        asked = [w for w in _new_workers(change) if "check" in w.capabilities]
        return self._ask_all(change, asked, "check", {}) and _has_enough(change)

    def _adopt(self, plugin: Plugin, change: Changeover) -> bool:
        old = change.old
        if not self._check(plugin, change):  # a worker that bad luck took was replaced meanwhile
            return False
        if old is None:
            return True
        asked = _new_workers(change, is_warm_too=change.state is not None)
        version = plugin_version(plugin.name, old, self._desk.wall(old.loaded_at)).wire()
        options = {"old_version": version, "state": change.state}
        return self._ask_all(change, asked, "adopt", options)

    def _ask_all(
        self, change: Changeover, workers: list[Worker], method: str, options: dict[str, Any]
    ) -> bool:
        """Each is asked once; have all answered?"""
        for worker in workers:
            if (worker.id, method) not in change.asked:
                change.asked.add((worker.id, method))
                # In a handoff callers wait for the adoption: `hold_timeout` limits it.
                is_timed = not (method == "adopt" and change.plan == "handoff")
                self._talking.ask(worker, method, [options], purpose=change, is_timed=is_timed)
        return all((worker.id, method) in change.passed for worker in workers)

    def replied(
        self, plugin: Plugin, change: Changeover, worker: Worker, method: str,
        fault: Fault | None, result: Any,
    ) -> None:  # fmt: skip
        """A worker answered check, adopt, flush or export_state."""
        if method not in ("check", "adopt"):
            self._holding.replied(plugin, change, worker, method, fault, result)
        elif fault is not None and fault.code != Code.METHOD_NOT_FOUND:
            self.on_refused(plugin, change, fault.message, bad=True)
        else:
            change.passed.add((worker.id, method))

    # -- undo

    def undo(self, plugin: Plugin, change: Changeover, step: Step) -> None:
        """It ended in this step, before the cut: backwards through what it did."""
        steps = PLANS[change.plan]
        done = steps[: steps.index(step) + 1]
        if change.new is not None:
            self._put_away(change, change.new)
        if change.undoes is not None or (plugin.change is not None and plugin.change.undoes):
            return  # the queue stays held until there is a way back, or none
        if plugin.live is not None:
            self._fleet.fill(plugin.live)
        if Step.HOLD in done and plugin.holds_since is not None:
            plugin.release()
            self._routing.dispatch(plugin)

    def _put_away(self, change: Changeover, new: Generation) -> None:
        workers = list(new.workers.values())
        for worker in workers:
            if worker.id in change.warm:
                self._fleet.ladder.stop(worker, "refused")
        self._fleet.ladder.kill_all([w for w in workers if w.id not in change.warm], "refused")


def _new_workers(change: Changeover, *, is_warm_too: bool = False) -> list[Worker]:
    """Those that are ready; one that comes back from a park has proved itself before."""
    assert change.new is not None
    return [w for w in change.new.ready() if is_warm_too or w.id not in change.warm]


def _has_enough(change: Changeover) -> bool:
    """All of its workers are ready; of a parked generation one will do."""
    if change.new is None:
        return False
    return len(change.new.ready()) >= (1 if change.is_warm else change.spec.workers)


def _has_reusable(generation: Generation) -> bool:
    states = (WorkerState.READY, WorkerState.DRAINING)
    return any(w.state in states for w in generation.workers.values())
