"""One changeover: what is asked for, how far it is, and what came of it.

First load, reload, rollback, schedule, recycling and a config change are all this one operation:
`change(plugin, release, reason)`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from .generation import Generation
from .graceful import DrainReport
from .release import Release
from .spec import PluginSpec
from .states import CHANGEOVER, PLANS, Step, advance
from .timers import Timer
from .triggers import Reason

OUTCOMES = {
    Step.DONE: "done",
    Step.REFUSED: "refused",
    Step.ROLLED_BACK: "rolled_back",
    Step.SUPERSEDED: "superseded",
}


class Changeover:
    """Mutable; its steps are those of `states.PLANS[plan]`."""

    def __init__(
        self,
        plugin: str,
        spec: PluginSpec,
        reason: Reason,
        *,
        who: str = "",
        force: bool = False,
        target: Release | None = None,
        undoes: Changeover | None = None,
    ) -> None:
        self.plugin = plugin
        self.spec = spec
        self.reason = reason
        self.who = who
        self.force = force
        self.occasion = ""  # a recycle: which worker was at its limit, in words
        self.target = target  # a rollback's release; None: whatever the source holds
        self.undoes = undoes  # an automatic rollback: of which changeover
        self.continues: Changeover | None = None  # a recycle: whose watch goes on over its workers
        self.number = 0  # the generation, once it is more than a question
        self.plan = "overlap"
        self.step = Step.STAGE
        self.release: Release | None = None
        self.old: Generation | None = None
        self.new: Generation | None = None
        self.parked: Generation | None = None
        self.warm: set[str] = set()  # new workers that come from a parked generation, by id
        self.asked: set[tuple[str, str]] = set()  # worker, control request
        self.passed: set[tuple[str, str]] = set()  # those that were answered well
        self.is_unchanged = False
        self.started_at = 0.0
        self.entered_at = 0.0
        self.watched_until: float | None = None
        self.phases: list[tuple[str, float, str]] = []  # step, seconds, detail
        self.cause = ""
        self.stage = ""  # the step that failed
        self.meanwhile = ""  # what a refusal meant for callers, in words
        self.drain: Generator[float | None, float, DrainReport] | None = None
        self.report = DrainReport()
        self.lost = 0
        self.lost_before = 0  # the plugin's count at the cut or hold
        self.luck = 0  # times that bad luck took something from it
        self.repeats = ""  # the bad luck after which it was asked for again by itself
        self.tried: set[str] = set()  # digests to which it was rolled back
        self.state: Any = None  # exported, packed: {format, version, data}
        self.timer: Timer | None = None
        self.waiters: list[Any] = []  # whoever asked: opaque to the core

    def turn(self, event: str) -> None:
        """Take one step of the changeover's machine."""
        self.step = advance(CHANGEOVER, self.step, event)

    @property
    def has_ended(self) -> bool:
        """Is it over, whatever the outcome?"""
        return not CHANGEOVER[self.step]

    def is_past(self, step: Step) -> bool:
        """Has it done this step, which is one of its plan?"""
        steps = PLANS[self.plan]
        return self.step in steps and step in steps and steps.index(self.step) > steps.index(step)

    @property
    def has_cut(self) -> bool:
        """Does the queue point at the new release?"""
        return self.is_past(Step.CUT)

    @property
    def is_warm(self) -> bool:
        """Does a parked generation come back?"""
        return bool(self.warm)

    @property
    def keeps_old_down(self) -> bool:
        """Must the old release not be given new workers while this is under way?"""
        if self.has_ended or self.has_cut:
            return False
        return self.undoes is not None or self.step is Step.STOP or self.is_past(Step.STOP)

    @property
    def may_be_superseded(self) -> bool:
        """Before it holds or has cut anything, the newest request wins; not over a way back."""
        if self.has_ended or self.undoes is not None:
            return False
        return self.step not in (Step.HOLD, Step.CUT) and not (
            self.is_past(Step.HOLD) or self.has_cut
        )

    @property
    def holds_s(self) -> float | None:
        """How long it has held its callers, in the steps that are over; None: never."""
        names = [name for name, _, _ in self.phases]
        if Step.HOLD.value not in names:
            return None
        return sum(took_s for _, took_s, _ in self.phases[names.index(Step.HOLD.value) :])

    @property
    def outcome(self) -> str:
        """done, unchanged, refused, rolled_back, superseded, or "" while it runs."""
        if self.is_unchanged:
            return "unchanged"
        return OUTCOMES.get(self.step, "")

    def note_phase(self, now: float, detail: str = "") -> None:
        """Remember how long the step took that ends now."""
        self.phases.append((self.step.value, now - self.entered_at, detail))
        self.entered_at = now

    def stop_timer(self) -> None:
        """Nothing limits it any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
