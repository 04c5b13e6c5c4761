"""What people and programs are told: narration, logs, watches, and who waits for a changeover.

The shell's listener. It hands facts on and decides nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from .changeover import Changeover
from .job import Job
from .log_ring import Level, LogEntry, LogRing
from .narrator import Narrator
from .orders import Changed, Phase
from .rates import Rates
from .spec import SupervisorSpec
from .waiting import SHOWN, duration, notice
from .watches import Watches
from .worker import Worker


class News:
    """One per supervisor. `seq` numbers what watches are told, so that nothing is missed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        spec: SupervisorSpec,
        stats: Callable[[], dict[str, Any]],
    ) -> None:
        self.seq = 0
        self.ring = LogRing()
        self.watches = Watches(loop, stats)
        self.rates: dict[str, Rates] = {}
        self._loop = loop
        self._narrator = Narrator(spec.log_format, spec.log_level)

    def phase(self, order: Phase) -> None:
        """A changeover entered a step; by now it may be further."""
        change = order.change
        notice(change)
        self.seq += 1
        name, took_s, detail = order.left or ("", 0.0, change.reason)
        facts = {
            "seq": self.seq,
            "generation": change.number or None,
            "phase": SHOWN.get(name, name) or "begun",
            **duration(took_s),
            "detail": detail,
            "next": order.step.value,
        }
        self.watches.tell("plugins", change.plugin, "change_phase", [change.plugin, facts])

    def ended(self, change: Changeover) -> None:
        """It ended, or is drained and only watched."""
        notice(change)

    def changed(self, order: Changed) -> None:
        """A plugin or a worker has changed."""
        self.seq += 1
        facts = {"seq": self.seq, **order.facts}
        if order.topic == "plugin":
            self.watches.tell("plugins", order.plugin, "plugin_changed", [order.plugin, facts])
        else:
            name = order.facts["plugin"]
            self.watches.tell("workers", name, "worker_changed", [order.plugin, facts])

    def narrate(self, level: Level, plugin: str, text: str) -> None:
        """Say it on stderr, keep it for `logs`, tell who watches."""
        self._narrator.say(level, text, plugin=plugin)
        self._keep(LogEntry(time=time.time(), level=level, message=text, plugin=plugin))

    def worker_line(self, worker: Worker, level: Level, text: str) -> None:
        """A worker wrote to its stderr or sent `log`."""
        plugin = worker.generation.spec.name
        jobs = list(worker.jobs)
        self._narrator.say(level, text, plugin=plugin, worker=worker.pid)
        self._keep(
            LogEntry(
                time=time.time(),
                level=level,
                message=text,
                plugin=plugin,
                worker=worker.id,
                job=jobs[0] if len(jobs) == 1 else "",
            )
        )

    def _keep(self, entry: LogEntry) -> None:
        self.ring.add(entry)
        fields = {"worker": entry.worker, "job": entry.job} if entry.worker else {}
        self.watches.tell_log(entry.plugin, entry.level, entry.message, fields)

    def settled(self, job: Job, now: float) -> None:
        """A job ended."""
        rates = self.rates.get(job.plugin)
        if rates is not None:
            rates.count(now, job.queued_s + job.ran_s)
        if self.watches.has_any:
            facts = {"plugin": job.plugin, "state": job.state.value}
            self.watches.tell("jobs", job.plugin, "job_ended", [job.id, facts])
