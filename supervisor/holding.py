"""The steps that touch what serves: HOLD, DRAIN, EXPORT and, in stop-first, STOP.

While the queue is held callers wait, so everything here has a deadline. Before the cut a
handoff that grows late gives up and the old worker goes on with its state; only `--force`
kills it and starts fresh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..protocol.errors import Code, Fault
from .changeover import Changeover
from .desk import Desk
from .fleet import Fleet
from .generation import Generation
from .graceful import DrainReport, GracefulReload
from .orders import Flushed
from .plugin import Plugin
from .states import Step
from .talking import Talking
from .worker import Worker

EXPORTS = (("flush", "flush"), ("state", "export_state"))  # capability, control request


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


class Holding:
    """The work of these steps."""

    def __init__(self, desk: Desk, fleet: Fleet, talking: Talking) -> None:
        self._desk = desk
        self._fleet = fleet
        self._talking = talking
        # Set by the core.
        self.on_refused: Callable[..., None] = lambda *_, **__: None
        self.on_due: Callable[[Plugin], None] = lambda _: None

    # -- HOLD

    def hold(self, plugin: Plugin, change: Changeover) -> bool:
        """Callers wait from now on."""
        plugin.hold(self._desk.now)
        change.lost_before = plugin.counts.lost
        if change.plan == "handoff":
            self._limit(plugin, change)
        return True

    def _limit(self, plugin: Plugin, change: Changeover) -> None:
        limit_s = change.spec.hold_timeout_s
        cause = f"hold_timeout: callers were held for {limit_s:g} s"
        change.stop_timer()
        change.timer = self._desk.arm(limit_s, self._too_late, plugin, change, cause)

    def _too_late(self, plugin: Plugin, change: Changeover, cause: str) -> None:
        """Give up; or, with `--force`, kill the stragglers and start without the state."""
        if not change.force or change.step not in (Step.DRAIN, Step.EXPORT):
            self.on_refused(plugin, change, cause)
            return
        assert change.old is not None
        change.cause = f"{cause}; forced"
        workers = list(change.old.workers.values())
        killed = sum(not j.has_ended for w in workers for j in w.jobs.values())
        change.report.killed += killed
        change.report.drained -= killed  # the drain counts them when it ends
        self._fleet.ladder.kill_all(workers, "drain")
        self._limit(plugin, change)
        self.on_due(plugin)

    # -- DRAIN

    def drain(self, plugin: Plugin, change: Changeover) -> bool:
        """Wait until the old workers hold no job; at `drain_timeout` see to it."""
        old = change.old
        if old is None:
            return True
        if change.drain is not None:
            return self._drive(plugin, change, lambda drain: drain.send(self._desk.now))
        limit_s = None if change.spec.drain_over == "wait" else change.spec.drain_timeout_s
        stragglers = _Stragglers(old, lambda: self._kill_stragglers(plugin, change, old))
        change.drain = GracefulReload(limit_s).drain_and_reload(stragglers, self._desk.now)
        if limit_s is not None:
            self._desk.arm(limit_s, self.on_due, plugin)
        return self._drive(plugin, change, next)

    def _drive(self, plugin: Plugin, change: Changeover, resume: Callable[[Any], Any]) -> bool:
        try:
            resume(change.drain)
        except StopIteration as stop:
            report = stop.value or DrainReport()  # none if it has been told already
            change.report.drained += report.drained
            change.report.killed += report.killed
            change.lost = plugin.counts.lost - change.lost_before
            return True
        return False

    def _kill_stragglers(self, plugin: Plugin, change: Changeover, old: Generation) -> int:
        if change.plan == "handoff" and not change.force:
            limit_s = change.spec.drain_timeout_s
            cause = f"drain_timeout: {old.borrowed} jobs still run after {limit_s:g} s"
            self.on_refused(plugin, change, cause)
            return 0
        return self._fleet.force_kill(old)

    # -- EXPORT

    def export(self, plugin: Plugin, change: Changeover) -> bool:
        """The old worker gives what it holds and its state, and stays able to go on."""
        old = change.old
        assert old is not None
        workers = _serving(change)
        if not workers:
            if "state" in old.loaded.capabilities:
                cause = change.cause or "its worker is gone"
                text = f"the state is lost: {cause}; the new release starts fresh"
                self._desk.narrate("warning", plugin.name, text)
            change.state = None
            return True
        worker = workers[0]
        for capability, method in EXPORTS:
            if capability in worker.capabilities and (worker.id, method) not in change.passed:
                self._ask_once(plugin, change, worker, method)
                return False
        return True

    def _ask_once(self, plugin: Plugin, change: Changeover, worker: Worker, method: str) -> None:
        if (worker.id, method) not in change.asked:
            change.asked.add((worker.id, method))
            self._talking.ask(worker, method, [{}], purpose=change)
            limit_s = change.spec.drain_timeout_s
            self._desk.arm(limit_s, self._export_late, plugin, change, worker, method)

    def _export_late(self, plugin: Plugin, change: Changeover, worker: Worker, method: str) -> None:
        """`drain_timeout` limits flush and export_state too."""
        is_answered = (worker.id, method) in change.passed
        if change.step is Step.EXPORT and not is_answered and worker in _serving(change):
            limit_s = change.spec.drain_timeout_s
            cause = f"drain_timeout: no answer to {method} within {limit_s:g} s"
            self._too_late(plugin, change, cause)

    def replied(
        self, plugin: Plugin, change: Changeover, worker: Worker, method: str,
        fault: Fault | None, result: Any,
    ) -> None:  # fmt: skip
        """The old worker answered flush or export_state."""
        change.passed.add((worker.id, method))
        if change.step is not Step.EXPORT:
            return
        if fault is not None:
            if fault.code != Code.METHOD_NOT_FOUND:
                self._no_state(plugin, change, f"{method}: {fault.message}")
        elif method == "flush":
            self._desk.give(Flushed(plugin.name, result))
        else:
            change.state = result
            self._check_format(plugin, change)

    def _check_format(self, plugin: Plugin, change: Changeover) -> None:
        assert change.new is not None
        assert change.old is not None
        accepts = change.new.loaded.state_accepts
        offered = change.old.loaded.state_format
        if accepts and offered not in accepts:
            cause = f"the new release takes state of {list(accepts)}, not {offered!r}"
            self._no_state(plugin, change, cause)

    def _no_state(self, plugin: Plugin, change: Changeover, cause: str) -> None:
        """The old worker goes on with its state, unless the change is forced."""
        change.state = None
        if change.force:
            self._desk.narrate("warning", plugin.name, f"the state is lost: {cause}; forced")
        else:
            self.on_refused(plugin, change, cause)

    # -- STOP

    def stop(self, _plugin: Plugin, change: Changeover) -> bool:
        """The old workers leave before the new ones start."""
        old = change.old
        assert old is not None
        for worker in list(old.workers.values()):
            self._fleet.ladder.stop(worker, "stop-first")
        return not old.is_alive


def _serving(change: Changeover) -> list[Worker]:
    return change.old.ready() if change.old is not None else []
