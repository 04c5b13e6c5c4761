"""Jobs on the pure core: order, keys, the lobby, cancel, deadlines, retries."""

from __future__ import annotations

from typing import Any

import pytest

from changeover.protocol.errors import Code, Fault
from changeover.supervisor import orders as o
from changeover.supervisor.job import Job
from changeover.supervisor.states import JobState

from .core_harness import HANGS, NOT_PURE, Bench, Life, raises, state_of


def serving(**spec: Any) -> Bench:
    bench = Bench(**spec)
    bench.start()
    bench.after(31)
    bench.orders.clear()
    return bench


def lent(bench: Bench) -> list[str]:
    """The jobs in the order in which they were lent."""
    return [order.job.id for order in bench.given(o.Dispatch)]


def fault_of(job: Job) -> Fault:
    assert job.fault is not None
    return job.fault


# -- accepting and lending


def test_a_job_ends_once_with_its_result() -> None:
    bench = serving()
    job = bench.submit()
    bench.answer(job, b"\x2a")
    assert (job.state, job.result) == (JobState.DONE, b"\x2a")
    assert [order.job for order in bench.given(o.Settle)] == [job]


def test_the_counts_add_up() -> None:
    bench = serving(concurrency=8)
    jobs = bench.submit_many(4)
    bench.answer(jobs[0])
    bench.fail(jobs[1])
    bench.cancel(jobs[2])
    bench.answer(jobs[2], fault=Fault.new(Code.CANCELLED, "cancelled"))
    counts = bench.plugin.counts
    assert (counts.accepted, counts.done, counts.failed, counts.cancelled) == (4, 1, 1, 1)


def test_a_second_answer_is_a_stray() -> None:
    bench = serving()
    job = bench.submit()
    worker = bench.holder(job)
    bench.answer(job)
    assert not bench.core.answered(bench.now, worker, job.id, None, b"\xc0")


def test_at_most_concurrency_jobs_are_in_a_worker() -> None:
    bench = serving(concurrency=2)
    bench.submit_many(5)
    assert len(bench.workers[0].jobs) == 2


def test_a_worker_gets_no_more_than_it_offers() -> None:
    bench = Bench(concurrency=8)
    bench.life("A", concurrency=1)
    bench.start()
    bench.submit_many(3)
    assert len(bench.workers[0].jobs) == 1


def test_jobs_are_lent_in_submission_order() -> None:
    bench = serving()
    jobs = [bench.submit(f"n{number}") for number in range(4)]
    for job in jobs:
        bench.answer(job)
    assert lent(bench) == ["n0", "n1", "n2", "n3"]


def test_the_least_busy_worker_gets_the_next() -> None:
    bench = serving(workers=2, concurrency=2)
    first, second = bench.submit_many(2)
    assert bench.holder(first) is not bench.holder(second)


def test_a_job_that_comes_back_goes_to_its_place() -> None:
    bench = serving(workers=2)
    bench.submit("a")
    bench.submit("b")
    for name in "cd":
        bench.submit(name)
    bench.orders.clear()
    bench.die(bench.holder(bench.core.jobs["a"]))
    bench.after(1)
    assert lent(bench)[0] == "a"


def test_jobs_wait_while_the_first_release_is_loading() -> None:
    bench = Bench()
    bench.life("A", load=HANGS)
    bench.start()
    job = bench.submit()
    assert state_of(job) == "queued"
    bench.reply(bench.asked[0][0], "load", Life().loaded())
    assert state_of(job) == "running"


def test_an_id_that_is_under_way_is_a_conflict() -> None:
    bench = serving()
    bench.submit("x")
    with pytest.raises(Fault) as caught:
        bench.submit("x")
    assert caught.value.code == Code.CONFLICT


def test_an_unknown_plugin_is_not_found_with_a_hint() -> None:
    bench = Bench(name="denoise")
    bench.core.add(0.0, bench.spec, reason="start")
    with pytest.raises(Fault, match="did you mean 'denoise'"):
        bench.core.plugin("denois")


def test_memory_stays_flat_when_waiting_jobs_are_cancelled() -> None:
    bench = serving(queue=10)
    bench.submit("runs")
    bench.submit("waits")
    for number in range(2000):
        bench.cancel(bench.submit(f"n{number}"))
    assert len(bench.plugin.queue._jobs) < 200
    assert bench.core.next_due() is None


# -- keys


