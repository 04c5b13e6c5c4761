"""Durable jobs on the pure core: held until the journal has them, brought back after a kill."""

from __future__ import annotations

from changeover.protocol.errors import Code, Fault
from changeover.supervisor import orders as o
from changeover.supervisor.job import Job
from changeover.supervisor.states import JobState

from .core_harness import NOT_PURE, Bench


def serving() -> Bench:
    bench = Bench(durable=True)
    bench.life("A", methods=NOT_PURE, concurrency=1)
    bench.start()
    bench.after(31)
    bench.orders.clear()
    return bench


def begin(bench: Bench, job: Job) -> bool:
    """The journal has it that the job begins where it was lent last."""
    worker = bench.given(o.Dispatch)[-1].worker
    return bench.fact(lambda: bench.core.begin(bench.now, worker, job))


def restored(bench: Bench, job_id: str, *, attempts: int = 0, may_repeat: bool = True) -> Job:
    job = Job(job_id, "p", "run", b"\x90")
    job.attempts = attempts
    bench.fact(lambda: bench.core.restore(bench.now, job, left_s=None, may_repeat=may_repeat))
    return job


def executed(job: Job) -> str:
    assert job.fault is not None
    return job.fault.executed


def test_a_durable_job_is_held_and_not_accepted_until_the_journal_has_it() -> None:
    bench = serving()
    job = bench.submit()
    assert (job.is_durable, job.is_accepted, job.is_held) == (True, False, True)
    assert begin(bench, job)
    assert not job.is_held
    bench.answer(job)
    assert job.state is JobState.DONE


def test_a_job_that_streams_is_not_durable() -> None:
    bench = serving()
    job = bench.submit(options={"stream": 1})
    assert (job.is_durable, job.is_accepted, job.is_held) == (False, True, False)


def test_a_held_job_whose_worker_dies_was_never_sent_and_goes_back() -> None:
    bench = serving()
    job = bench.submit()
    worker = bench.holder(job)
    bench.die(worker)
    counts = bench.plugin.counts
    assert (worker.ended_jobs, job.kills) == (0, 0)
    assert (job.attempts, job.deaths, counts.lost, counts.rerun) == (1, (), 0, 0)
    assert begin(bench, job)


def test_a_held_job_that_is_cancelled_did_not_run_and_its_place_is_free_again() -> None:
    bench = serving()
    job, follower = bench.submit_many(2)
    worker = bench.holder(job)
    bench.cancel(job, kill=True)
    assert (job.state, executed(job)) == (JobState.CANCELLED, "no")
    assert not begin(bench, job)
    assert bench.holder(follower) is worker
    assert begin(bench, follower)


def test_a_held_job_does_not_begin_on_the_old_release_after_the_cut() -> None:
    bench = serving()
    job = bench.submit()
    bench.write("B")
    assert not begin(bench, job)
    assert job.attempts == 1
    assert bench.holder(job).generation is bench.plugin.live
    assert begin(bench, job)


def test_a_held_job_goes_back_when_the_queue_was_shut_meanwhile() -> None:
    bench = serving()
    job = bench.submit()
    bench.core.pause(bench.now, "p")
    assert not begin(bench, job)
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)


def test_a_job_that_the_journal_refuses_never_was_one() -> None:
    bench = serving()
    job, follower = bench.submit_many(2)
    worker = bench.holder(job)
    fault = Fault.new(Code.BUSY, "disk full")
    bench.fact(lambda: bench.core.refused(bench.now, job, fault))
    assert (job.state, executed(job), job.is_accepted) == (JobState.FAILED, "no", False)
    assert bench.plugin.counts.accepted == 1
    assert bench.plugin.counts.failed == 0
    assert bench.holder(follower) is worker


def test_what_comes_back_keeps_its_order_and_comes_before_new_jobs() -> None:
    bench = Bench(durable=True, concurrency=8, queue=1)
    bench.stages = False
    bench.start()
    old = [restored(bench, f"old{number}") for number in range(3)]
    new = bench.submit(block_s=10.0)
    bench.finish_stages()
    assert [order.job for order in bench.given(o.Dispatch)] == [*old, new]


def test_what_may_have_run_is_run_again_only_where_that_does_no_harm() -> None:
    bench = Bench(durable=True)
    bench.stages = False
    bench.start()
    lost = restored(bench, "lost", attempts=1, may_repeat=False)
    again = restored(bench, "again", attempts=1)
    assert (lost.state, executed(lost)) == (JobState.LOST, "maybe")
    assert lost.fault is not None
    assert lost.fault.data["reason"] == "stopped"
    bench.finish_stages()
    assert (again.state, again.attempts) == (JobState.RUNNING, 2)
