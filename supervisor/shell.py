"""Carries out what the core orders and tells it what happened. It decides nothing.

One loop, one thread; reading and copying files happens in one helper thread, which never starts
a process. Every public method that ends in a fact goes `core.fact(now, …)` then `act()`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Protocol

from ..protocol.errors import Fault
from . import orders as o
from .caller import Heir
from .changeover import Changeover
from .core import Core
from .crew import Crew
from .files import Files
from .job import Job
from .journal import Journal
from .ledger import Ledger
from .log_ring import Level
from .spec import SupervisorSpec
from .staged import Staged
from .staging import Staging
from .store import Store
from .worker import Worker


class Listener(Protocol):
    """Who is told what people may want to see (the service)."""

    def phase(self, order: o.Phase) -> None: ...
    def ended(self, change: Changeover) -> None: ...
    def record(self, entry: dict[str, Any]) -> None: ...
    def changed(self, order: o.Changed) -> None: ...
    def narrate(self, level: Level, plugin: str, text: str) -> None: ...
    def worker_line(self, worker: Worker, level: Level, text: str) -> None: ...
    def flushed(self, plugin: str, values: bytes) -> None: ...
    def settled(self, job: Job) -> None: ...
    def registered(self, plugin: str, staged: Staged | None) -> None: ...


class Shell:
    """The processes, the pipes and the timers of one supervisor."""

    def __init__(
        self, spec: SupervisorSpec, supervisor_id: str, store: Store, state_dir: Path,
        listener: Listener,
    ) -> None:  # fmt: skip
        self.loop = asyncio.get_running_loop()
        self.files = Files()
        now = self.loop.time()
        start = datetime.now(UTC) - timedelta(seconds=now)
        self.core = Core(spec, wall_start=start, jitter=Random().random)  # noqa: S311 - back-off
        self.crew = Crew(self, supervisor_id, state_dir, listener)
        self.staging = Staging(self, store, listener)
        self.ledger = Ledger(
            self.loop, self.files, Journal(state_dir / "journal.db"), listener.narrate,
            self._refused,
        )  # fmt: skip
        self._listener = listener
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_acting = False
        self._tick: asyncio.TimerHandle | None = None
        self._do: dict[type, Callable[[Any], None]] = {
            o.Dispatch: self._dispatch,
            o.Settle: lambda order: self._settle(order.job),
            o.Stage: self.staging.begin,
            o.Spawn: self.crew.spawn,
            o.Ask: self.crew.ask,
            o.Tell: lambda order: self.crew.tell(order.worker, order.method, order.params),
            o.Close: self.crew.close_input,
            o.Signal: self.crew.signal,
            o.Admit: lambda order: self._admit(order.job),
            o.Flushed: lambda order: listener.flushed(order.plugin, order.values),
            o.Phase: listener.phase,
            o.Ended: lambda order: listener.ended(order.change),
            o.Record: self._record,
            o.Changed: listener.changed,
            o.Narrate: lambda order: listener.narrate(order.level, order.plugin, order.text),
        }

    def now(self) -> float:
        """The monotonic clock of the facts."""
        return self.loop.time()

    # -- orders

    def act(self) -> None:
        """Carry out what the core has ordered, also what it orders meanwhile."""
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while orders := self.core.take_orders():
                for order in orders:
                    self._do[type(order)](order)
        finally:
            self._is_acting = False
        self._arm()

    def _arm(self) -> None:
        due = self.core.next_due()
        tick = self._tick
        if due is None or (tick is not None and tick.when() <= due):
            return
        if tick is not None:
            tick.cancel()
        self._tick = self.loop.call_at(due, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        self.core.tick(self.now())
        self.act()

    def later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it beside everything else."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _admit(self, job: Job) -> None:
        if job.is_accepted:
            for caller in job.owner:
                caller.admitted(job)
        else:
            self.ledger.accept(job, partial(self._accepted, job))

    def _settle(self, job: Job) -> None:
        self._listener.settled(job)
        if job.is_durable:
            self.ledger.end(job, partial(self._tell_outcome, job))
        else:
            self._tell_outcome(job)

    def _tell_outcome(self, job: Job) -> None:
        for caller in job.owner:
            caller.settled(job)
        if job.is_durable and all(caller.is_forgotten for caller in job.owner):
            self.ledger.forget(job.id)

    def _dispatch(self, order: o.Dispatch) -> None:
        job, loaded = order.job, order.worker.generation.loaded
        if job.is_held:
            may_repeat = job.idempotent or loaded.is_pure(job.method)
            self.ledger.begin(job, partial(self._begin, order), may_repeat=may_repeat)
        else:
            self.crew.dispatch(order)

    def _record(self, order: o.Record) -> None:
        self._listener.record(order.entry)
        # A recycle changes nothing about what the source is compared with.
        if order.entry["event"] == "cut" and order.entry["why"] != "recycle":
            digest = order.entry["to"]["digest"]
            self._listener.registered(order.entry["plugin"], self.staging.known.get(digest))

    # -- facts about jobs

    def submit(self, job: Job, block_s: float | None) -> None:
        """Accept a job, whose callers are told when it is; raises Fault."""
        self.ledger.check(job, is_durable=self.core.plugin(job.plugin).spec.durable)
        try:
            is_accepted = self.core.submit(self.now(), job, block_s=block_s)
        finally:
            self.loop.call_soon(self.act)
        if is_accepted:
            self._admit(job)

    def cancel(self, job: Job, reason: str, *, kill: bool = False) -> None:
        """End a job for its caller."""
        self.core.cancel(self.now(), job, reason, kill=kill)
        self.act()

    # -- facts about the journal

    def restore(self, plugin: str) -> None:
        """What a supervisor before this one had accepted for a plugin goes on."""
        for job, deadline, may_repeat in self.ledger.recovered(plugin):
            job.owner = [Heir()]
            left_s = None
            if deadline is not None and job.timeout_s is not None:  # the wall clock may have jumped
                left_s = max(0.0, min(deadline - time.time(), job.timeout_s))
            self.core.restore(self.now(), job, left_s=left_s, may_repeat=may_repeat)

    def _accepted(self, job: Job) -> None:
        job.is_accepted = True
        self._admit(job)

    def _begin(self, order: o.Dispatch) -> None:
        if self.core.begin(self.now(), order.worker, order.job):
            self.crew.dispatch(order)
        self.act()

    def _refused(self, job: Job, fault: Fault) -> None:
        job.is_durable = False
        self.core.refused(self.now(), job, fault)
        self.act()

    # -- the end

    async def close(self) -> None:
        """Everything has ended: let go of the helper thread and the fork servers."""
        for task in list(self._tasks):
            task.cancel()
        if self._tick is not None:
            self._tick.cancel()
        await self.crew.close()
        self.files.shutdown()
        self.ledger.close()