def test_jobs_of_a_key_run_in_order_on_one_worker() -> None:
    bench = serving(workers=3, concurrency=2)
    jobs = bench.submit_many(3, key="cam-1")
    workers = set()
    for job in jobs:
        workers.add(bench.holder(job))
        bench.answer(job)
    assert len(workers) == 1


def test_never_two_jobs_of_a_key_at_once() -> None:
    bench = serving(workers=3, concurrency=2)
    first, second = bench.submit_many(2, key="cam-1")
    assert state_of(second) == "queued"
    bench.answer(first)
    assert state_of(second) == "running"


def test_a_waiting_key_does_not_hold_up_the_others() -> None:
    bench = serving(workers=1, concurrency=2)
    bench.submit_many(2, key="cam-1")
    assert state_of(bench.submit()) == "running"


def test_a_key_stays_busy_on_the_old_release_over_the_cut() -> None:
    bench = serving()
    old = bench.submit(key="cam-1")
    bench.write("B")
    new = bench.submit(key="cam-1")
    assert state_of(new) == "queued"
    bench.answer(old)
    assert state_of(new) == "running"


def test_a_key_goes_to_the_same_slot_after_a_crash() -> None:
    bench = serving(workers=3)
    job = bench.submit(key="cam-1")
    slot = bench.holder(job).slot
    bench.die(bench.holder(job))
    bench.after(1)
    assert bench.holder(job).slot == slot


# -- the lobby


def full(**spec: Any) -> Bench:
    """One job runs, one waits, and there is room for no more."""
    bench = serving(queue=1, **spec)
    bench.submit("runs")
    bench.submit("waits")
    return bench


def test_a_full_queue_lets_callers_wait() -> None:
    bench = full()
    assert bench.submit("third").seq == 0
    assert bench.plugin.counts.accepted == 2


def test_a_full_queue_may_refuse() -> None:
    bench = full(full="reject")
    with pytest.raises(Fault) as caught:
        bench.submit()
    assert (caught.value.code, caught.value.executed) == (Code.BUSY, "no")
    assert caught.value.data["retry_after_ms"] > 0


def test_block_ms_overrides_reject() -> None:
    bench = full(full="reject")
    bench.submit("third", block_s=1.0)
    assert len(bench.plugin.lobby) == 1


def test_block_ms_of_zero_overrides_block() -> None:
    bench = full()
    with pytest.raises(Fault, match="full"):
        bench.submit(block_s=0.0)


def test_block_ms_runs_out() -> None:
    bench = full()
    job = bench.submit("third", block_s=1.0)
    bench.after(1.1)
    assert fault_of(job).code == Code.BUSY
    assert bench.plugin.counts.accepted == 2


def test_room_lets_the_first_of_the_lobby_in() -> None:
    bench = full()
    job = bench.submit("third")
    bench.answer(bench.core.jobs["runs"])
    assert [order.job for order in bench.given(o.Admit)] == [job]
    assert job.seq == 3


def test_a_cancelled_job_in_the_queue_makes_room() -> None:
    bench = full()
    job = bench.submit("third")
    bench.cancel(bench.core.jobs["waits"])
    assert job.seq == 3


def test_a_job_in_the_lobby_can_be_cancelled() -> None:
    bench = full()
    job = bench.submit("third")
    bench.cancel(job)
    assert fault_of(job).executed == "no"
    assert bench.plugin.counts.cancelled == 0


def test_the_deadline_of_a_job_in_the_lobby_runs() -> None:
    bench = full()
    job = bench.submit("third", timeout_s=1.0)
    bench.after(1.1)
    assert fault_of(job).code == Code.DEADLINE


# -- cancel (protocol.md, section 5)


def test_a_queued_job_is_cancelled_at_once() -> None:
    bench = serving()
    bench.submit()
    job = bench.submit()
    bench.cancel(job)
    assert (job.state, fault_of(job).executed) == (JobState.CANCELLED, "no")
    assert fault_of(job).data["reason"] == "client"


def test_a_running_job_is_cancelled_by_its_worker() -> None:
    bench = serving()
    job = bench.submit()
    bench.cancel(job)
    assert not job.has_ended
    assert [order.params for order in bench.given(o.Tell)] == [[job.id, "client"]]


def test_the_workers_answer_to_a_cancel_is_the_outcome() -> None:
    bench = serving()
    job = bench.submit()
    bench.cancel(job)
    bench.answer(job)
    assert state_of(job) == "done"


