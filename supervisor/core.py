"""The pure core: facts in, orders out. It decides everything and does nothing.

Every public method is a fact (or a request), with `now` in seconds of a monotonic clock. After
each the shell takes `take_orders()` and carries them out in order. No I/O, no clock, no
randomness is imported here or below, so a seeded scheduler can run it through any interleaving.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ..protocol.errors import Code, Fault
from .changeover import Changeover, Reason
from .changes import MAX_LUCK, Changes
from .desk import Desk
from .fleet import BLAMELESS, Fleet
from .model import Job, Plugin, Release, Worker
from .orders import Flushed, Order
from .registry import HotReloadManager, OnChange
from .restarts import Restarts
from .routing import Routing, is_plugin_error
from .spec import PluginSpec, SupervisorSpec
from .states import Gate, Step, WorkerState

LOST_REASONS = {"": "crashed", "drain": "killed_at_drain", "stop": "stopped"}


class Core:
    """All plugins of one supervisor."""

    def __init__(
        self, spec: SupervisorSpec, *, wall_start: datetime, jitter: Callable[[], float]
    ) -> None:
        self.desk = Desk(spec, wall_start, jitter)
        self.routing = Routing(self.desk)
        self.fleet = Fleet(self.desk)
        self.changes = Changes(self.desk, self.routing, self.fleet)
        self.restarts = Restarts(self.desk, self.routing, self.fleet, self.changes)
        self.routing.on_end = self._job_ended
        self.routing.on_overdue = self.fleet.kill_if_overdue
        self.fleet.on_ready = self._ready
        self.fleet.on_reply = self._replied
        self.fleet.on_death = self._died
        self.fleet.on_boot_failure = self._boot_failed

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
        return self.routing.jobs

    def take_orders(self) -> list[Order]:
        """What the shell must do now, in this order."""
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
        if spec.name in self.plugins:
            raise Fault.new(Code.CONFLICT, f"there is a plugin {spec.name!r} already")
        plugin = plugin or Plugin(spec)
        self.plugins[spec.name] = plugin
        self.registry.set_policy(spec.name, spec.reload, now, self.desk.wall())
        return self.changes.request(plugin, Changeover(spec.name, spec, reason, who=who))

    def remove(self, now: float, name: str) -> Plugin:
        """Close a plugin: nothing new is accepted, what it has is finished, its workers leave."""
        self.desk.now = now
        plugin = self.plugin(name)
        plugin.is_closing = True
        self._stop_changes(plugin)
        self._close_if_idle(plugin)
        self.desk.show_plugin(plugin, "remove")
        return plugin

    def reconfigure(self, now: float, spec: PluginSpec, *, needs_change: bool) -> Changeover | None:
        """A new config: live where it can be, a changeover where it must be."""
        self.desk.now = now
        plugin = self.plugin(spec.name)
        plugin.spec = spec
        self.registry.set_policy(spec.name, spec.reload, now, self.desk.wall())
        if needs_change:
            change = Changeover(spec.name, spec, "config", who="config")
            return self.changes.request(plugin, change)
        if plugin.live is not None:
            plugin.live.spec = spec
        self.routing.dispatch(plugin)
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
        self.routing.dispatch(plugin)
        self.desk.show_plugin(plugin, "resume")
        return plugin

    # -- jobs

    def submit(self, now: float, job: Job, *, block_s: float | None = None) -> bool:
        """Accept a job (True) or let it wait for room (False); a Fault: it never was one."""
        self.desk.now = now
        return self.routing.submit(self.plugin(job.plugin), job, block_s=block_s)

    def cancel(self, now: float, job: Job, reason: str, *, kill: bool = False) -> None:
        """End a job for its caller; with `kill` its worker does not get `kill_grace`."""
        self.desk.now = now
        plugin = self.plugins[job.plugin]
        worker = job.worker
        self.routing.cancel(plugin, job, reason)
        if kill and worker is not None and worker.jobs.get(job.id) is job:
            worker.overdue.add(job.id)
            self.fleet.kill_if_overdue(worker)

    def answered(
        self, now: float, worker: Worker, job_id: str, fault: Fault | None, result: bytes
    ) -> bool:
        """A worker answered a job; False if it holds no such job."""
        self.desk.now = now
        plugin = self.fleet.plugin_of(worker)
        return self.routing.answered(plugin, worker, job_id, fault, result)

    def _job_ended(self, plugin: Plugin, worker: Worker, job: Job, fault: Fault | None) -> None:
        generation = worker.generation
        if fault is None:
            generation.done += 1
        elif is_plugin_error(fault):
            generation.failed += 1
        watch = plugin.watch
        if watch is not None and watch.generation is generation:
            if fault is None:
                watch.saw_success()
            elif is_plugin_error(fault) and (cause := watch.saw_error()):
                self.changes.roll_back(plugin, cause)
        self.fleet.kill_if_overdue(worker)
        if plugin.change is not None:
            self.changes.pump(plugin)
        self._close_if_idle(plugin)

    # -- changeovers

    def change(
        self, now: float, name: str, reason: Reason, *, who: str = "", force: bool = False,
        spec: PluginSpec | None = None,
    ) -> Changeover:  # fmt: skip
        """Ask for a changeover to whatever the source holds now."""
        self.desk.now = now
        plugin = self.plugin(name)
        if plugin.is_closing or self.desk.is_stopping:
            raise Fault.new(Code.STOPPING, "the supervisor is stopping", plugin=name)
        change = Changeover(name, spec or plugin.spec, reason, who=who, force=force)
        return self.changes.request(plugin, change)

    def rollback(
        self, now: float, name: str, *, to: int | None = None, who: str = ""
    ) -> Changeover:
        """Go back to the release that the last cut replaced, or to number `to`."""
        self.desk.now = now
        plugin = self.plugin(name)
        target = self.rollback_target(plugin, to)
        change = Changeover(name, plugin.spec, "rollback", who=who, target=target)
        return self.changes.request(plugin, change)

    def rollback_target(self, plugin: Plugin, to: int | None) -> Release:
        """Where a rollback would go; raises Fault NOT_FOUND."""
        if to is not None:
            for release in plugin.releases.values():
                if release.number == to:
                    return release
            raise Fault.new(Code.NOT_FOUND, f"{plugin.name} has no release @{to}")
        digest = plugin.previous
        live = plugin.live.release.digest if plugin.live else ""
        if digest in plugin.releases and digest != live:
            return plugin.releases[digest]
        fallback = self.changes.fallback_release(plugin, avoid=live)
        if fallback is None:
            raise Fault.new(Code.NOT_FOUND, f"{plugin.name} has no earlier release")
        return fallback

    def candidate(self, now: float, name: str, hash_: int, digest: str) -> Changeover | None:
        """The source has settled on this content (policy on-change only)."""
        self.desk.now = now
        plugin = self.plugins.get(name)
        if plugin is None or plugin.is_closing or self.desk.is_stopping:
            return None
        if not isinstance(plugin.spec.reload, OnChange):
            return None
        if digest in plugin.bad or digest in plugin.held:
            return None
        under_way = [c for c in (plugin.change, plugin.pending) if c is not None and c.release]
        if any(c.release is not None and c.release.digest == digest for c in under_way):
            return None
        watched = name in self.registry.watchers
        seen = {name: (hash_, digest)}
        if watched and not under_way and not self.registry.check_for_changes(seen):
            return None
        return self.changes.request(plugin, Changeover(name, plugin.spec, "file", who="watch"))

    def check_schedules(self, now: float, wall: datetime) -> list[Changeover]:
        """Begin what is due by the wall clock or by interval."""
        self.desk.now = now
        begun = []
        for name, plugin in list(self.plugins.items()):
            if plugin.is_closing or self.desk.is_stopping:
                continue
            if self.registry.is_scheduled_reload_due(name, now, wall):
                change = Changeover(name, plugin.spec, "schedule", who="schedule")
                begun.append(self.changes.request(plugin, change))
        return begun

    def staged(
        self, now: float, change: Changeover, *, digest: str, hash_: int, path: str, shown: str
    ) -> None:
        """The content of a change is in the store."""
        self.desk.now = now
        plugin = self.plugins.get(change.plugin)
        if plugin is None:
            return
        release = plugin.releases.get(digest)
        if release is None:
            number = max((r.number for r in plugin.releases.values()), default=0) + 1
            release = Release(number=number, digest=digest, hash=hash_, path=path, shown=shown)
        elif release.path != path:
            release = Release(
                number=release.number, digest=digest, hash=hash_, path=path, shown=shown,
                version=release.version,
            )  # fmt: skip
        plugin.releases[digest] = release
        self.changes.staged(plugin, change, release)

    def stage_failed(self, now: float, change: Changeover, cause: str, *, luck: bool) -> None:
        """The content could not be brought into the store."""
        self.desk.now = now
        plugin = self.plugins.get(change.plugin)
        if plugin is not None:
            self.changes.stage_failed(plugin, change, cause, luck=luck)

    # -- workers

    def spawned(self, now: float, worker: Worker, pid: int) -> None:
        """A process was started for this worker."""
        self.desk.now = now
        self.fleet.spawned(worker, pid)

    def spawn_failed(self, now: float, worker: Worker, cause: str, *, luck: bool) -> None:
        """No process could be started."""
        self.desk.now = now
        fault = Fault.new(Code.CHANGE_FAILED, cause, bad_luck=luck)
        self.fleet.spawn_failed(worker, fault)
        self._after_exit(worker)

    def replied(
        self, now: float, worker: Worker, method: str, fault: Fault | None, result: Any
    ) -> None:
        """A worker answered a control request."""
        self.desk.now = now
        if worker.is_alive:
            self.fleet.replied(worker, method, fault, result)

    def extended(self, now: float, worker: Worker, extra_s: float) -> None:
        """A worker asks for more time for the control request under way."""
        self.desk.now = now
        self.fleet.extend(worker, extra_s)

    def broke_protocol(self, now: float, worker: Worker, cause: str) -> None:
        """A worker sent what is no message, or closed its output: it can never answer."""
        self.desk.now = now
        if not worker.is_alive or worker.cause:
            return
        if worker.state is WorkerState.STARTING:
            plugin = self.fleet.plugin_of(worker)
            self.fleet.kill_at_once(worker, "refused")
            fault = Fault.new(Code.WORKER_LOST, cause, reason="protocol")
            self._boot_failed(plugin, worker, worker.asked or "boot", fault)
        else:
            self.desk.narrate("error", self.fleet.plugin_of(worker).name, cause)
            self.fleet.kill_at_once(worker, "protocol")

    def exited(self, now: float, worker: Worker, death: Fault) -> None:
        """A process was reaped; everything that was in its pipe has been told before.

        `death` is a WORKER_LOST whose data say `exit` or `signal` and `stderr_tail`.
        """
        self.desk.now = now
        if not worker.is_alive:
            return
        reason = LOST_REASONS.get(worker.cause, worker.cause)
        reason = (
            reason if reason in ("crashed", "killed_at_drain", "stopped", "protocol") else "crashed"
        )
        death.data["reason"] = reason
        self.fleet.exited(worker, death)
        self._after_exit(worker)

    def _after_exit(self, worker: Worker) -> None:
        plugin = self.plugins.get(worker.generation.spec.name)
        if plugin is None:
            return
        for number, generation in list(plugin.generations.items()):
            if not generation.is_alive and generation is not plugin.live:
                del plugin.generations[number]
        self.changes.pump(plugin)
        self._close_if_idle(plugin)

    def _ready(self, plugin: Plugin, worker: Worker) -> None:
        generation = worker.generation
        if generation is plugin.live:
            self.fleet.settle_in(worker)
            self.routing.dispatch(plugin)
            self.desk.show_plugin(plugin)
        self.changes.pump(plugin)

    def _replied(
        self, plugin: Plugin, worker: Worker, method: str, fault: Fault | None, result: Any
    ) -> None:
        change = plugin.change
        if method == "flush" and (change is None or change.step is not Step.EXPORT):
            self.desk.give(Flushed(plugin.name, result if fault is None else b"\x90"))
        elif change is not None and worker.generation in (change.new, change.old):
            self.changes.replied(plugin, change, worker, method, fault, result)
            self.changes.pump(plugin)

    def _died(self, plugin: Plugin, worker: Worker, death: Fault) -> None:
        unexplained = worker.cause not in BLAMELESS and worker.cause != "stop-first"
        generation, jobs = worker.generation, list(worker.jobs.values())
        change = plugin.change
        if unexplained and change is not None and generation is change.new and not change.has_cut:
            self.lose_while_warming(plugin, change, worker, death)
        elif unexplained and generation is plugin.live:
            self.restarts.saw_death(plugin, worker, death, jobs)
        self.routing.take_back(plugin, worker, death, unexplained=unexplained)
        if unexplained and generation is plugin.live:
            self.restarts.answer(plugin, generation)
        elif generation is plugin.live and worker.cause == "cancel":
            self.fleet.fill(generation)

    def _boot_failed(self, plugin: Plugin, worker: Worker, stage: str, fault: Fault) -> None:
        change, generation = plugin.change, worker.generation
        if generation is plugin.live:
            self.restarts.saw_death(plugin, worker, fault, [])
            self.restarts.answer(plugin, generation)
        elif change is not None and generation is change.new:
            self.lose_while_warming(plugin, change, worker, fault, stage)

    def lose_while_warming(
        self, plugin: Plugin, change: Changeover, worker: Worker, fault: Fault, stage: str = ""
    ) -> None:
        """Bad content is refused; bad luck is tried again with back-off."""
        luck = bool(fault.data.get("bad_luck")) or (
            fault.data.get("signal") is not None and worker.cause == ""
        )
        where = "" if stage in ("", "load", "boot") else f"{stage}: "
        if not luck or change.luck >= MAX_LUCK:
            self.changes.refuse(plugin, change, f"{where}{fault.message}", bad=not luck)
            return
        change.luck += 1
        delay_s = min(change.spec.restart_max_s, change.spec.restart_min_s * 2 ** (change.luck - 1))
        self.desk.narrate(
            "warning", plugin.name, f"{fault.message}; trying again in {delay_s:.1f} s"
        )
        self.desk.arm(delay_s, self._warm_again, plugin, change, worker)

    def _warm_again(self, plugin: Plugin, change: Changeover, worker: Worker) -> None:
        new = change.new
        waits = plugin.change is change and not change.has_cut
        if waits and new is not None and worker.slot not in new.workers:
            self.fleet.spawn(new, worker.slot)

    def flush(self, now: float, name: str) -> int:
        """Ask the filters for what they still hold; how many were asked."""
        self.desk.now = now
        plugin = self.plugin(name)
        asked = 0
        for worker in plugin.live.ready() if plugin.live else ():
            if "flush" in worker.capabilities and not worker.asked:
                self.fleet.ask(worker, "flush", [{}])
                asked += 1
        return asked

    # -- the end

    def stop(self, now: float, *, at_once: bool = False) -> None:
        """Accept nothing more; finish what was accepted (or not, with `at_once`) and stop."""
        self.desk.now = now
        self.desk.is_stopping = True
        for plugin in list(self.plugins.values()):
            self._stop_changes(plugin)
            nobody_comes = plugin.live is None and plugin.change is None
            if at_once or nobody_comes or plugin.gate is Gate.SHUT:
                fault = Fault.new(Code.STOPPING, "the supervisor is stopping", plugin=plugin.name)
                self.routing.refuse_all(plugin, fault)
            if at_once:
                self._kill_all(plugin)
            self._close_if_idle(plugin)

    def _kill_all(self, plugin: Plugin) -> None:
        for generation in plugin.generations.values():
            for worker in [*generation.workers.values(), *generation.leaving]:
                self.fleet.kill_at_once(worker, "stop")

    def _stop_changes(self, plugin: Plugin) -> None:
        if plugin.retry is not None:
            plugin.retry.cancel()
        self.changes.abandon(plugin)

    def _close_if_idle(self, plugin: Plugin) -> None:
        """A closing plugin without a job needs no workers; without workers it is gone."""
        if not (plugin.is_closing or self.desk.is_stopping) or plugin.jobs or plugin.change:
            return
        for generation in list(plugin.generations.values()):
            for worker in list(generation.workers.values()):
                self.fleet.stop(worker, "stop")
            if not generation.is_alive:
                del plugin.generations[generation.number]
        if plugin.generations:
            return
        plugin.live = None
        if plugin.is_closing and self.plugins.get(plugin.name) is plugin:
            del self.plugins[plugin.name]
            if plugin.name in self.registry.loaded_plugins:
                self.registry.unload_plugin(plugin.name)

    @property
    def is_idle(self) -> bool:
        """Is no job and no worker left?"""
        return not self.routing.jobs and not self.fleet.workers


def _nearest(name: str, names: list[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, names, 1)), None)
