"""The watch over what has just been cut, and the way back by itself.

Back goes to the release that the cut replaced, parked or from the store; should that fail too,
to the last release that finished its watch. Until one of them serves the queue is held, so that
no more jobs are given to a release that is known to be bad.
"""

from __future__ import annotations

from ..protocol.errors import Fault
from .changeover import Changeover
from .changes import Changes
from .cut import Cut
from .desk import Desk
from .entries import approved, entry
from .fleet import Fleet
from .generation import Generation
from .launching import launches_alike
from .orders import Ended, Phase, Record
from .plugin import Plugin
from .release import Release
from .releases import fallback_release
from .routing import Routing, is_plugin_error
from .spec import PluginSpec
from .states import Restart, Step
from .watch import Watch

Target = tuple[Release, PluginSpec]
Condemned = tuple[Changeover, Target]


class Rollbacks:
    """One watch per plugin: that of the newest cut."""

    def __init__(
        self, desk: Desk, routing: Routing, fleet: Fleet, changes: Changes, cut: Cut
    ) -> None:
        self._desk = desk
        self._routing = routing
        self._fleet = fleet
        self._changes = changes
        self._cut = cut

    # -- watching

    def begin_watch(self, plugin: Plugin, change: Changeover) -> None:
        """The cut: the live one's watch goes on until here, the newcomer's begins."""
        if change.reason == "recycle":
            self._watch_on(plugin, change)
            return
        before, old = plugin.watch, change.old
        assert change.new is not None
        plugin.watch = watch = Watch(change, change.new, _error_rate(old))
        if before is not None:
            self.end_watch(before.change)
        change.watched_until = self._desk.now + plugin.spec.probation_s
        if plugin.spec.probation_s:
            self._desk.timers.arm(change.watched_until, self._watch_over, plugin, watch)
        else:  # not even until the next turn of the clock
            self._watch_over(plugin, watch)
        if change.undoes is not None:
            self._rolled_back(plugin, change.undoes)

    def _watch_on(self, plugin: Plugin, change: Changeover) -> None:
        """Fresh workers of the same release are no news: a watch over it goes on."""
        watch, old, new = plugin.watch, change.old, change.new
        assert old is not None
        assert new is not None
        new.done, new.failed = old.done, old.failed
        if watch is None:
            return
        earlier = watch.change
        first = change.continues = earlier.continues or earlier
        change.tried, change.watched_until = first.tried, first.watched_until
        watch.go_on(change, new)
        if earlier is not first:
            earlier.continues = None
            self.end_watch(earlier)

    def drained(self, plugin: Plugin, change: Changeover) -> None:
        """The changeover has nothing more to do than to be watched; that may be over already."""
        if plugin.watch is None or plugin.watch.change is not change:
            self.end_watch(change)

    def _watch_over(self, plugin: Plugin, watch: Watch) -> None:
        """`probation` has passed: without a verdict the release is approved."""
        if plugin.watch is not watch:
            return
        plugin.watch = None
        if not watch.verdict:
            self._approve(plugin, watch)
        self.end_watch(watch.change)

    def _approve(self, plugin: Plugin, watch: Watch) -> None:
        digest = watch.generation.release.digest
        plugin.approved = [*(known for known in plugin.approved if known != digest), digest]
        plugin.bad.pop(digest, None)
        self._desk.give(Record(approved(plugin, watch.change, digest)))

    def end_watch(self, change: Changeover) -> None:
        """The old generation is needed no more. A changeover that still drains ends by itself."""
        first, change.continues = change.continues, None
        if first is not None:
            self.end_watch(first)
        if change.step is not Step.WATCH:
            return
        while not change.has_ended:
            self._next_phase(change, change.plan)
            self._cut.retire_parked(change)
        self._desk.give(Ended(change))

    def _next_phase(self, change: Changeover, event: str) -> None:
        change.note_phase(self._desk.now, change.cause)
        change.turn(event)
        self._desk.give(Phase(change, change.step, change.phases[-1]))

    def saw_answer(self, plugin: Plugin, generation: Generation, fault: Fault | None) -> None:
        """A job ended on this generation, which its caller had wanted to the end."""
        is_error = fault is not None and is_plugin_error(fault)
        generation.done += fault is None
        generation.failed += is_error
        watch = plugin.watch
        if watch is None or watch.generation is not generation:
            return
        if fault is None:
            watch.saw_success()
        cause = watch.saw_error() if is_error else ""
        condemned = self.condemn(plugin, cause) if cause else None
        if condemned is not None:
            self.roll_back(plugin, condemned)

    # -- the way back

    def condemn(self, plugin: Plugin, cause: str) -> Condemned | None:
        """The watched release is bad, if there is another to go back to.

        From here on its attempts count against no job, and it is lent no more of them. Then what
        it had borrowed can be taken back to its place in the queue, and `roll_back` must follow.
        """
        watch = plugin.watch
        assert watch is not None
        failed, bad = watch.change, watch.generation
        target = self._target(plugin, failed, bad)
        if target is None:
            watch.verdict = cause
            return None
        plugin.watch = None
        plugin.rolled_back |= watch.numbers
        if target[0].digest != bad.release.digest:
            plugin.bad[bad.release.digest] = cause
        failed.cause, failed.stage = cause, "watch"
        self._say(plugin, bad, target[0], cause)
        plugin.hold(self._desk.now)
        return failed, target

    def roll_back(self, plugin: Plugin, condemned: Condemned) -> None:
        """Go back; what was under way is asked for again after that."""
        newcomer = self._go_back(plugin, *condemned)
        if newcomer is not None:
            self._changes.request(plugin, newcomer)

    def _say(self, plugin: Plugin, bad: Generation, target: Release, cause: str) -> None:
        self._desk.narrate(
            "error",
            plugin.name,
            f"{bad.release} rolled back to {target}\n  {cause}\n"
            f"  fix it and save, or: changeover reload {plugin.name}",
        )

    def _target(self, plugin: Plugin, failed: Changeover, bad: Generation) -> Target | None:
        first, digest = failed.continues or failed, bad.release.digest
        old = first.old
        if old is not None and self._may_go_back_to(plugin, first, bad, old):
            return plugin.releases.get(old.release.digest, old.release), old.spec
        fallback = fallback_release(plugin, avoid={digest, *failed.tried})
        return (fallback, plugin.spec) if fallback is not None else None

    def _may_go_back_to(
        self, plugin: Plugin, failed: Changeover, bad: Generation, old: Generation
    ) -> bool:
        """Not again to what was left because it was bad, nor to the same thing once more."""
        digest = old.release.digest
        if failed.undoes is not None or old.restart is Restart.FAILED:
            return False
        if digest in plugin.bad or digest in failed.tried:
            return False
        is_same = digest == bad.release.digest and launches_alike(old.spec, bad.spec)
        return not is_same or bool(old.workers)

    def _go_back(self, plugin: Plugin, failed: Changeover, target: Target) -> Changeover | None:
        """Take the place of whatever is under way; it is returned if it must be asked for again."""
        release, spec = target
        failed.tried.add(release.digest)
        back = Changeover(plugin.name, spec, "watch", who="watch", target=release, undoes=failed)
        current, plugin.change = plugin.change, back
        again = None
        if current is not None and current is not failed:
            is_wanted = plugin.pending is None and current.reason != "recycle"
            again = _once_more(current) if is_wanted else None
            self._changes.give_up(plugin, current, "a rollback")
        self._changes.begin_way_back(plugin, back)
        return again

    def _rolled_back(self, plugin: Plugin, failed: Changeover) -> None:
        """The cut back is done: tell whoever waits for the failed one."""
        first, failed.continues = failed.continues, None
        if first is not None:
            first.cause, first.stage = failed.cause, failed.stage
            self._rolled_back(plugin, first)
        self._next_phase(failed, "roll_back")
        self._desk.give(Ended(failed))
        self._desk.give(Record(entry(plugin, failed)))

    def way_back_failed(self, plugin: Plugin, back: Changeover) -> None:
        """Try the next release; if there is none, the bad one must serve on."""
        failed, bad = back.undoes, plugin.live
        assert failed is not None
        assert bad is not None
        target = None if self._desk.has_no_time else self._target(plugin, failed, bad)
        if target is not None:
            self._go_back(plugin, failed, target)
            return
        text = f"{bad.release} serves on: there is no other release to go back to"
        self._desk.narrate("error", plugin.name, text)
        plugin.release()
        if failed.step is Step.WATCH:
            self.end_watch(failed)
        else:
            plugin.change = failed  # it goes on with its drain
        self._fleet.fill(bad)
        self._routing.dispatch(plugin)
        self._changes.pump(plugin)


def _once_more(change: Changeover) -> Changeover:
    """The same request again, with whoever waits for it."""
    again = Changeover(
        change.plugin, change.spec, change.reason, who=change.who, force=change.force,
        target=change.target,
    )  # fmt: skip
    again.waiters, change.waiters = change.waiters, []
    return again


def _error_rate(old: Generation | None) -> float:
    ended = old.done + old.failed if old is not None else 0
    return old.failed / ended if old is not None and ended else 0.0
