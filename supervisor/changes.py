"""The changeovers of all plugins: which one may begin, how it moves, how it ends.

Level-triggered: after every fact that concerns a plugin `pump` asks the step under way whether
it is done, so no event can be missed. What each step does is in `steps.py`, the way back in
`rollbacks.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from .accepting import unavailable
from .back_off import back_off_s
from .changeover import Changeover
from .desk import Desk
from .entries import entry
from .launching import launches_alike
from .orders import Ended, Phase, Record, Stage
from .outcomes import Outcomes
from .plugin import Plugin
from .registry import Disabled
from .release import Release
from .states import Step
from .steps import Steps
from .triggers import TRIGGERS, Verdict, judge


class Changes:
    """At most one changeover per plugin on its way to the cut or draining, one under watch."""

    def __init__(self, desk: Desk, outcomes: Outcomes, steps: Steps) -> None:
        self._desk = desk
        self._outcomes = outcomes
        self._steps = steps
        # Set by the core: what the way back and the recycles want to know.
        self.on_watch: Callable[[Plugin, Changeover], None] = lambda *_: None
        self.on_recycle_refused: Callable[[Plugin], float] = lambda _: 0.0
        self.on_way_back_failed: Callable[[Plugin, Changeover], None] = lambda *_: None

    # -- beginning

    def request(self, plugin: Plugin, change: Changeover) -> Changeover:
        """Begin a changeover, or let it wait for the one under way; the newest wins."""
        change.started_at = change.entered_at = self._desk.now
        if self._is_turned_down(plugin, change):
            return change
        if plugin.retry is not None and change.reason != "recycle":
            plugin.retry.cancel()
            plugin.retry = None
        if plugin.pending is not None:
            self._supersede(plugin, plugin.pending, "a newer request")
        if plugin.change is None:
            plugin.change = change
        else:
            plugin.pending = change
        self._begin(plugin, change)
        self.pump(plugin)
        return change

    def _is_turned_down(self, plugin: Plugin, change: Changeover) -> bool:
        """Its reload policy is disabled: then it is refused, or there is nothing to do."""
        if not isinstance(plugin.spec.reload, Disabled) or plugin.live is None:
            return False
        what = TRIGGERS[change.reason].disabled
        change.cause = "its reload policy is disabled"
        if what == "unchanged":
            self._finish_unchanged(plugin, change)
        elif what == "refuse":
            change.stage = "policy"
            self._end(plugin, change, "refuse")
            self._record(plugin, change)
        else:
            change.cause = ""
        return change.has_ended

    def _begin(self, plugin: Plugin, change: Changeover) -> None:
        self._desk.give(Phase(change, change.step))
        if change.target is not None and self._steps.find_warm(plugin, change) is not None:
            change.release = change.target
        else:
            self._desk.give(Stage(change))
        self._desk.show_plugin(plugin, change.reason)

    def begin_way_back(self, plugin: Plugin, back: Changeover) -> None:
        """Begin an automatic rollback in the place that is free for it; whoever waits, waits."""
        back.started_at = back.entered_at = self._desk.now
        plugin.change = back
        self._begin(plugin, back)
        self.pump(plugin)

    def staged(self, plugin: Plugin, change: Changeover, release: Release) -> None:
        """Its content is in the store."""
        change.release = release
        if change is plugin.pending and plugin.change is not None:
            self._compare(plugin, plugin.change, change)
        self.pump(plugin)

    def _compare(self, plugin: Plugin, current: Changeover, newer: Changeover) -> None:
        """The newest wins, unless it wants what is on its way already."""
        assert newer.release is not None
        is_same = current.release is not None and current.release.digest == newer.release.digest
        if newer.force or not is_same or not launches_alike(current.spec, newer.spec):
            if current.may_be_superseded:
                self._supersede(plugin, current, "a newer request")
        elif newer.reason == "file":
            self._finish_unchanged(plugin, newer)

    def stage_failed(self, plugin: Plugin, change: Changeover, cause: str, *, luck: bool) -> None:
        """There is nothing to run; `luck` means that trying again may help."""
        self.refuse(plugin, change, cause, luck=luck)

    def _retry_later(self, plugin: Plugin, change: Changeover) -> float:
        """Ask for the same again by and by; returns in how many seconds."""
        again = Changeover(plugin.name, change.spec, change.reason, who=change.who)
        again.luck, again.repeats = change.luck + 1, change.cause
        delay_s = back_off_s(plugin.spec, again.luck)
        plugin.retry = self._desk.arm(delay_s, self._try_again, plugin, again)
        return delay_s

    def _try_again(self, plugin: Plugin, change: Changeover) -> None:
        plugin.retry = None
        if not plugin.is_closing and not self._desk.is_stopping:
            self.request(plugin, change)

    # -- moving

    def pump(self, plugin: Plugin) -> None:
        """Move the changeover under way as far as it can go."""
        while (change := plugin.change) is not None:
            if change.step is Step.STAGE:
                may_go_on = change.release is not None and self._decide(plugin, change)
            else:
                may_go_on = self._steps.is_done(plugin, change)
            if plugin.change is not change:
                continue
            if not may_go_on:
                return
            self._advance(plugin, change)

    def _advance(self, plugin: Plugin, change: Changeover) -> None:
        change.note_phase(self._desk.now)
        change.turn(change.plan)
        self._desk.give(Phase(change, change.step, change.phases[-1]))
        if change.step is Step.WATCH:
            self._leave_to_watch(plugin, change)
        else:
            self._desk.show_plugin(plugin)

    def _decide(self, plugin: Plugin, change: Changeover) -> bool:
        """STAGE is over: does this content start a changeover?"""
        verdict = judge(plugin, change)
        if verdict.what == "unchanged":
            change.cause = verdict.cause
            self._finish_unchanged(plugin, change)
        elif verdict.what == "refuse":
            self.refuse(plugin, change, verdict.cause)
        elif verdict.what == "fall back":
            self._fall_back(plugin, change, verdict)
        else:
            self._commit(plugin, change, verdict)
        return verdict.what == "begin"

    def _commit(self, plugin: Plugin, change: Changeover, verdict: Verdict) -> None:
        change.release = verdict.release
        is_wanted = TRIGGERS[change.reason].marked == "try" and change.target is None
        if is_wanted and change.release is not None:
            plugin.unmark(change.release.digest)
        change.old = plugin.live
        change.plan = self._steps.choose_plan(plugin, change)
        change.number = self._desk.next_generation()

    def _fall_back(self, plugin: Plugin, change: Changeover, verdict: Verdict) -> None:
        """Nothing serves and this content is bad or held: the approved release runs."""
        text = f"{change.release} is not started ({verdict.cause}); {verdict.release} is instead"
        self._desk.narrate("warning", plugin.name, text)
        change.target, change.release = verdict.release, None
        self._desk.give(Stage(change))

    def _finish_unchanged(self, plugin: Plugin, change: Changeover) -> None:
        change.is_unchanged = True
        self._end(plugin, change, "finish")
        self._promote(plugin)

    # -- ending

    def refuse(
        self, plugin: Plugin, change: Changeover, cause: str, *, bad: bool = False,
        luck: bool = False,
    ) -> None:  # fmt: skip
        """It failed before the cut: undo what was done, backwards; the old one serves."""
        change.cause, change.stage = cause, change.step.value
        if bad and change.release is not None and not _serves(plugin, change.release):
            plugin.bad[change.release.digest] = cause
        self._end(plugin, change, "refuse")
        change.meanwhile = _meanwhile(plugin, change)
        if plugin.live is None:
            plugin.failure = f"{change.stage}: {cause}"
        again_s = None
        if luck and TRIGGERS[change.reason].is_by_itself and plugin.pending is None:
            again_s = self._retry_later(plugin, change)
        elif change.reason == "recycle":
            again_s = self.on_recycle_refused(plugin)
        if change.cause != change.repeats:  # the same bad luck once more is no news
            self._say_refused(plugin, change, again_s)
            self._record(plugin, change)
        if plugin.live is None and plugin.pending is None and plugin.change is None:
            self._outcomes.refuse_waiting(plugin, unavailable(plugin))
        self._desk.show_plugin(plugin)
        if change.undoes is not None:
            self.on_way_back_failed(plugin, change)
        self._promote(plugin)

    def _say_refused(self, plugin: Plugin, change: Changeover, again_s: float | None) -> None:
        live = plugin.live
        what = str(change.release) if change.release else "the new content"
        if change.reason == "add":  # whoever asked is told, and it is gone
            text = f"{what} refused, it was not added\n  {_told(change)}"
            self._desk.narrate("debug", plugin.name, text)
            return
        still = f"still on {live.release}" if live else "nothing serves"
        then = f"fix it and save, or: changeover reload {plugin.name}"
        if again_s is not None:
            then = f"it is tried again in {again_s:.1f} s, and then by and by"
        self._desk.narrate(
            "error",
            plugin.name,
            f"{what} refused, {still}\n  {_told(change)}\n  {change.meanwhile}; {then}",
        )

    def _supersede(self, plugin: Plugin, change: Changeover, cause: str) -> None:
        self.give_up(plugin, change, cause)
        self._promote(plugin)

    def give_up(self, plugin: Plugin, change: Changeover, cause: str) -> None:
        """Undo it; it is not wanted any more. Whoever waits is not promoted."""
        change.cause = cause
        self._end(plugin, change, "supersede")
        self._record(plugin, change)
        if change.undoes is not None:
            self.on_way_back_failed(plugin, change)

    def _end(self, plugin: Plugin, change: Changeover, event: str) -> None:
        """Before the cut: it leaves its place, and what it did is undone."""
        step = change.step
        change.stop_timer()
        change.note_phase(self._desk.now, change.cause)
        change.turn(event)
        if plugin.change is change:
            plugin.change = None
        if plugin.pending is change:
            plugin.pending = None
        self._desk.give(Ended(change))
        self._steps.undo(plugin, change, step)

    def abandon(self, plugin: Plugin, *, at_once: bool) -> None:
        """The plugin is closing: what nobody waits for and has not cut is given up."""
        for change in (plugin.pending, plugin.change):
            if change is None or change.has_ended or change.has_cut:
                continue
            is_wanted = change.waiters or (plugin.live is None and plugin.jobs)
            if at_once or (change.may_be_superseded and not is_wanted):
                self.give_up(plugin, change, "the plugin is closing")

    def _promote(self, plugin: Plugin) -> None:
        """Whoever waited is next."""
        if plugin.change is None and plugin.pending is not None:
            plugin.change, plugin.pending = plugin.pending, None
            self.pump(plugin)

    def _leave_to_watch(self, plugin: Plugin, change: Changeover) -> None:
        """Drained: `reload` returns; the new release stays under watch."""
        plugin.change = None
        self._desk.give(Ended(change))
        self._record(plugin, change)
        self._say_done(plugin, change)
        self._desk.show_plugin(plugin)
        self.on_watch(plugin, change)
        self._promote(plugin)

    def _say_done(self, plugin: Plugin, change: Changeover) -> None:
        if change.old is None or change.release is None:
            text = f"{change.release} live"
        else:
            text = (
                f"{change.old.release} → {change.release} ({_why(change)}), "
                f"{change.report.drained} drained, {change.report.killed} killed, "
                f"{change.lost} lost"
            )
        self._desk.narrate("info", plugin.name, text)

    def _record(self, plugin: Plugin, change: Changeover) -> None:
        self._desk.give(Record(entry(plugin, change)))


def _meanwhile(plugin: Plugin, change: Changeover) -> str:
    """What a refusal meant for callers."""
    if plugin.live is None:
        return "jobs are refused until it starts"
    if change.report.killed:
        return f"{change.report.killed} jobs were killed"
    if change.holds_s is not None:
        return f"callers were held for {change.holds_s:.1f} s"
    return "traffic was not touched"


def _serves(plugin: Plugin, release: Release) -> bool:
    """Then its content cannot be to blame."""
    return plugin.live is not None and plugin.live.release.digest == release.digest


def _why(change: Changeover) -> str:
    return f"{change.reason}: {change.occasion}" if change.occasion else change.reason


def _told(change: Changeover) -> str:
    """The cause, with the step where it does not name the hook itself."""
    names_itself = change.stage in ("warm", "check", "adopt")
    return change.cause if names_itself else f"{change.stage}: {change.cause}"
