"""The core under Hypothesis: random rules on the bench, shrunk to the shortest story that fails.

The simulation (`tests.simulate`) goes wider and much further; this one explains better.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from changeover.protocol.errors import Fault
from changeover.supervisor import orders as o
from changeover.supervisor.job import Job

from .core_harness import DIES, EXITS, HANGS, NOT_PURE, PURE, Bench, Life, raises

CONTENTS = st.sampled_from("ABC")
BOOTS = st.sampled_from([None, None, None, HANGS, DIES, EXITS, raises("ImportError")])
PLANS = st.sampled_from(["auto", "overlap", "handoff", "stop-first"])


class CoreMachine(RuleBasedStateMachine):
    """One plugin and everybody around it."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []
        self.bench = Bench()

    @initialize(swap=PLANS, workers=st.integers(1, 2), pure=st.booleans())
    def begin(self, swap: Any, workers: int, pure: bool) -> None:
        self.bench = Bench(
            swap=swap, workers=workers, concurrency=2, queue=3, full="reject", timeout_s=20.0,
            drain_timeout_s=3.0, hold_timeout_s=5.0, warm_timeout_s=5.0, probation_s=10.0,
            restart_max_s=1.0,
        )  # fmt: skip
        for content in "ABC":
            self.bench.life(content, methods=PURE if pure else NOT_PURE)
        self.bench.start()

    @property
    def held(self) -> list[Job]:
        """What workers hold, whether or not somebody waits for it."""
        return [job for worker in self.bench.everyone for job in worker.jobs.values()]

    @rule(key=st.sampled_from([None, "a", "b"]))
    def submit(self, key: str | None) -> None:
        try:
            self.jobs.append(self.bench.submit(key=key))
        except Fault:
            return  # full, failed or held too long: it never was a job

    @precondition(lambda self: self.held)
    @rule(data=st.data(), fails=st.booleans())
    def answer(self, data: st.DataObject, fails: bool) -> None:
        job = data.draw(st.sampled_from(self.held))
        self.bench.fail(job) if fails else self.bench.answer(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), kill=st.booleans())
    def cancel(self, data: st.DataObject, kill: bool) -> None:
        self.bench.cancel(data.draw(st.sampled_from(self.held)), kill=kill)

    @precondition(lambda self: any(worker.pid for worker in self.bench.everyone))
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        there = [worker for worker in self.bench.everyone if worker.pid]
        self.bench.die(data.draw(st.sampled_from(there)))

    @rule(content=CONTENTS, boot=BOOTS)
    def write(self, content: str, boot: Any) -> None:
        self.bench.lives[content].load = boot
        self.bench.write(content)

    @rule(force=st.booleans())
    def reload(self, force: bool) -> None:
        self.bench.change("reload", force=force)

    @rule()
    def roll_back(self) -> None:
        try:
            self.bench.rollback()
        except Fault:
            return  # there is no earlier release

    @precondition(lambda self: self.bench.asked)
    @rule(data=st.data())
    def answer_late(self, data: st.DataObject) -> None:
        worker, method = data.draw(st.sampled_from(self.bench.asked))
        self.bench.reply(worker, method, Life().loaded() if method == "load" else None)

    @rule(seconds=st.sampled_from([0.05, 1.0, 4.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.bench.after(seconds)

    # -- what must be true at any time

    @invariant()
    def every_job_ends_once(self) -> None:
        settled = [order.job.id for order in self.bench.given(o.Settle)]
        assert len(settled) == len(set(settled))
        assert set(settled) == {job.id for job in self.jobs if job.has_ended}

    @invariant()
    def no_job_is_nowhere(self) -> None:
        waiting = {job.id for job in self.bench.plugin.queue} if self.bench.core.plugins else set()
        running = {job.id for job in self.held if not job.has_ended}
        assert waiting | running == {job.id for job in self.jobs if not job.has_ended}
        assert not waiting & running

    @invariant()
    def at_most_two_generations_are_alive(self) -> None:
        assert len({worker.generation for worker in self.bench.everyone}) <= 2

    @invariant()
    def no_worker_holds_more_than_its_limit(self) -> None:
        assert all(len(worker.jobs) <= 2 for worker in self.bench.everyone)

    @invariant()
    def no_key_is_held_twice(self) -> None:
        keys = [job.key for job in self.held if job.key is not None]
        assert len(keys) == len(set(keys))

    @invariant()
    def nothing_happens_for_ever_at_once(self) -> None:
        assert len(self.bench.orders) < 50_000

    def teardown(self) -> None:
        """Whatever happened, it can be stopped."""
        self.bench.fact(lambda: self.bench.core.stop(self.bench.now, at_once=True))
        assert self.bench.core.is_idle
        assert all(job.has_ended for job in self.jobs)


CoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCoreMachine = CoreMachine.TestCase