def test_an_error_after_a_cancel_is_not_retried() -> None:
    bench = serving(retries=3)
    job = bench.submit()
    bench.cancel(job)
    bench.fail(job)
    assert (job.state, job.attempts) == (JobState.FAILED, 1)


def test_who_cannot_cancel_is_not_waited_for() -> None:
    bench = Bench()
    bench.life("A", capabilities=())
    bench.start()
    job = bench.submit()
    bench.cancel(job)
    assert (job.state, fault_of(job).executed) == (JobState.CANCELLED, "maybe")


def test_its_slot_stays_taken_until_it_answers() -> None:
    bench = Bench()
    bench.life("A", capabilities=())
    bench.start()
    job = bench.submit()
    bench.cancel(job)
    other = bench.submit()
    assert state_of(other) == "queued"
    bench.answer(job)
    assert state_of(other) == "running"
    assert state_of(job) == "cancelled"


def test_a_worker_that_ignores_a_cancel_is_killed_after_kill_grace() -> None:
    bench = serving(kill_grace_s=2.0)
    job = bench.submit()
    bench.cancel(job)
    bench.after(1.9)
    assert not job.has_ended
    bench.after(0.2)
    assert (job.state, fault_of(job).executed) == (JobState.CANCELLED, "maybe")
    assert bench.given(o.Signal)
    assert [worker.state.value for worker in bench.workers] == ["ready"]


def test_it_is_killed_only_once_it_runs_no_other_job() -> None:
    bench = serving(kill_grace_s=2.0, concurrency=2)
    stuck, other = bench.submit_many(2)
    bench.cancel(stuck)
    bench.after(3)
    assert not bench.given(o.Signal)
    bench.answer(other)
    assert bench.given(o.Signal)
    assert state_of(other) == "done"


def test_meanwhile_it_is_lent_no_more() -> None:
    bench = serving(kill_grace_s=2.0, concurrency=3)
    stuck, other = bench.submit_many(2)
    bench.cancel(stuck)
    bench.after(3)
    third = bench.submit()
    assert state_of(third) == "queued"
    bench.answer(other)
    assert state_of(third) == "running"


def test_cancel_with_kill_gives_no_grace() -> None:
    bench = serving()
    job = bench.submit()
    bench.cancel(job, kill=True)
    assert state_of(job) == "cancelled"
    assert bench.given(o.Signal)


def test_kill_also_reaches_a_job_that_was_cancelled_before() -> None:
    bench = Bench()
    bench.life("A", capabilities=())
    bench.start()
    job = bench.submit()
    bench.cancel(job)
    bench.cancel(job, kill=True)
    assert bench.given(o.Signal)


def test_late_ends_a_running_job_at_once() -> None:
    bench = serving()
    job = bench.submit()
    bench.cancel(job, "late")
    assert (fault_of(job).code, fault_of(job).data["reason"]) == (Code.DEADLINE, "late")
    assert state_of(job) == "failed"


def test_a_cancelled_job_whose_worker_dies_is_not_run_again() -> None:
    bench = serving()
    job = bench.submit()
    bench.cancel(job)
    bench.die(bench.holder(job))
    assert (job.state, job.attempts) == (JobState.CANCELLED, 1)


def test_cancelling_what_has_ended_changes_nothing() -> None:
    bench = serving()
    job = bench.submit()
    bench.answer(job)
    bench.cancel(job)
    assert state_of(job) == "done"


def test_a_worker_that_cancels_by_itself_ends_the_job_cancelled() -> None:
    bench = serving()
    job = bench.submit()
    bench.answer(job, fault=Fault.new(Code.CANCELLED, "gave up"))
    assert state_of(job) == "cancelled"


# -- deadlines


def test_a_deadline_covers_the_queue() -> None:
    bench = serving()
    bench.submit()
    job = bench.submit(timeout_s=1.0)
    bench.after(1.1)
    assert (fault_of(job).code, fault_of(job).executed) == (Code.DEADLINE, "no")
    assert fault_of(job).retryable


def test_a_deadline_while_it_runs_is_passed_on() -> None:
    bench = serving()
    job = bench.submit(timeout_s=1.0)
    bench.after(1.1)
    assert not job.has_ended
    assert [order.params for order in bench.given(o.Tell)] == [[job.id, "timeout"]]
    bench.answer(job, fault=Fault.new(Code.CANCELLED, "cancelled"))
    assert (fault_of(job).code, fault_of(job).executed) == (Code.DEADLINE, "maybe")


