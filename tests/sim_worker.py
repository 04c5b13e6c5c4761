"""A simulated worker process: it answers, raises, hangs, dies, or answers late, by the dice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from changeover.protocol.errors import Code, Fault
from changeover.supervisor.job import Job
from changeover.supervisor.worker import Worker

from .sim_law import require
from .sim_lives import CRASHES, EXITS, GARBAGE, HANGS, KILLED, OK, RAISES, UNLUCKY, Life

if TYPE_CHECKING:
    from .sim_world import World

HEALTHY_SLOWNESS = 0.3
BOOT_S, ANSWER_S, JOB_S, DEATH_S = 0.02, 0.002, 0.01, 0.003


class Process:
    """What the core knows as a `Worker`. It keeps its own books, for the laws."""

    def __init__(self, world: World, worker: Worker) -> None:
        self.world = world
        self.worker = worker
        self.life: Life = world.life_of(worker)
        self.begun_at = world.now
        self.warm_timeout_s = worker.clock.left_s
        self.unwanted: dict[str, float] = {}  # jobs that were cancelled, since when
        self.is_there = False
        self.is_dying = False
        self.is_gone = False
        self.was_told_to_go = False  # unload, exit, end of input, a signal
        self.is_doomed = False  # it was decided that it must go
        self.is_too_big = False  # measured above `memory` once
        self.asked: str | None = None
        self.answered: set[str] = set()
        self.holds: dict[str, Job] = {}
        self.hangs: list[str] = []  # jobs that it will not answer until it is healed

    @property
    def _slowness(self) -> float:
        return HEALTHY_SLOWNESS if self.world.is_healthy else self.life.slowness

    # -- the beginning

    def spawn(self) -> None:
        """The shell was ordered to start it."""
        outcome = self._draw("spawn")
        if outcome in (UNLUCKY, RAISES):
            self.is_dying = True
            self.world.after(ANSWER_S, self._no_process, outcome == UNLUCKY)
        else:
            self.world.after(BOOT_S * self._slowness, self._spawned)

    def _no_process(self, luck: bool) -> None:
        self._leave()
        core, now = self.world.core, self.world.now
        core.spawn_failed(now, self.worker, "EAGAIN" if luck else "no such file", luck=luck)

    def _spawned(self) -> None:
        self.is_there = True
        pid = 1000 + int(self.worker.id[1:])
        self.world.core.spawned(self.world.now, self.worker, pid)

    def measure(self, taken: int, limit: int) -> int:
        """Somebody looks at its memory."""
        self.is_too_big = self.is_too_big or taken > limit
        return taken

    # -- requests

    def ask(self, method: str) -> None:
        """A control request arrived."""
        require(self.asked is None, f"{method} asked while {self.asked} is open")
        self.asked = method
        if method == "unload":
            self.was_told_to_go = True
        outcome = self._draw(method)
        slowness = self._slowness * (10 if method == "load" else 1)
        if outcome == HANGS:
            self.world.hanging.append(self._answer_late)
        elif outcome == OK:
            self.world.after(ANSWER_S * slowness, self._answer, method, None)
        elif outcome == RAISES:
            fault = Fault.new(Code.JOB_FAILED, f"{method} raised")
            self.world.after(ANSWER_S * slowness, self._answer, method, fault)
        else:
            self._end_by(outcome)

    def _answer_late(self) -> None:
        if self.asked is not None:
            self._answer(self.asked, None)

    def _answer(self, method: str, fault: Fault | None) -> None:
        if self.is_gone or self.is_dying or self.asked != method:
            return
        self.asked = None
        if fault is None:
            self.answered.add(method)
        result: Any = None
        if method == "hello":
            result = {"protocol": 1}
        elif method == "load":
            result = self.life.loaded()
        elif method in ("flush", "export_state"):
            result = b"\x90"
        self.world.core.replied(self.world.now, self.worker, method, fault, result)

    def extend(self) -> None:
        """It wants more time."""
        if self.asked is not None and not self.is_gone:
            self.world.core.extended(self.world.now, self.worker, 0.05)

    # -- jobs

    def take(self, job: Job) -> None:
        """A job was lent to it."""
        self.holds[job.id] = job
        outcome = self._draw("job")
        delay_s = JOB_S * self._slowness
        if outcome == HANGS:
            self.hangs.append(job.id)
            self.world.hanging.append(lambda: self._finish(job, None))
        elif outcome in (OK, RAISES):
            fault = Fault.new(Code.JOB_FAILED, "run raised") if outcome == RAISES else None
            self.world.after(delay_s, self._finish, job, fault)
        else:
            self.world.after(delay_s, self._end_by, outcome)

    def _finish(self, job: Job, fault: Fault | None) -> None:
        if self.is_gone or self.holds.get(job.id) is not job:
            return
        del self.holds[job.id]
        core, now = self.world.core, self.world.now
        was_held = core.answered(now, self.worker, job.id, fault, b"\xc0")
        require(was_held, f"{self.worker} holds no {job.id}")
        self.world.act()
        if self.life.strays and job.id not in self.worker.jobs:  # else the shell tells them apart
            was_held = core.answered(now, self.worker, job.id, None, b"\xc0")
            require(not was_held, f"a second answer to {job.id} was taken")

    def cancel(self, job_id: str) -> None:
        """It is asked to end a job."""
        job = self.holds.get(job_id)
        if job is not None and not self.life.ignores_cancel:
            fault = Fault.new(Code.CANCELLED, "cancelled")
            self.world.after(ANSWER_S * self._slowness, self._finish, job, fault)

    # -- the end

    def told_to_exit(self) -> None:
        """`exit`, or end of input."""
        self.was_told_to_go = True
        if not self.life.ignores_exit:
            self.world.after(DEATH_S, self.die, None, 0)

    def signal(self, what: str) -> None:
        """TERM or KILL."""
        self.was_told_to_go = True
        if what == "kill":
            self.is_dying = self.is_dying or self.is_there
            self.world.after(DEATH_S, self.die, "SIGKILL", None)
        elif what == "term" and self.is_there and not self.life.ignores_term:
            self.world.after(DEATH_S, self.die, "SIGTERM", None)

    def _end_by(self, outcome: str) -> None:
        if self.is_gone or self.is_dying:
            return
        if outcome == GARBAGE:
            self.world.core.broke_protocol(self.world.now, self.worker, "wrote to stdout: 'hi'")
        elif outcome == EXITS:
            self.world.after(DEATH_S, self.die, None, 1)
        elif outcome in (CRASHES, KILLED):
            self.world.after(DEATH_S, self.die, "SIGSEGV", None)

    def die(self, signal: str | None, status: int | None) -> None:
        """The process is reaped."""
        if self.is_gone:
            return
        if not self.is_there:  # it is still being started: killed as soon as it is there
            self.world.after(DEATH_S, self.die, signal, status)
            return
        self._leave()
        how = f"died of {signal}" if signal else f"exited with status {status}"
        death = Fault.new(Code.WORKER_LOST, how, signal=signal, exit=status, stderr_tail="")
        self.world.job_laws.before_death(self)
        self.world.core.exited(self.world.now, self.worker, death)
        self.world.job_laws.after_death(self)

    def _leave(self) -> None:
        self.is_gone = True
        del self.world.processes[self.worker.id]

    def _draw(self, request: str) -> str:
        if self.world.is_healthy:
            return OK
        return self.life.draw(self.world.rng, request)
