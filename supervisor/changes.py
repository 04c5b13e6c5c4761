"""The changeovers of all plugins: which one may begin, how it moves, how it ends.

Level-triggered: after every fact that concerns a plugin `pump` asks the step under way whether
it is done, so no event can be missed. What each step does is in `steps.py`.
"""

from __future__ import annotations

from typing import Any

from ..protocol.errors import Fault
from .changeover import BY_ITSELF, Changeover
from .desk import Desk
from .fleet import Fleet
from .model import Plugin, Release, Worker
from .orders import Ended, Phase, Record, Stage
from .registry import Disabled
from .routing import Routing
from .spec import PluginSpec
from .states import Restart, Step
from .steps import Steps
from .watch import Watch

# A change of any of these needs new workers; the others are live at once.
LAUNCH_KEYS = (
    "source", "pickled", "object", "command", "include", "config", "env", "workers",
    "concurrency", "start", "preload",
)  # fmt: skip
MAX_LUCK = 5  # workers that bad luck may take from one changeover


def launches_alike(one: PluginSpec, other: PluginSpec) -> bool:
    """Would both specs start the same workers, given the same content?"""
    return all(getattr(one, key) == getattr(other, key) for key in LAUNCH_KEYS)


class Changes:
    """At most one changeover per plugin on its way to the cut or draining, one under watch."""

    def __init__(self, desk: Desk, routing: Routing, fleet: Fleet) -> None:
        self._desk = desk
        self._routing = routing
        self._fleet = fleet
        self._steps = Steps(desk, routing, fleet, self)

    # -- beginning

    def request(self, plugin: Plugin, change: Changeover) -> Changeover:
        """Begin a changeover, or let it wait for the one under way; the newest wins."""
        change.started_at = change.entered_at = self._desk.now
        if not self._is_allowed(plugin, change):
            self._refuse_outright(plugin, change, "its reload policy is disabled")
            return change
        if plugin.pending is not None:
            self._supersede(plugin, plugin.pending)
        if plugin.change is None:
            plugin.change = change
        else:
            plugin.pending = change
        self._begin(plugin, change)
        self.pump(plugin)
        return change

    def _is_allowed(self, plugin: Plugin, change: Changeover) -> bool:
        if change.reason in ("start", "add", "config", "watch"):
            return True
        return not isinstance(plugin.spec.reload, Disabled)

    def _refuse_outright(self, plugin: Plugin, change: Changeover, cause: str) -> None:
        change.cause, change.stage = cause, "policy"
        change.turn("refuse")
        self._desk.give(Ended(change))
        self._record(plugin, change)

    def _begin(self, plugin: Plugin, change: Changeover) -> None:
        self._desk.give(Phase(change))
        if change.target is not None and self._steps.find_warm(plugin, change) is not None:
            change.release = change.target
        else:
            self._desk.give(Stage(change))
        self._desk.show_plugin(plugin, change.reason)

    def staged(self, plugin: Plugin, change: Changeover, release: Release) -> None:
        """Its content is in the store."""
        if change.has_ended or change not in (plugin.change, plugin.pending):
            return
        change.release = release
        current = plugin.change
        if change is plugin.pending and current is not None and current.may_be_superseded:
            same = current.release is not None and current.release.digest == release.digest
            if not same or change.force or not launches_alike(current.spec, change.spec):
                self._supersede(plugin, current)
        self.pump(plugin)

    def stage_failed(self, plugin: Plugin, change: Changeover, cause: str, *, luck: bool) -> None:
        """There is nothing to run; `luck` means that trying again may help."""
        if change.has_ended:
            return
        if change is plugin.pending:
            plugin.pending = None
            change.cause, change.stage = cause, "stage"
            change.turn("refuse")
            self._desk.give(Ended(change))
            self._record(plugin, change)
        else:
            self.refuse(plugin, change, cause, bad=False)
        if luck and change.reason in (*BY_ITSELF, "start"):
            self._retry_later(plugin, change)

    def _retry_later(self, plugin: Plugin, change: Changeover) -> None:
        again = Changeover(plugin.name, change.spec, change.reason, who=change.who)
        again.luck = change.luck + 1
        delay_s = min(plugin.spec.restart_max_s, plugin.spec.restart_min_s * 2**again.luck)
        if plugin.retry is not None:
            plugin.retry.cancel()
        plugin.retry = self._desk.arm(delay_s, self._try_again, plugin, again)

    def _try_again(self, plugin: Plugin, change: Changeover) -> None:
        plugin.retry = None
        if not plugin.is_closing and not self._desk.is_stopping:
            self.request(plugin, change)

    # -- moving

    def pump(self, plugin: Plugin) -> None:
        """Move the changeover under way as far as it can go."""
        while (change := plugin.change) is not None:
            if change.step is Step.STAGE and change.release is not None:
                self._decide(plugin, change)
                if change.has_ended or change.release is None:
                    continue
            elif not self._steps.is_done(plugin, change):
                return
            if plugin.change is not change or change.has_ended:
                continue
            self._advance(plugin, change)

    def _advance(self, plugin: Plugin, change: Changeover) -> None:
        change.note_phase(self._desk.now)
        change.turn(change.plan)
        self._desk.give(Phase(change))
        if change.step is Step.WATCH:
            self._leave_to_watch(plugin, change)
        else:
            self._desk.show_plugin(plugin)

    def _decide(self, plugin: Plugin, change: Changeover) -> None:
        """STAGE is over: does this content start a changeover? (architecture: trigger table)"""
        release = change.release
        assert release is not None
        why_not = plugin.bad.get(release.digest) or (
            "rolled back" if release.digest in plugin.held else ""
        )
        if change.target is None and why_not:
            if change.reason in ("reload", "add"):
                plugin.bad.pop(release.digest, None)
                plugin.held.discard(release.digest)
            elif not self._fall_back(plugin, change):
                change.cause = why_not
                self._finish_unchanged(plugin, change)
                return
        elif self._is_unchanged(plugin, change):
            self._finish_unchanged(plugin, change)
            return
        if change.release is None:
            return
        pin = change.spec.pin
        if pin and change.release.digest != pin:
            self.refuse(plugin, change, f"pin allows only sha256:{pin[:12]}…", bad=False)
            return
        change.old = plugin.live
        change.plan = self._steps.choose_plan(plugin, change)
        change.number = self._desk.next_generation()

    def _is_unchanged(self, plugin: Plugin, change: Changeover) -> bool:
        live, release = plugin.live, change.release
        if live is None or release is None or live.restart is Restart.FAILED or change.force:
            return False
        if change.reason not in ("file", "signal", "reload", "config"):
            return False
        return live.release.digest == release.digest and launches_alike(live.spec, change.spec)

    def _fall_back(self, plugin: Plugin, change: Changeover) -> bool:
        """Bad or held content: a schedule refreshes what is live, a start runs the approved."""
        if change.reason == "schedule" and plugin.live is not None:
            change.release = change.target = plugin.live.release
            return True
        if change.reason == "start":
            fallback = self.fallback_release(plugin, avoid="")
            if fallback is not None:
                change.target, change.release = fallback, None
                self._desk.give(Stage(change))  # from the store
                return True
        return False

    def fallback_release(self, plugin: Plugin, avoid: str) -> Release | None:
        """The last release that finished its watch and is neither bad nor held."""
        for digest in reversed(plugin.approved):
            unfit = digest in plugin.bad or digest in plugin.held or digest == avoid
            if not unfit and digest in plugin.releases:
                return plugin.releases[digest]
        return None

    def _finish_unchanged(self, plugin: Plugin, change: Changeover) -> None:
        change.is_unchanged = True
        change.turn("finish")
        plugin.change = None
        self._desk.give(Ended(change))
        self._promote(plugin)

    # -- ending

    def refuse(self, plugin: Plugin, change: Changeover, cause: str, *, bad: bool) -> None:
        """It failed before the cut: undo what was done, backwards; the old one serves."""
        change.cause, change.stage = cause, change.step.value
        if bad and change.release is not None:
            plugin.bad[change.release.digest] = cause
        self._undo(plugin, change, "refuse")
        if plugin.live is None:
            plugin.failure = f"{change.stage}: {cause}"
        self._say_refused(plugin, change)
        self._record(plugin, change)
        self._after_end(plugin)

    def _say_refused(self, plugin: Plugin, change: Changeover) -> None:
        live = plugin.live
        what = str(change.release) if change.release else "the new content"
        still = f"still on {live.release}" if live else "nothing serves"
        self._desk.narrate(
            "error",
            plugin.name,
            f"{what} refused, {still}\n  {change.stage}: {change.cause}\n"
            f"  traffic was not touched; fix it and save, or: changeover reload {plugin.name}",
        )

    def _supersede(self, plugin: Plugin, change: Changeover) -> None:
        change.cause = "a newer request"
        self._undo(plugin, change, "supersede")
        self._record(plugin, change)
        if plugin.change is None:
            self._promote(plugin)

    def _undo(self, plugin: Plugin, change: Changeover, event: str) -> None:
        self._steps.undo(plugin, change)
        change.stop_timer()
        change.note_phase(self._desk.now, change.cause)
        change.turn(event)
        if plugin.change is change:
            plugin.change = None
        if plugin.pending is change:
            plugin.pending = None
        self._desk.give(Ended(change))

    def _after_end(self, plugin: Plugin) -> None:
        if plugin.live is None and plugin.pending is None:
            fault = self.unavailable(plugin)
            self._routing.refuse_all(plugin, fault)
        self._desk.show_plugin(plugin)
        self._promote(plugin)

    def unavailable(self, plugin: Plugin) -> Fault:
        """What callers of a failed plugin are told."""
        return Fault.new(1012, f"{plugin.name} has failed: {plugin.failure}", plugin=plugin.name)

    def replied(
        self, plugin: Plugin, change: Changeover, worker: Worker, method: str,
        fault: Fault | None, result: Any,
    ) -> None:  # fmt: skip
        """A worker answered what a step had asked."""
        self._steps.replied(plugin, change, worker, method, fault, result)

    def abandon(self, plugin: Plugin) -> None:
        """The plugin is closing: whatever nobody waits for and has not cut is given up."""
        for change in (plugin.pending, plugin.change):
            if change is None or change.has_ended or not change.may_be_superseded:
                continue
            if not change.waiters and (plugin.live is not None or not plugin.jobs):
                self._supersede_quietly(plugin, change, "the plugin is closing")

    def _promote(self, plugin: Plugin) -> None:
        """Whoever waited is next."""
        if plugin.change is None and plugin.pending is not None:
            plugin.change, plugin.pending = plugin.pending, None
            self.pump(plugin)

    # -- watching

    def _leave_to_watch(self, plugin: Plugin, change: Changeover) -> None:
        """Drained: `reload` returns; the new release stays under watch."""
        plugin.change = None
        self._desk.give(Ended(change))
        self._record(plugin, change)
        self._say_done(plugin, change)
        self._desk.show_plugin(plugin)
        self._promote(plugin)
        if plugin.watch is None or plugin.watch.change is not change:
            self.end_watch(plugin, change)

    def _say_done(self, plugin: Plugin, change: Changeover) -> None:
        if change.old is None or change.release is None:
            text = f"{change.release} live"
        else:
            text = (
                f"{change.old.release} → {change.release} ({change.reason}), "
                f"{change.report.drained} drained, {change.report.killed} killed, "
                f"{change.lost} lost"
            )
        self._desk.narrate("info", plugin.name, text)

    def watch_over(self, plugin: Plugin, watch: Watch) -> None:
        """`probation` has passed without a verdict: the release is approved."""
        if plugin.watch is not watch:
            return
        digest = watch.generation.release.digest
        plugin.watch = None
        if digest in plugin.approved:
            plugin.approved.remove(digest)
        plugin.approved.append(digest)
        entry = {"event": "approved", "plugin": plugin.name, "generation": watch.change.number}
        self._desk.give(Record({**entry, "digest": digest}))
        if plugin.change is not watch.change:  # else it still drains, and ends by itself
            self.end_watch(plugin, watch.change)

    def end_watch(self, plugin: Plugin, change: Changeover) -> None:
        """The old generation is needed no more."""
        if change.step is Step.WATCH:
            change.note_phase(self._desk.now)
            if change.plan == "stop-first":
                change.turn("finish")
            else:
                change.turn(change.plan)
                self._steps.retire_parked(plugin, change)
                change.turn("finish")
            self._desk.give(Phase(change))

    def roll_back(self, plugin: Plugin, cause: str) -> bool:
        """The watched release is bad: go back. False if there is nothing to go back to."""
        watch = plugin.watch
        assert watch is not None
        failed, digest = watch.change, watch.generation.release.digest
        target = self._rollback_target(plugin, failed, digest)
        if target is None:
            return False
        plugin.watch = None
        plugin.bad[digest] = cause
        plugin.rolled_back.add(watch.generation.number)
        newcomer = self._clear_the_way(plugin, failed)
        failed.cause = cause
        failed.stage = "watch"
        failed.stop_timer()
        failed.turn("roll_back")
        self._desk.narrate(
            "error",
            plugin.name,
            f"{watch.generation.release} rolled back to {target}\n  {cause}\n"
            f"  fix it and save, or: changeover reload {plugin.name}",
        )
        back = Changeover(plugin.name, plugin.spec, "watch", who="watch", target=target)
        back.undoes = failed
        self.request(plugin, back)
        if newcomer is not None:
            self.request(plugin, newcomer)
        return True

    def _rollback_target(self, plugin: Plugin, failed: Changeover, digest: str) -> Release | None:
        old = failed.old
        if old is not None:
            old_digest = old.release.digest
            if old_digest not in plugin.bad and old_digest != digest:
                return plugin.releases.get(old_digest, old.release)
        return self.fallback_release(plugin, avoid=digest)

    def _clear_the_way(self, plugin: Plugin, failed: Changeover) -> Changeover | None:
        """Stop whatever is under way; a newcomer is asked for again after the rollback."""
        current, waiting = plugin.change, plugin.pending
        newcomer = waiting or (current if current is not failed else None)
        again = None
        if newcomer is not None:
            again = Changeover(
                plugin.name, newcomer.spec, newcomer.reason, who=newcomer.who,
                force=newcomer.force, target=newcomer.target,
            )  # fmt: skip
            again.waiters, newcomer.waiters = newcomer.waiters, []
        plugin.pending = None
        if waiting is not None:
            self._supersede_quietly(plugin, waiting, "a rollback")
        if current is failed:
            self._leave_failed(plugin, failed)
        elif current is not None:
            self._supersede_quietly(plugin, current, "a rollback")
        return again

    def _leave_failed(self, plugin: Plugin, failed: Changeover) -> None:
        failed.note_phase(self._desk.now)
        plugin.change = None

    def _supersede_quietly(self, plugin: Plugin, change: Changeover, cause: str) -> None:
        change.cause = cause
        self._undo(plugin, change, "supersede")

    def rolled_back(self, plugin: Plugin, failed: Changeover) -> None:
        """The cut back is done: tell whoever waits for the failed one."""
        self._desk.give(Ended(failed))
        self._record(plugin, failed)

    # -- remembering

    def _record(self, plugin: Plugin, change: Changeover) -> None:
        if change.is_unchanged:
            return
        self._desk.give(Record(self.entry(plugin, change)))

    def entry(
        self, plugin: Plugin, change: Changeover, event: str = "changeover"
    ) -> dict[str, object]:
        """One line of the history: who, why, from, to, outcome, drained, killed, lost."""
        return {
            "event": event,
            "plugin": plugin.name,
            "generation": change.number,
            "who": change.who,
            "why": change.reason,
            "from": _release_entry(change.old.release if change.old else None),
            "to": _release_entry(change.release),
            "outcome": change.outcome or "done",
            "stage": change.stage,
            "cause": change.cause,
            "drained": change.report.drained,
            "killed": change.report.killed,
            "lost": change.lost,
            "held": sorted(plugin.held),
            "bad": dict(plugin.bad),
        }


def _release_entry(release: Release | None) -> dict[str, object] | None:
    if release is None:
        return None
    return {
        "number": release.number,
        "version": release.version,
        "digest": release.digest,
        "hash": f"{release.hash:016x}",
        "shown": release.shown,
    }