def test_a_result_that_comes_just_after_the_deadline_wins() -> None:
    bench = serving()
    job = bench.submit(timeout_s=1.0)
    bench.after(1.1)
    bench.answer(job)
    assert state_of(job) == "done"


def test_a_deadline_goes_on_over_a_re_run() -> None:
    bench = serving()
    job = bench.submit(timeout_s=1.0)
    bench.after(0.6)
    bench.die(bench.holder(job))
    bench.after(0.5)
    assert [order.params for order in bench.given(o.Tell)] == [[job.id, "timeout"]]


def test_a_plugins_timeout_is_the_default() -> None:
    bench = serving(timeout_s=5.0)
    assert bench.submit().timeout_s == 5.0


def test_a_deadline_that_nobody_needs_leaves_no_timer() -> None:
    bench = serving()
    bench.answer(bench.submit(timeout_s=100.0))
    assert bench.core.next_due() is None


# -- retries


def test_an_error_is_told_at_once_by_default() -> None:
    bench = serving()
    job = bench.submit()
    bench.fail(job)
    assert (job.state, fault_of(job).executed) == (JobState.FAILED, "yes")


def test_retries_re_run_after_an_error() -> None:
    bench = serving(retries=2)
    job = bench.submit()
    for _ in range(3):
        bench.fail(job)
    assert (job.state, job.attempts) == (JobState.FAILED, 3)
    assert bench.plugin.counts.rerun == 2


def test_a_callers_mistake_is_not_retried() -> None:
    bench = serving(retries=2)
    job = bench.submit()
    bench.answer(job, fault=Fault.new(Code.INVALID_PARAMS, "no such argument"))
    assert job.attempts == 1


# -- pause


def test_a_pause_lets_callers_wait() -> None:
    bench = serving()
    bench.fact(lambda: bench.core.pause(bench.now, "p"))
    job = bench.submit()
    assert (job.state, bench.plugin.state) == (JobState.QUEUED, "paused")
    bench.fact(lambda: bench.core.resume(bench.now, "p"))
    assert state_of(job) == "running"


def test_a_pause_lets_what_runs_finish() -> None:
    bench = serving()
    job = bench.submit()
    bench.fact(lambda: bench.core.pause(bench.now, "p"))
    bench.answer(job)
    assert state_of(job) == "done"


def test_a_pause_may_refuse() -> None:
    bench = serving()
    bench.fact(lambda: bench.core.pause(bench.now, "p", reject=True))
    with pytest.raises(Fault) as caught:
        bench.submit()
    assert (caught.value.code, caught.value.data["reason"]) == (Code.UNAVAILABLE, "paused")


def test_a_paused_plugin_can_be_replaced() -> None:
    bench = serving()
    bench.fact(lambda: bench.core.pause(bench.now, "p"))
    job = bench.submit()
    bench.write("B")
    assert (bench.release(), bench.plugin.state) == (2, "paused")
    bench.fact(lambda: bench.core.resume(bench.now, "p"))
    assert job.generation == 2


# -- flush


def test_a_flush_asks_every_worker_that_can() -> None:
    bench = Bench(workers=2)
    bench.lives["A"] = Life(capabilities=("flush",), flush=b"\x91\x01")
    bench.start()
    assert bench.fact(lambda: bench.core.flush(bench.now, "p")) == 2
    assert [order.values for order in bench.given(o.Flushed)] == [b"\x91\x01"] * 2


def test_a_flush_of_who_cannot_asks_nobody() -> None:
    bench = serving()
    assert bench.fact(lambda: bench.core.flush(bench.now, "p")) == 0


def test_a_flush_that_fails_says_so() -> None:
    bench = Bench()
    bench.lives["A"] = Life(capabilities=("flush",), flush=raises("no"))
    bench.start()
    bench.fact(lambda: bench.core.flush(bench.now, "p"))
    [order] = bench.given(o.Flushed)
    assert (order.values, order.fault is not None) == (b"\x90", True)


def test_a_flush_of_a_worker_that_dies_says_so() -> None:
    bench = Bench()
    bench.lives["A"] = Life(capabilities=("flush",), flush=HANGS, methods=NOT_PURE)
    bench.start()
    bench.fact(lambda: bench.core.flush(bench.now, "p"))
    bench.die(bench.workers[0])
    assert len(bench.given(o.Flushed)) == 1
