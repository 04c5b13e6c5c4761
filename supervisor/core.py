"""The pure core: facts in, orders out. It decides everything and does nothing.

Every public method is a fact (or a request), with `now` in seconds of a monotonic clock. After
each the shell takes `take_orders()` and carries them out in order. No I/O, no clock, no
randomness is imported here or below, so a seeded scheduler can run it through any interleaving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ..protocol.errors import Code, Fault
from .accepting import Accepting
from .cancelling import Cancelling
from .changeover import Changeover
from .changes import Changes
from .closing import Closing
from .cut import Cut
from .deaths import EMPTY, Deaths
from .desk import Desk
from .fleet import Fleet
from .holding import Holding
from .job import Job
from .launching import launched_as
from .memory_limit import MemoryLimit
from .orders import Flushed, Order
from .outcomes import Outcomes
from .plugin import Plugin
from .recycles import Recycles
from .registry import Disabled, HotReloadManager
from .release import Release
from .releases import known_release, rollback_target
from .restarts import Restarts
from .rollbacks import Rollbacks
from .routing import Routing
from .spec import PluginSpec, SupervisorSpec
from .states import WorkerState
from .steps import Steps
from .talking import FLUSH, Talking
from .triggers import Reason, is_news
from .worker import Worker


class Core:
    """All plugins of one supervisor."""

    def __init__(
        self, spec: SupervisorSpec, *, wall_start: datetime, jitter: Callable[[], float]
    ) -> None:
        desk = self.desk = Desk(spec, wall_start, jitter)
        self._outcomes = outcomes = Outcomes(desk)
        self._cancelling = Cancelling(desk, outcomes)
        self._accepting = Accepting(desk, outcomes, self._cancelling)
        self._routing = routing = Routing(desk, outcomes, self._accepting)
        self._talking = talking = Talking(desk)
        self._fleet = fleet = Fleet(desk, talking)
        holding, cut = Holding(desk, fleet, talking), Cut(desk, routing, fleet)
        self._steps = Steps(desk, routing, fleet, talking, holding, cut)
        self._changes = changes = Changes(desk, outcomes, self._steps)
        self._rollbacks = rollbacks = Rollbacks(desk, routing, fleet, changes, cut)
        self._restarts = restarts = Restarts(desk, outcomes, fleet, rollbacks)
        self._memory_limit = MemoryLimit(desk, fleet, restarts)
        self._recycles = Recycles(desk, changes)
        self._deaths = Deaths(desk, routing, fleet, changes, restarts, rollbacks)
        self._closing = Closing(desk, outcomes, fleet, changes, rollbacks)
        routing.on_end, routing.on_freed = self._job_ended, self._freed
        self._cancelling.on_overdue = fleet.kill_if_overdue
        fleet.on_ready = self._ready
        fleet.on_reply = self._replied
        fleet.on_death = self._deaths.died
        fleet.on_boot_failure = self._deaths.boot_failed
        self._steps.on_refused = holding.on_refused = changes.refuse
        holding.on_due = changes.pump
        cut.on_cut = rollbacks.begin_watch
        changes.on_watch = rollbacks.drained
        changes.on_recycle_refused = self._recycles.refused
        changes.on_way_back_failed = rollbacks.way_back_failed

    @property
    def plugins(self) -> dict[str, Plugin]:
        """By name; read only."""
        return self.desk.plugins

    @property
    def registry(self) -> HotReloadManager:
        """What is loaded, watched and due; read only."""
        return self.desk.registry

    @property
    def jobs(self) -> dict[str, Job]:
        """Every job that has not ended, by id; read only."""
        return self._outcomes.jobs

    def take_orders(self) -> list[Order]:
        """What the shell must do now, in this order. Call it after every fact."""
        self._closing.look()
        orders, self.desk.orders = self.desk.orders, []
        return orders

    def next_due(self) -> float | None:
        """When `tick` wants to be called next."""
        return self.desk.timers.next_due()

    def tick(self, now: float) -> None:
        """Time has passed."""
        self.desk.now = now
        self.desk.timers.run(now)

    def plugin(self, name: str) -> Plugin:
        """Look a plugin up; raises Fault NOT_FOUND with a suggestion."""
        try:
            return self.plugins[name]
        except KeyError:
            near = _nearest(name, list(self.plugins))
            hint = f"; did you mean {near!r}?" if near else ""
            raise Fault.new(
                Code.NOT_FOUND, f"no plugin {name!r}{hint}", plugin=name, did_you_mean=near
            ) from None

    # -- plugins

    def add(
        self, now: float, spec: PluginSpec, *, reason: Reason = "add", who: str = "",
        plugin: Plugin | None = None,
    ) -> Changeover:  # fmt: skip
        """Register a plugin and load it; `plugin` carries what the history knows of it."""
        self.desk.now = now
        if self.desk.is_stopping:
            raise Fault.new(Code.STOPPING, "the supervisor is stopping", plugin=spec.name)
        if spec.name in self.plugins:
            raise Fault.new(Code.CONFLICT, f"there is a plugin {spec.name!r} already")
        plugin = plugin or Plugin(spec)
        self.plugins[spec.name] = plugin
        self.registry.set_policy(spec.name, spec.reload, now, self.desk.wall())
        return self._changes.request(plugin, Changeover(spec.name, spec, reason, who=who))

    def remove(self, now: float, name: str) -> Plugin:
        """Close a plugin: nothing new is accepted, what it has is finished, its workers leave."""
        self.desk.now = now
        plugin = self.plugin(name)
        self._closing.remove(plugin)
        return plugin

    def reconfigure(self, now: float, spec: PluginSpec, *, needs_change: bool) -> Changeover | None:
        """A new config: live where it can be, a changeover where it must be."""
        self.desk.now = now
        plugin = self.plugin(spec.name)
        plugin.spec = spec
        self.registry.set_policy(spec.name, spec.reload, now, self.desk.wall())
        if needs_change:
            change = Changeover(spec.name, spec, "config", who="config")
            return self._changes.request(plugin, change)
        if plugin.live is not None:
            plugin.live.spec = launched_as(spec, plugin.live.spec)
        self._routing.dispatch(plugin)
        return None

    def pause(self, now: float, name: str, *, reject: bool = False) -> Plugin:
        """What runs finishes, callers wait (or are refused) meanwhile."""
        self.desk.now = now
        plugin = self.plugin(name)
        plugin.turn_gate("pause")
        plugin.rejects = reject
        self.desk.show_plugin(plugin, "pause")
        return plugin

    def resume(self, now: float, name: str) -> Plugin:
        """The queue moves again, unless a changeover holds it."""
        self.desk.now = now
        plugin = self.plugin(name)
        plugin.turn_gate("resume")
        plugin.rejects = False
        if plugin.holds_since is not None:
            plugin.turn_gate("hold")
        self._routing.dispatch(plugin)
        self.desk.show_plugin(plugin, "resume")
        return plugin

    # -- jobs

    def submit(self, now: float, job: Job, *, block_s: float | None = None) -> bool:
        """Accept a job (True) or let it wait for room (False); a Fault: it never was one."""
        self.desk.now = now
        return self._accepting.submit(self.plugin(job.plugin), job, block_s=block_s)

    def restore(self, now: float, job: Job, *, left_s: float | None, may_repeat: bool) -> None:
        """A job that a supervisor before this one had accepted, in the order of their acceptance.

        What has been lent then may have run: it is run again only if that does no harm.
        """
        self.desk.now = now
        plugin = self.plugin(job.plugin)
        self._accepting.restore(plugin, job, left_s)
        if job.attempts and not may_repeat:
            text = f"the supervisor ended while a worker of {plugin.name} ran it"
            lost = Fault.new(Code.WORKER_LOST, text, reason="stopped")
            self._outcomes.failed(plugin, job, lost)

    def refused(self, now: float, job: Job, fault: Fault) -> None:
        """The journal cannot keep a job that was submitted: it never was one."""
        self.desk.now = now
        plugin = self.plugins.get(job.plugin)
        if plugin is not None:
            self._routing.refused(plugin, job, fault)

    def begin(self, now: float, worker: Worker, job: Job) -> bool:
        """The journal has it that a job that is held begins; True if it is to be sent now."""
        self.desk.now = now
        plugin = self.plugins.get(job.plugin)
        return plugin is not None and self._routing.begin(plugin, worker, job)

    def cancel(self, now: float, job: Job, reason: str, *, kill: bool = False) -> None:
        """End a job for its caller; with `kill` its worker does not get `kill_grace`."""
        self.desk.now = now
        plugin = self.plugins.get(job.plugin)
        if plugin is not None:
            end = self._cancelling.kill if kill else self._cancelling.cancel
            end(plugin, job, reason)

    def answered(
        self, now: float, worker: Worker, job_id: str, fault: Fault | None, result: bytes
    ) -> bool:
        """A worker answered a job; False if it holds no such job."""
        self.desk.now = now
        plugin = self._fleet.plugin_of(worker)
        return self._routing.answered(plugin, worker, job_id, fault, result)

    def _job_ended(self, plugin: Plugin, worker: Worker, job: Job, fault: Fault | None) -> None:
        if job.cancel_reason is None:  # else whatever it raised may come from the cancel
            self._rollbacks.saw_answer(plugin, worker.generation, fault)

    def _freed(self, plugin: Plugin, worker: Worker) -> None:
        self._fleet.kill_if_overdue(worker)
        self._restarts.retire_if_failed(worker)
        self._changes.pump(plugin)
        self._recycles.job_ended(plugin, worker)

    def flush(self, now: float, name: str) -> int:
        """Ask the workers that serve for what their filters still hold.

        Returns how many were asked; each answers with one `Flushed`, also if it dies.
        """
        self.desk.now = now
        plugin = self.plugin(name)
        ready = plugin.live.ready() if plugin.live is not None else []
        asked = [worker for worker in ready if "flush" in worker.capabilities]
        for worker in asked:
            self._talking.ask(worker, "flush", [{}], purpose=FLUSH)
        return len(asked)

    # -- changeovers

    def change(
        self, now: float, name: str, reason: Reason, *, who: str = "", force: bool = False,
        spec: PluginSpec | None = None,
    ) -> Changeover:  # fmt: skip
        """Ask for a changeover to whatever the source holds now."""
        self.desk.now = now
        plugin = self._open_plugin(name)
        change = Changeover(name, spec or plugin.spec, reason, who=who, force=force)
        return self._changes.request(plugin, change)

    def _open_plugin(self, name: str) -> Plugin:
        plugin = self.plugin(name)
        if plugin.is_closing or self.desk.is_stopping:
            raise Fault.new(Code.STOPPING, f"{name} is stopping", plugin=name)
        return plugin

    def rollback(
        self, now: float, name: str, *, to: int | None = None, who: str = ""
    ) -> Changeover:
        """Go back to the release that the last cut replaced, or to number `to`."""
        self.desk.now = now
        plugin = self._open_plugin(name)
        is_disabled = isinstance(plugin.spec.reload, Disabled)  # refused, whatever there is
        target = None if is_disabled else rollback_target(plugin, to)
        change = Changeover(name, plugin.spec, "rollback", who=who, target=target)
        return self._changes.request(plugin, change)

    def rollback_target(self, plugin: Plugin, to: int | None) -> Release:
        """Where a rollback would go; raises Fault NOT_FOUND."""
        return rollback_target(plugin, to)

    def candidate(self, now: float, name: str, hash_: int, digest: str) -> Changeover | None:
        """The source has settled on this content (policy on-change only)."""
        self.desk.now = now
        plugin = self.plugins.get(name)
        if plugin is None or plugin.is_closing or self.desk.is_stopping:
            return None
        plugin.saw_content(digest)
        if not is_news(plugin, self.registry, hash_, digest):
            return None
        return self._changes.request(plugin, Changeover(name, plugin.spec, "file", who="watch"))

    def check_schedules(self, now: float, wall: datetime) -> list[Changeover]:
        """Begin what is due by the wall clock or by interval."""
        self.desk.now = now
        begun = []
        for name, plugin in list(self.plugins.items()):
            is_due = self.registry.is_scheduled_reload_due(name, now, wall)
            if is_due and not plugin.is_closing and not self.desk.is_stopping:
                change = Changeover(name, plugin.spec, "schedule", who="schedule")
                begun.append(self._changes.request(plugin, change))
        return begun

    def staged(
        self, now: float, change: Changeover, *, digest: str, hash_: int, path: str, shown: str
    ) -> None:
        """The content of a change is in the store."""
        self.desk.now = now
        plugin = self.plugins.get(change.plugin)
        if plugin is None or change.has_ended:
            return
        if change.target is None:
            plugin.saw_content(digest)
        release = known_release(plugin, digest, hash_, path, shown)
        self._changes.staged(plugin, change, release)

    def stage_failed(self, now: float, change: Changeover, cause: str, *, luck: bool) -> None:
        """The content could not be brought into the store."""
        self.desk.now = now
        plugin = self.plugins.get(change.plugin)
        if plugin is not None and not change.has_ended:
            self._changes.stage_failed(plugin, change, cause, luck=luck)

    # -- workers

    def spawned(self, now: float, worker: Worker, pid: int) -> None:
        """A process was started for this worker."""
        self.desk.now = now
        self._fleet.spawned(worker, pid)

    def spawn_failed(self, now: float, worker: Worker, cause: str, *, luck: bool) -> None:
        """No process could be started."""
        self.desk.now = now
        fault = Fault.new(Code.CHANGE_FAILED, cause, bad_luck=luck)
        self._fleet.spawn_failed(worker, fault)
        self._after_exit(worker)

    def replied(
        self, now: float, worker: Worker, method: str, fault: Fault | None, result: Any
    ) -> None:
        """A worker answered a control request."""
        self.desk.now = now
        if worker.is_alive:
            self._fleet.replied(worker, method, fault, result)

    def extended(self, now: float, worker: Worker, extra_s: float) -> None:
        """A worker asks for more time for the control request under way."""
        self.desk.now = now
        self._talking.extend(worker, extra_s)

    def broke_protocol(self, now: float, worker: Worker, cause: str) -> None:
        """A worker sent what is no message, or closed its output: it can never answer."""
        self.desk.now = now
        if not worker.is_alive or worker.cause:
            return
        if worker.state is WorkerState.STARTING:
            fault = Fault.new(Code.WORKER_LOST, cause, reason="protocol")
            self._fleet.fail_boot(worker, worker.asked or "boot", fault, at_once=True)
        else:
            self.desk.narrate("error", worker.generation.spec.name, cause)
            self._fleet.ladder.kill_at_once(worker, "protocol")

    def exited(self, now: float, worker: Worker, death: Fault) -> None:
        """A process was reaped; everything that was in its pipe has been told before.

        `death` is a WORKER_LOST whose data say `exit` or `signal` and `stderr_tail`.
        """
        self.desk.now = now
        if worker.is_alive:
            self._fleet.exited(worker, death)
            self._after_exit(worker)

    def _after_exit(self, worker: Worker) -> None:
        plugin = self._fleet.plugin_of(worker)
        if plugin.live is not None:
            self._fleet.fill(plugin.live)
        self._changes.pump(plugin)

    def _ready(self, plugin: Plugin, worker: Worker) -> None:
        if worker.generation is plugin.live:
            self._routing.dispatch(plugin)
            self.desk.show_plugin(plugin)
        self._changes.pump(plugin)

    def _replied(
        self, plugin: Plugin, worker: Worker, purpose: object, method: str,
        fault: Fault | None, result: Any,
    ) -> None:  # fmt: skip
        if purpose is FLUSH:
            values = EMPTY if fault is not None else result
            self.desk.give(Flushed(plugin.name, values, fault))
        elif purpose is plugin.change and isinstance(purpose, Changeover):
            self._steps.replied(plugin, purpose, worker, method, fault, result)
            self._changes.pump(plugin)

    def measured(self, now: float, name: str, memory: Mapping[str, int]) -> None:
        """It is time to look at the limits of a plugin.

        `memory`: bytes that its workers and what they started take, by worker, where known.
        """
        self.desk.now = now
        plugin = self.plugins.get(name)
        if plugin is not None:
            self._memory_limit.look(plugin, memory)
            self._recycles.look(plugin, memory)

    # -- the end

    def stop(self, now: float, *, at_once: bool = False) -> None:
        """Accept nothing more; finish what was accepted (or not, with `at_once`) and stop."""
        self.desk.now = now
        self._closing.stop(at_once=at_once)

    @property
    def is_idle(self) -> bool:
        """Is no job, no worker and no changeover left?"""
        is_changing = any(plugin.change is not None for plugin in self.plugins.values())
        return not self.jobs and not self._fleet.workers and not is_changing


def _nearest(name: str, names: list[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, names, 1)), None)
