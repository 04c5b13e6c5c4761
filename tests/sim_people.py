"""Who uses the simulated supervisor: callers, operators, and whoever writes the source."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from changeover.protocol.errors import Code, Fault
from changeover.supervisor.job import Job
from changeover.supervisor.past import Past
from changeover.supervisor.registry import (
    Cron,
    Disabled,
    Every,
    OnChange,
    OnSignal,
    ReloadPolicy,
)
from changeover.supervisor.spec import PluginSpec
from changeover.supervisor.triggers import Reason

from .sim_law import require
from .sim_lives import random_life
from .sim_world import World, digest_of

CALL_S, OPERATE_S, WRITE_S, LOOK_S = 0.01, 0.3, 0.25, 0.1
FIRST: tuple[Reason, ...] = ("start", "add", "config")
MAX_RSS, MEMORY = 100, 200
TAKEN = (50, 50, 50, MAX_RSS, MAX_RSS + 1, MEMORY, MEMORY + 1)  # bytes of a worker, at random
REFUSALS = {Code.BUSY, Code.STOPPING, Code.UNAVAILABLE, Code.NOT_FOUND, Code.CONFLICT}


def random_policy(rng: Random) -> ReloadPolicy:
    """Mostly on-change."""
    return rng.choice(
        (OnChange(), OnChange(), OnChange(), OnSignal(), Every(0.3), Cron("* * * * *"), Disabled())
    )


def random_spec(rng: Random, name: str) -> PluginSpec:
    """A plugin with small limits."""
    slow = rng.choice((1.0, 1.0, 10.0))
    return PluginSpec(
        name=name,
        source="/src",
        workers=rng.choice((1, 1, 2, 3)),
        concurrency=rng.choice((1, 2, 3)),
        queue=rng.choice((1, 2, 5, 20)),
        full=rng.choice(("block", "reject")),
        timeout_s=rng.choice((None, None, 0.05 * slow, 0.3)),
        retries=rng.choice((0, 0, 1, 2)),
        poison=rng.choice((1, 2, 3)),
        kill_grace_s=rng.choice((0.0, 0.01, 0.1)),
        restart_min_s=rng.choice((0.001, 0.02)),
        restart_max_s=rng.choice((0.05, 0.2)),
        crash_loop_count=rng.choice((1, 3, 5)),
        crash_loop_window_s=rng.choice((0.2, 2.0)),
        max_jobs=rng.choice((None, None, 1, 20)),
        max_age_s=rng.choice((None, None, None, 0.5)),
        max_rss_bytes=rng.choice((None, None, MAX_RSS)),
        memory_bytes=rng.choice((None, None, MEMORY)),
        reload=random_policy(rng),
        swap=rng.choice(("auto", "overlap", "handoff", "stop-first")),
        warm_timeout_s=rng.choice((0.1, 0.5)) * slow,
        drain_timeout_s=rng.choice((0.0, 0.02, 0.2)) * slow,
        drain_over=rng.choice(("kill", "kill", "wait")),
        hold_timeout_s=rng.choice((0.02, 0.2)) * slow,
        probation_s=rng.choice((0.0, 0.1, 1.0)),
        rollback_keep=rng.choice(("auto", "warm", "staged")),
        durable=rng.random() < 0.4,
        max_errors_factor=rng.choice((2.0, None)),
        max_errors_rate=rng.choice((None, 0.05)),
        pin=digest_of(f"{name}/A") if rng.random() < 0.05 else "",
        python="/venv" if slow > 1.0 else "",
    )


class People:
    """They act at random until they are told to rest."""

    def __init__(self, world: World, plugins: int) -> None:
        self.world = world
        self.rng = world.rng
        self.is_resting = False
        self.specs: dict[str, PluginSpec] = {}
        self.jobs: list[Job] = []
        self._jobs = 0
        for number in range(plugins):
            self._introduce(f"p{number}")

    def _introduce(self, name: str) -> None:
        world, rng = self.world, self.rng
        is_stateful = rng.random() < 0.4
        contents = [f"{name}/{letter}" for letter in "ABCDE"]
        for content in contents:
            world.lives[digest_of(content)] = random_life(rng, name, is_stateful=is_stateful)
        world.disk[name] = contents[0]
        self.specs[name] = random_spec(rng, name)
        self._add(name)
        world.after(CALL_S, self._call, name)
        world.after(OPERATE_S, self._operate, name)
        world.after(WRITE_S, self._write, name)
        world.after(OPERATE_S, self._schedule)
        world.after(LOOK_S, self._look, name)

    # -- callers

    def _call(self, name: str) -> None:
        if self.is_resting:
            return
        self.world.after(CALL_S * self.rng.choice((0.1, 1, 1, 5)), self._call, name)
        if self.jobs and self.rng.random() < 0.15:
            self._cancel()
        else:
            self._submit(name)

    def _submit(self, name: str) -> None:
        rng, world = self.rng, self.world
        self._jobs += 1
        job = Job(
            f"j{self._jobs}", name, rng.choice(("run", "run", "run", "act", "none")), b"\x90",
            key=rng.choice((None, None, None, "a", "b", "c")),
            idempotent=rng.random() < 0.1,
            timeout_s=rng.choice((None, None, None, 0.02, 0.2)),
        )  # fmt: skip
        block_s = rng.choice((None, None, 0.0, 0.05))
        try:
            accepted = world.core.submit(world.now, job, block_s=block_s)
        except Fault as fault:
            require(fault.code in REFUSALS, f"{job.id} refused with {fault.wire()}")
            return
        self.jobs.append(job)
        world.job_laws.submitted(job, accepted=accepted)

    def _cancel(self) -> None:
        rng = self.rng
        job = self.jobs.pop(rng.randrange(len(self.jobs)))
        reason = rng.choice(("client", "client", "disconnected", "late"))
        self.world.core.cancel(self.world.now, job, reason, kill=rng.random() < 0.2)

    # -- operators

    def _operate(self, name: str) -> None:
        if self.is_resting:
            return
        world = self.world
        world.after(OPERATE_S * self.rng.choice((0.05, 1, 1)), self._operate, name)
        deeds = (
            self._reload, self._reload, self._force, self._hup, self._rollback, self._rollback,
            self._pause, self._resume, self._resume, self._configure, self._replace, self._flush,
            self._extend,
        )  # fmt: skip
        try:
            self.rng.choice(deeds)(name)
        except Fault as fault:
            require(fault.code in REFUSALS, f"{name}: {fault.wire()}")

    def _note(self, change: Any) -> None:
        if change is not None:
            self.world.changes.append(change)

    def _add(self, name: str) -> None:
        core, now = self.world.core, self.world.now
        if name not in core.plugins and not core.desk.is_stopping:
            spec, reason = self.specs[name], self.rng.choice(FIRST)
            known = (
                Past(self.world.change_laws.history).plugin(spec)
                if self.rng.random() < 0.8
                else None
            )
            if known is None:
                self.world.change_laws.forget(name)
            self._note(core.add(now, spec, reason=reason, plugin=known))
            if self.rng.random() < 0.5:
                self._inherit(name)

    def _inherit(self, name: str) -> None:
        """A supervisor that was killed left jobs in its journal."""
        rng, world = self.rng, self.world
        for _ in range(rng.randrange(8)):
            self._jobs += 1
            method, idempotent = rng.choice(("run", "act")), rng.random() < 0.1
            job = Job(f"j{self._jobs}", name, method, b"\x90", idempotent=idempotent)
            job.attempts = rng.choice((0, 0, 1, 2))
            left_s = rng.choice((None, None, 0.0, 0.1))
            may_repeat = idempotent or method == "run"
            world.job_laws.inherited(job)
            world.core.restore(world.now, job, left_s=left_s, may_repeat=may_repeat)
            self.jobs.append(job)

    def _reload(self, name: str) -> None:
        self._note(self.world.core.change(self.world.now, name, "reload"))

    def _force(self, name: str) -> None:
        self._note(self.world.core.change(self.world.now, name, "reload", force=True))

    def _hup(self, name: str) -> None:
        self._note(self.world.core.change(self.world.now, name, "signal"))

    def _rollback(self, name: str) -> None:
        to = self.rng.choice((None, None, 1, 2))
        self._note(self.world.core.rollback(self.world.now, name, to=to))

    def _pause(self, name: str) -> None:
        self.world.core.pause(self.world.now, name, reject=self.rng.random() < 0.3)

    def _resume(self, name: str) -> None:
        self.world.core.resume(self.world.now, name)

    def _flush(self, name: str) -> None:
        self.world.core.flush(self.world.now, name)

    def _extend(self, _name: str) -> None:
        if self.world.processes:
            self.rng.choice(list(self.world.processes.values())).extend()

    def _configure(self, name: str) -> None:
        old = self.specs[name]
        fresh = random_spec(self.rng, name)
        is_live = self.rng.random() < 0.5
        if is_live:
            fresh = replace(fresh, workers=old.workers, concurrency=old.concurrency)
        self.specs[name] = fresh
        core = self.world.core
        self._note(core.reconfigure(self.world.now, fresh, needs_change=not is_live))

    def _replace(self, name: str) -> None:
        if self.rng.random() < 0.3:
            self.world.core.remove(self.world.now, name)
        self.world.after(OPERATE_S, self._add, name)

    def _schedule(self) -> None:
        world = self.world
        wall = world.wall
        if self.rng.random() < 0.1:
            wall = wall.replace(year=wall.year + 1)  # the clock jumps
        for change in world.core.check_schedules(world.now, wall):
            self._note(change)
        if not self.is_resting:
            world.after(OPERATE_S / 4, self._schedule)

    def _look(self, name: str) -> None:
        """What a worker takes is as the dice say; not all is always known."""
        if self.is_resting:
            return
        world, rng = self.world, self.rng
        world.after(LOOK_S, self._look, name)
        seen = {
            process.worker: process.measure(rng.choice(TAKEN), MEMORY)
            for process in world.processes.values()
            if process.is_there and rng.random() < 0.3
        }
        stayed = [worker for worker in seen if not worker.cause]
        memory = {worker.id: taken for worker, taken in seen.items()}
        world.core.measured(world.now, name, memory)
        plugin = world.core.plugins.get(name)
        limit = plugin.spec.memory_bytes if plugin is not None else None
        for worker in stayed:
            if limit is not None and seen[worker] > limit and worker.generation.spec.name == name:
                is_held = worker.cause in ("memory", "refused")
                require(is_held, f"{worker} is above memory, and its end is {worker.cause!r}")

    # -- whoever writes the source

    def _write(self, name: str) -> None:
        if self.is_resting:
            return
        world, rng = self.world, self.rng
        world.after(WRITE_S * rng.choice((0.05, 1, 3)), self._write, name)
        content = f"{name}/{rng.choice('AABCDE')}"
        world.disk[name] = content
        self.settle(name, content)

    def settle(self, name: str, content: str) -> None:
        """The watcher saw it."""
        digest = digest_of(content)
        core, now = self.world.core, self.world.now
        self._note(core.candidate(now, name, int(digest[:16], 16), digest))

    # -- the end

    def ask_once_more(self) -> list[str]:
        """Now that all is well, a forced reload must work; the plugins that were asked for one."""
        core = self.world.core
        asked = [
            name for name, plugin in core.plugins.items()
            if core.registry.auto_reload_enabled(name) and not plugin.spec.pin
        ]  # fmt: skip
        for name in asked:
            self._force(name)
        return asked

    def call_once_more(self, name: str) -> Job:
        """… and a job."""
        world = self.world
        job = Job(f"last/{name}", name, "run", b"\x90", timeout_s=1e6)
        world.job_laws.submitted(job, accepted=world.core.submit(world.now, job, block_s=1.0))
        return job

    def rest(self) -> None:
        """Nobody wants anything more, and nothing stays paused."""
        self.is_resting = True
        for name in list(self.world.core.plugins):
            self.world.core.resume(self.world.now, name)
