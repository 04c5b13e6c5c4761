"""The watch and the way back: failures.md 4, 13, 16 and 23 on the pure core."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from changeover.protocol.errors import Code, Fault
from changeover.supervisor import orders as o
from changeover.supervisor.changeover import Changeover
from changeover.supervisor.past import Past
from changeover.supervisor.releases import rollback_target
from changeover.supervisor.states import Gate
from changeover.supervisor.triggers import judge
from changeover.supervisor.worker import Worker

from .core_harness import DIES, HANGS, NOT_PURE, Bench, Life, digest_of, raises, state_of, step_of


def watched(**spec: Any) -> Bench:
    """A is approved; B was cut to and is watched, A is parked."""
    bench = Bench(**spec)
    bench.start("A")
    bench.after(31)
    bench.write("B")
    bench.orders.clear()
    return bench


def change_of(bench: Bench) -> Changeover:
    """The changeover under watch."""
    assert bench.plugin.watch is not None
    return bench.plugin.watch.change


def a_worker(bench: Bench) -> Worker:
    return bench.workers[0]


# -- what is judged


def test_a_death_before_the_first_success_rolls_back() -> None:
    bench = watched()
    job = bench.submit()
    change = change_of(bench)
    bench.die(a_worker(bench))
    assert bench.release() == 1
    assert change.outcome == "rolled_back"
    assert (job.generation, job.attempts) == (3, 2)


def test_one_death_after_a_success_does_not() -> None:
    bench = watched()
    bench.answer(bench.submit())
    bench.submit()
    bench.die(a_worker(bench))
    assert bench.release() == 2


def test_two_deaths_on_two_jobs_roll_back() -> None:
    bench = watched(concurrency=2)
    bench.answer(bench.submit())
    bench.submit_many(2)
    bench.die(a_worker(bench))
    bench.after(1)
    assert bench.release() == 2
    bench.die(a_worker(bench))
    assert bench.release() == 1


def test_two_deaths_on_one_job_do_not() -> None:
    bench = watched()
    bench.answer(bench.submit())
    bench.submit()
    for _ in range(2):
        bench.die(a_worker(bench))
        bench.after(1)
    assert bench.release() == 2


def test_five_errors_above_the_limit_roll_back() -> None:
    bench = watched()
    jobs = []
    for _ in range(5):
        jobs.append(bench.submit())
        bench.fail(jobs[-1])
    assert bench.release() == 1
    assert [job.state.value for job in jobs] == ["failed"] * 5


def test_four_errors_do_not() -> None:
    bench = watched()
    for _ in range(4):
        bench.fail(bench.submit())
    assert bench.release() == 2


def test_five_errors_below_one_percent_do_not() -> None:
    bench = watched()
    for _ in range(600):
        bench.answer(bench.submit())
    for _ in range(5):
        bench.fail(bench.submit())
    assert bench.release() == 2


def test_errors_are_measured_against_the_old_release() -> None:
    bench = Bench()
    bench.start("A")
    for number in range(20):
        job = bench.submit()
        bench.fail(job) if number % 4 == 0 else bench.answer(job)
    bench.after(31)
    bench.write("B")
    for number in range(20):
        job = bench.submit()
        bench.fail(job) if number % 3 == 2 else bench.answer(job)
    assert bench.release() == 2


def test_max_errors_may_be_a_rate() -> None:
    bench = watched(max_errors_factor=None, max_errors_rate=0.5)
    for _ in range(5):
        bench.answer(bench.submit())
        bench.fail(bench.submit())
    assert bench.release() == 2
    bench.fail(bench.submit())
    assert bench.release() == 1


def test_errors_of_cancelled_jobs_do_not_count() -> None:
    bench = watched()
    for _ in range(9):
        job = bench.submit()
        bench.cancel(job)
        bench.fail(job)
    assert bench.release() == 2


def test_a_callers_own_mistake_does_not_count() -> None:
    bench = watched()
    for _ in range(9):
        job = bench.submit()
        bench.answer(job, fault=Fault.new(Code.INVALID_PARAMS, "no such argument"))
    assert bench.release() == 2


def test_deaths_that_we_caused_count_nowhere() -> None:
    bench = watched(kill_grace_s=0.5)
    bench.cancel(bench.submit())
    bench.after(1)
    assert bench.release() == 2
    assert not bench.plugin.deaths


def test_the_watch_judges_also_while_the_old_still_drains() -> None:
    bench = Bench()
    bench.start("A")
    bench.after(31)
    old = bench.submit("old")
    change = bench.write("B")
    assert change is not None
    assert step_of(change) == "drain"
    bench.die(a_worker(bench))
    assert bench.release() == 1
    assert change.outcome == "rolled_back"
    bench.answer(old)
    assert old.state.value == "done"


def test_after_the_watch_nothing_is_rolled_back() -> None:
    bench = watched()
    bench.after(31)
    bench.die(a_worker(bench))
    assert bench.release() == 2


# -- the way back


def test_back_to_the_parked_generation_is_one_assignment() -> None:
    bench = watched()
    parked = [w for w in bench.everyone if w not in bench.workers]
    bench.die(a_worker(bench))
    assert bench.workers == parked
    assert not bench.given(o.Spawn)


def test_a_bad_release_costs_a_pure_plugin_no_job() -> None:
    bench = watched(poison=1, concurrency=3)
    jobs = bench.submit_many(3)
    bench.die(a_worker(bench))
    for job in jobs:
        bench.answer(job)
    assert [job.state.value for job in jobs] == ["done"] * 3
    assert bench.plugin.counts.lost == 0


def test_jobs_keep_their_order_over_a_rollback() -> None:
    bench = watched(concurrency=2)
    for number in range(5):
        bench.submit(f"n{number}")
    bench.orders.clear()
    bench.die(a_worker(bench))
    assert [order.job.id for order in bench.given(o.Dispatch)] == ["n0", "n1"]


def test_the_digest_is_bad_until_it_changes() -> None:
    bench = watched()
    bench.die(a_worker(bench))
    assert digest_of("B") in bench.plugin.bad
    assert bench.write("B") is None


def test_the_operator_is_told_why() -> None:
    bench = watched()
    bench.die(a_worker(bench))
    assert "@2 rolled back to 1.0.0 @1" in bench.told
    assert "died of SIGSEGV before the first success" in bench.told


def test_whoever_waits_for_the_failed_one_is_told_once_the_old_serves() -> None:
    bench = watched()
    change = change_of(bench)
    bench.orders.clear()
    bench.die(a_worker(bench))
    last = [order.change for order in bench.given(o.Ended)]
    assert change in last
    assert change.outcome == "rolled_back"


def test_without_a_parked_generation_it_goes_back_from_the_store() -> None:
    bench = watched(rollback_keep="staged")
    bench.die(a_worker(bench))
    assert bench.release() == 1
    assert len(bench.given(o.Spawn)) == 1


def test_meanwhile_no_job_is_lent_to_the_bad_release() -> None:
    bench = watched(rollback_keep="staged", workers=2)
    bench.starts = False
    bench.submit("crashes")
    bench.die(bench.holder(bench.core.jobs["crashes"]))
    job = bench.submit("waits")
    assert bench.plugin.gate is Gate.HELD
    bench.starts = True
    bench.finish_spawns()
    assert job.release is not None
    assert job.release.number == 1


def test_meanwhile_the_bad_release_is_not_restarted() -> None:
    bench = watched(rollback_keep="staged")
    bench.life("A", load=HANGS)
    bench.die(a_worker(bench))
    bench.after(5)
    assert [order.worker.generation.release.number for order in bench.given(o.Spawn)] == [1]


def test_a_crash_loop_during_a_slow_way_back_loses_no_job() -> None:
    bench = watched(rollback_keep="staged", workers=2, crash_loop_count=1)
    bench.life("A", load=HANGS)
    job = bench.submit()
    for worker in list(bench.workers):
        bench.die(worker)
    assert bench.plugin.state == "holding"
    for worker, method in list(bench.asked):
        bench.reply(worker, method, Life().loaded())
    bench.after(1)
    assert (job.state.value, bench.release()) == ("running", 1)


def test_when_the_old_is_bad_too_it_goes_to_the_last_approved() -> None:
    bench = Bench(rollback_keep="staged")
    for content in "AB":
        bench.write(content) if bench.core.plugins else bench.start(content)
        bench.after(31)
    bench.write("C")
    bench.after(1)
    bench.write("D")
    bench.life("C", load=raises("ImportError"))
    bench.die(a_worker(bench))
    assert bench.release() == 2


def test_a_release_that_fails_after_the_way_back_goes_further_back() -> None:
    bench = Bench()
    bench.start("A")
    bench.after(31)
    bench.write("B")
    bench.after(31)
    bench.write("C")
    bench.die(a_worker(bench))
    assert bench.release() == 2
    bench.die(a_worker(bench))
    assert bench.release() == 1


def test_two_bad_releases_do_not_play_ping_pong() -> None:
    bench = watched()
    bench.die(a_worker(bench))
    for _ in range(3):
        bench.die(a_worker(bench))
        bench.after(1)
    assert bench.release() == 1
    assert bench.plugin.live is not None
    assert bench.plugin.live.number == 3


def test_when_there_is_nothing_to_go_back_to_it_serves_on() -> None:
    bench = Bench()
    bench.start("A")
    bench.die(a_worker(bench))
    assert bench.release() == 1
    assert bench.plugin.state == "live"


def test_a_first_release_that_failed_its_watch_is_not_approved() -> None:
    bench = Bench()
    bench.start("A")
    bench.die(a_worker(bench))
    bench.after(31)
    assert not bench.plugin.approved


def test_when_the_way_back_fails_the_bad_one_serves_on() -> None:
    bench = watched(rollback_keep="staged")
    change = change_of(bench)
    bench.life("A", load=raises("ImportError: gone"))
    job = bench.submit()
    bench.die(a_worker(bench))
    assert bench.release() == 2
    assert bench.plugin.gate is Gate.OPEN
    assert change.has_ended
    assert job.worker in bench.workers
    assert "serves on" in bench.told


def test_when_the_way_back_fails_an_interrupted_drain_goes_on() -> None:
    bench = Bench(rollback_keep="staged", pin=digest_of("B"))
    bench.spec = replace(bench.spec, pin="")
    bench.start("A")
    bench.after(31)
    old = bench.submit("old")
    bench.spec = replace(bench.spec, pin=digest_of("B"))
    bench.fact(lambda: bench.core.reconfigure(bench.now, bench.spec, needs_change=False))
    change = bench.write("B")
    assert change is not None
    bench.plugin.approved = []
    assert change.old is not None
    change.old.spec = bench.spec
    bench.die(a_worker(bench))
    assert (bench.release(), change.has_ended) == (2, False)
    bench.answer(old)
    assert change.has_ended


def test_a_crash_loop_of_the_release_that_it_went_back_to_is_limited() -> None:
    bench = watched(workers=2)
    straggler = bench.submit()
    bench.life("A", load=raises("the model is gone"))
    bench.die(next(w for w in bench.workers if not w.jobs))
    assert (bench.release(), state_of(straggler)) == (1, "running")
    bench.die(a_worker(bench))
    bench.after(10)
    assert bench.plugin.state == "failed"


def test_bad_luck_on_the_way_back_is_tried_again() -> None:
    bench = watched(rollback_keep="staged")
    bench.life("A", load=DIES)
    bench.die(a_worker(bench))
    bench.lives.clear()
    bench.after(1)
    assert bench.release() == 1


def test_a_newcomer_that_was_warming_is_asked_for_again_after_it() -> None:
    bench = watched()
    bench.life("C", load=HANGS)
    bench.write("C")
    bench.lives.clear()
    bench.die(a_worker(bench))
    bench.after(1)
    assert bench.plugin.live is not None
    assert bench.plugin.live.release.digest == digest_of("C")


def test_a_reload_while_a_rollback_runs_waits_for_it() -> None:
    bench = watched(rollback_keep="staged")
    bench.life("A", load=HANGS)
    bench.die(a_worker(bench))
    bench.disk = "C"
    change = bench.change("reload")
    assert step_of(change) == "stage"
    assert bench.plugin.change is not None
    assert bench.plugin.change.reason == "watch"
    bench.lives.clear()
    bench.reply(bench.asked[0][0], "load", Life().loaded())
    assert step_of(change) == "watch"


def test_at_most_two_generations_are_alive_on_the_way_back() -> None:
    bench = Bench(rollback_keep="warm")
    for content in "AB":
        bench.write(content) if bench.core.plugins else bench.start(content)
        bench.after(31)
    old = bench.submit("old")
    bench.write("C")
    bench.plugin.bad[digest_of("B")] = "found out otherwise"
    bench.die(a_worker(bench))
    assert len({w.generation for w in bench.everyone}) <= 2
    bench.answer(old)
    assert bench.release() == 1


def test_the_same_content_that_fails_after_a_refresh_goes_back_to_the_parked() -> None:
    bench = Bench()
    bench.start("A")
    bench.after(31)
    bench.change("reload", force=True)
    parked = [w for w in bench.everyone if w not in bench.workers]
    bench.die(a_worker(bench))
    assert bench.workers == parked
    assert not bench.plugin.bad


def test_a_config_that_fails_goes_back_to_the_one_before() -> None:
    bench = Bench(rollback_keep="staged")
    bench.start("A")
    bench.after(31)
    spec = replace(bench.spec, config={"n": 2})
    bench.fact(lambda: bench.core.reconfigure(bench.now, spec, needs_change=True))
    bench.die(a_worker(bench))
    assert bench.plugin.live is not None
    assert bench.plugin.live.spec.config == {}


# -- the operator's


def test_a_rollback_takes_the_parked_generation() -> None:
    bench = watched()
    parked = [w for w in bench.everyone if w not in bench.workers]
    bench.rollback()
    assert bench.workers == parked


def test_a_rollback_after_the_watch_comes_from_the_store() -> None:
    bench = watched()
    bench.after(31)
    bench.orders.clear()
    bench.rollback()
    assert bench.release() == 1
    assert len(bench.given(o.Spawn)) == 1


def test_a_second_rollback_goes_where_the_first_came_from() -> None:
    bench = watched()
    bench.rollback()
    bench.rollback()
    assert bench.release() == 2
    assert bench.plugin.held == {digest_of("A")}


def test_a_rollback_to_a_number() -> None:
    bench = Bench()
    bench.start("A")
    for content in "BC":
        bench.write(content)
        bench.after(31)
    bench.rollback(to=1)
    assert bench.release() == 1


def test_a_refresh_does_not_hide_the_release_before_it() -> None:
    bench = watched()
    bench.after(31)
    bench.change("schedule")
    bench.after(31)
    bench.rollback()
    assert bench.release() == 1


def test_a_rollback_does_not_go_to_a_bad_release() -> None:
    bench = Bench()
    bench.start("A")
    bench.after(31)
    bench.write("B")
    bench.after(31)
    bench.write("C")
    bench.die(a_worker(bench))
    bench.rollback()
    assert bench.release() == 1


def test_a_rollback_during_the_drain_waits_for_it() -> None:
    bench = Bench()
    bench.start("A")
    bench.after(31)
    job = bench.submit()
    bench.write("B")
    bench.rollback()
    assert bench.release() == 2
    bench.answer(job)
    assert bench.release() == 1


def test_jobs_that_run_on_the_release_that_is_left_finish_there() -> None:
    bench = watched()
    job = bench.submit()
    bench.rollback()
    bench.answer(job)
    assert job.release is not None
    assert (job.state.value, job.release.number) == ("done", 2)


# -- failures.md 16, 23


def test_poison_does_not_blame_the_release() -> None:
    bench = Bench(poison=2, crash_loop_count=3)
    bench.start("A")
    bench.after(31)
    for number in range(4):
        job = bench.submit(f"poison{number}")
        for _ in range(2):
            bench.die(a_worker(bench))
            bench.after(1)
        assert job.fault is not None
        assert job.fault.code == Code.POISONED
    assert bench.plugin.state == "live"


def test_the_neighbours_of_poison_are_run_again() -> None:
    bench = Bench(poison=1, concurrency=2)
    bench.start("A")
    bench.after(31)
    poison = bench.submit()
    poison.deaths = (1,)
    neighbour = bench.submit()
    bench.plugin.spec = replace(bench.plugin.spec, poison=2)
    bench.die(a_worker(bench))
    assert poison.state.value == "lost"
    assert not neighbour.has_ended


def test_not_pure_is_lost_at_the_first_death() -> None:
    bench = Bench()
    bench.lives["A"] = Life(methods=NOT_PURE)
    bench.start()
    job = bench.submit()
    bench.die(a_worker(bench))
    assert job.fault is not None
    assert job.fault.data["reason"] == "crashed"
    assert job.fault.data["signal"] == "SIGSEGV"


def test_an_idempotent_job_is_run_again_though_its_method_is_not_pure() -> None:
    bench = Bench()
    bench.lives["A"] = Life(methods=NOT_PURE)
    bench.start()
    job = bench.submit(idempotent=True)
    bench.die(a_worker(bench))
    assert job.attempts == 2


# -- where a rollback goes


def test_after_an_automatic_rollback_another_goes_to_the_release_before() -> None:
    bench = watched()
    bench.after(31)
    bench.write("C")
    bench.submit()
    bench.die(a_worker(bench))
    assert bench.release() == 2
    bench.rollback()
    assert bench.release() == 1


def test_a_restart_knows_where_a_rollback_would_go() -> None:
    bench = Bench()
    bench.start("A")
    bench.write("B")
    bench.write("C")
    bench.submit()
    bench.die(a_worker(bench))
    again = Past(record.entry for record in bench.given(o.Record)).plugin(bench.plugin.spec)
    assert again.served == bench.plugin.served == [digest_of("A"), digest_of("B")]
    assert rollback_target(again, None).number == 2  # nothing serves yet


def test_a_start_on_held_content_runs_what_served_last_if_nothing_was_approved() -> None:
    bench = Bench()
    bench.start("A")
    bench.write("B")
    bench.rollback()
    again = Past(record.entry for record in bench.given(o.Record)).plugin(bench.plugin.spec)
    assert again.approved == []
    start = Changeover("p", again.spec, "start")
    start.release = again.releases[digest_of("B")]
    verdict = judge(again, start)
    assert verdict.what == "fall back"
    assert verdict.release is not None
    assert verdict.release.digest == digest_of("A")
