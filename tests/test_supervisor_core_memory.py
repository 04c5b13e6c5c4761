"""The hard limit `memory` on the pure core: failures.md 15, and a death that counts nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from changeover.protocol.errors import Code
from changeover.supervisor import orders as o
from changeover.supervisor.states import Restart, WorkerState
from changeover.supervisor.worker import Worker

from .core_harness import BUSY, NOT_PURE, Bench, digest_of, state_of

LIMIT = 1 << 30
ABOVE = LIMIT + (1 << 29)


def limited(**spec: Any) -> Bench:
    """A plugin under a limit, whose first release is approved."""
    bench = Bench(memory_bytes=LIMIT, **spec)
    bench.start("A")
    bench.after(31)
    bench.orders.clear()
    return bench


def measure(bench: Bench, *workers: Worker, taken: int = ABOVE) -> None:
    memory = {worker.id: taken for worker in workers}
    bench.fact(lambda: bench.core.measured(bench.now, "p", memory))


def test_only_what_is_above_the_limit_is_killed_at_once_and_replaced() -> None:
    bench = limited(workers=2)
    bench.life("A", ignores_term=True)
    one, other = bench.workers
    measure(bench, one, other, taken=LIMIT)
    assert bench.workers == [one, other]
    measure(bench, one)
    assert one.state is WorkerState.EXITED
    assert [s.what for s in bench.given(o.Signal)] == ["kill"]
    assert other in bench.workers
    assert len(bench.workers) == 2


def test_a_pure_job_is_run_again() -> None:
    bench = limited()
    job = bench.submit()
    measure(bench, bench.workers[0])
    bench.answer(job)
    assert (state_of(job), job.attempts) == ("done", 2)
    assert "worker 1001 was killed: it took 1.5G, memory = 1.0G\n  1 re-run, 0 lost" in bench.told


def test_the_caller_of_another_job_is_told_that_it_was_the_memory() -> None:
    bench = Bench(memory_bytes=LIMIT)
    bench.life("A", methods=NOT_PURE)
    bench.start("A")
    job = bench.submit()
    measure(bench, bench.workers[0])
    assert state_of(job) == "lost"
    assert job.fault is not None
    assert (job.fault.code, job.fault.executed) == (Code.WORKER_LOST, "maybe")
    assert job.fault.data["reason"] == "memory"
    assert job.fault.message == "was killed: it took 1.5G, memory = 1.0G"
    assert "0 re-run, 1 lost" in bench.told


def test_it_counts_for_no_crash_loop_but_comes_back_with_a_back_off() -> None:
    bench = limited(crash_loop_count=1, restart_min_s=1.0)
    measure(bench, bench.workers[0])
    for pause_s in (1.0, 2.0, 4.0, 8.0):
        measure(bench, bench.workers[0])
        assert bench.plugin.state == "backoff"
        assert bench.workers == []
        bench.after(pause_s - 0.1)
        assert bench.workers == []
        bench.after(0.1)
        assert len(bench.workers) == 1
    assert bench.plugin.deaths == {}
    assert bench.plugin.state == "live"


def test_the_watch_does_not_count_it() -> None:
    bench = limited(workers=3, concurrency=1)
    change = bench.write("B")
    bench.submit_many(3)
    measure(bench, *bench.workers)
    assert change is not None
    assert (bench.release(), change.outcome) == (2, "")


def test_it_is_no_poison_but_ends_a_job_that_never_fits() -> None:
    bench = limited(poison=3)
    job = bench.submit()
    for _ in range(3):
        assert state_of(job) == "running"
        measure(bench, bench.holder(job))
        bench.after(1.0)
    assert state_of(job) == "lost"
    assert job.fault is not None
    assert (job.fault.code, job.fault.data["reason"]) == (Code.WORKER_LOST, "memory")
    assert job.deaths == ()


def test_crashes_and_kills_are_counted_apart() -> None:
    bench = limited(poison=2)
    job = bench.submit()
    measure(bench, bench.holder(job))
    bench.die(bench.holder(job))
    bench.after(1.0)
    assert state_of(job) == "running"


def test_a_kill_is_not_held_against_a_job_at_its_next_crash() -> None:
    bench = limited(poison=3)
    job = bench.submit()
    measure(bench, bench.holder(job))
    stricter = Bench(memory_bytes=LIMIT, poison=1).spec
    bench.fact(lambda: bench.core.reconfigure(bench.now, stricter, needs_change=False))
    bench.die(bench.holder(job))
    assert job.fault is not None
    assert job.fault.code == Code.POISONED


def test_a_job_that_was_never_sent_has_no_part_in_a_kill() -> None:
    bench = limited(poison=1, durable=True)
    job = bench.submit()
    assert job.is_held  # the journal has not got it yet
    measure(bench, bench.holder(job))
    assert (job.kills, state_of(job)) == (0, "running")


@pytest.mark.parametrize("request_", ["load", "check"])
def test_a_release_that_takes_too_much_before_it_serves_is_refused(request_: str) -> None:
    bench = limited()
    bench.life("B", capabilities=("check",), **{request_: BUSY})
    change = bench.write("B")
    assert change is not None
    assert change.new is not None
    (newcomer,) = change.new.workers.values()
    measure(bench, newcomer)
    assert (bench.release(), change.outcome) == (1, "refused")
    assert change.cause == "memory: worker 1002 took 1.5G, memory = 1.0G"
    assert digest_of("B") in bench.plugin.bad
    assert bench.everyone == bench.workers


def test_a_restart_that_takes_too_much_is_tried_again_with_a_back_off() -> None:
    bench = limited(crash_loop_count=1, restart_min_s=1.0)
    bench.life("A", load=BUSY)
    bench.die(bench.workers[0])
    for pause_s in (2.0, 4.0):
        (starting,) = bench.workers
        assert starting.state is WorkerState.STARTING
        measure(bench, starting)
        assert bench.plugin.state == "backoff"
        bench.after(pause_s)
    assert len(bench.plugin.deaths[digest_of("A")]) == 1
    assert bench.plugin.live is not None
    assert bench.plugin.live.restart is Restart.RUNNING


def test_a_parked_worker_is_killed_and_the_way_back_leads_to_the_store() -> None:
    bench = limited()
    parked = bench.workers[0]
    bench.write("B")
    measure(bench, parked)
    assert parked.state is WorkerState.EXITED
    assert bench.everyone == bench.workers
    bench.rollback()
    assert bench.release() == 1


def test_a_worker_that_drains_is_killed_and_its_job_moves() -> None:
    bench = limited()
    job = bench.submit()
    draining = bench.holder(job)
    bench.write("B")
    measure(bench, draining)
    assert bench.holder(job) in bench.workers
    assert bench.plugin.change is None


def test_a_limit_of_a_new_config_counts_at_the_next_look() -> None:
    bench = Bench()
    bench.start("A")
    first = bench.workers[0]
    measure(bench, first)
    assert bench.workers == [first]
    spec = Bench(memory_bytes=LIMIT).spec
    bench.fact(lambda: bench.core.reconfigure(bench.now, spec, needs_change=False))
    measure(bench, first)
    assert first not in bench.everyone
