"""One changeover: what is asked for, how far it is, and what came of it.

First load, reload, rollback, schedule and a config change are all this one operation:
`change(plugin, release, reason)`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from .graceful import DrainReport
from .model import Generation, Release
from .spec import PluginSpec
from .states import CHANGEOVER, PLANS, Step, advance
from .timers import Timer

Reason = Literal[
    "start", "add", "file", "signal", "schedule", "reload", "rollback", "config", "watch"
]
BY_ITSELF: tuple[Reason, ...] = ("file", "signal", "schedule")
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
        now: float = 0.0,
    ) -> None:
        self.plugin = plugin
        self.spec = spec
        self.reason = reason
        self.who = who
        self.force = force
        self.target = target  # a rollback's release; None: whatever the source holds
        self.number = 0  # the generation, once it is more than a question
        self.plan = "overlap"
        self.step = Step.STAGE
        self.release: Release | None = None
        self.old: Generation | None = None
        self.new: Generation | None = None
        self.parked: Generation | None = None
        self.undoes: Changeover | None = None  # an automatic rollback: of which changeover
        self.is_unchanged = False
        self.is_warm = False  # the new workers are those of a parked generation
        self.started_at = now
        self.entered_at = now
        self.watched_until: float | None = None
        self.phases: list[tuple[str, float, str]] = []  # step, seconds, detail
        self.cause = ""
        self.stage = ""  # the step that failed
        self.drain: Generator[float | None, float, DrainReport] | None = None
        self.report = DrainReport()
        self.lost = 0
        self.lost_before = 0  # the plugin's count at the cut or hold
        self.luck = 0  # workers that bad luck took while it warmed
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

    @property
    def has_cut(self) -> bool:
        """Does the queue point at the new release?"""
        steps = PLANS[self.plan]
        return self.step in steps and steps.index(self.step) > steps.index(Step.CUT)

    @property
    def may_be_superseded(self) -> bool:
        """Before it holds or has cut anything, the newest request wins."""
        if self.has_ended or self.has_cut:
            return False
        before = PLANS[self.plan][: PLANS[self.plan].index(self.step) + 1]
        return Step.HOLD not in before and Step.CUT not in before

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
