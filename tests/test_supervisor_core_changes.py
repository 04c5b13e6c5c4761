"""A changeover on the pure core: what it may touch before the cut, drain, park, who wins."""

from __future__ import annotations

from typing import Any

import pytest

from changeover.protocol.errors import Code, Fault
from changeover.supervisor import orders as o
from changeover.supervisor.changeover import Changeover
from changeover.supervisor.states import Step, WorkerState

from .core_harness import (
    DIES,
    EXITS,
    HANGS,
    NOT_PURE,
    Bench,
    Life,
    digest_of,
    raises,
    state_of,
    step_of,
)

EMFILE = Fault.new(Code.CHANGE_FAILED, "too many open files", bad_luck=True)
NO_SUCH = Fault.new(Code.CHANGE_FAILED, "no such file", bad_luck=False)


def serving(content: str = "A", **spec: Any) -> Bench:
    """A bench on which this content serves and its watch is over."""
    bench = Bench(**spec)
    bench.start(content)
    bench.after(31)
    bench.orders.clear()
    return bench


def write(bench: Bench, content: str) -> Changeover:
    change = bench.write(content)
    assert change is not None
    return change


# -- failures.md 3: what is bad before the cut

BAD_LIVES = {
    "import error": Life(load=raises("ImportError: no module named numpyy")),
    "exit at boot": Life(hello=EXITS),
    "hang at boot": Life(load=HANGS),
    "wrong protocol": Life(hello={"protocol": 2}),
    "answers nonsense": Life(load={"methods": {}}),
    "on_check raises": Life(capabilities=("check",), check=raises("AssertionError: no boxes")),
    "on_check hangs": Life(capabilities=("check",), check=HANGS),
    "on_reload raises": Life(adopt=raises("KeyError: 'tracks'")),
    "exit in on_reload": Life(adopt=EXITS),
    "no such program": Life(spawn=NO_SUCH),
}


@pytest.fixture(params=BAD_LIVES)
def bad(request: pytest.FixtureRequest) -> tuple[Bench, Changeover]:
    """A serves with a job running; B was written, which is bad before the cut."""
    bench = serving(warm_timeout_s=5.0)
    bench.lives["B"] = BAD_LIVES[request.param]
    bench.submit("runs")
    change = write(bench, "B")
    bench.after(10)
    return bench, change


def test_a_bad_release_is_refused(bad: tuple[Bench, Changeover]) -> None:
    assert bad[1].outcome == "refused"


def test_a_bad_release_leaves_the_old_serving(bad: tuple[Bench, Changeover]) -> None:
    bench, _ = bad
    assert bench.release() == 1
    assert bench.core.jobs["runs"].worker in bench.workers


def test_a_bad_release_signals_no_old_worker(bad: tuple[Bench, Changeover]) -> None:
    bench, _ = bad
    touched = [x.worker for x in bench.given(o.Signal)] + [x.worker for x in bench.given(o.Close)]
    assert not set(touched) & set(bench.workers)


def test_a_bad_release_is_marked(bad: tuple[Bench, Changeover]) -> None:
    assert digest_of("B") in bad[0].plugin.bad


def test_a_bad_release_leaves_no_process(bad: tuple[Bench, Changeover]) -> None:
    bench, _ = bad
    assert bench.everyone == bench.workers


def test_a_bad_release_is_told_with_its_reason(bad: tuple[Bench, Changeover]) -> None:
    bench, change = bad
    assert change.cause in bench.told
    assert "still on 1.0.0 @1" in bench.told


def test_garbage_before_hello_is_bad() -> None:
    bench = serving()
    bench.life("B", hello=HANGS)
    change = write(bench, "B")
    newcomer = bench.asked[0][0]
    text = "wrote to stdout: 'Loading model…'"
    bench.fact(lambda: bench.core.broke_protocol(bench.now, newcomer, text))
    assert (change.outcome, change.cause) == ("refused", f"hello: {text}")


@pytest.mark.parametrize("life", [Life(hello=EXITS), Life(spawn=NO_SUCH)], ids=["hello", "spawn"])
def test_another_python_that_starts_nothing_says_nothing_of_the_content(life: Life) -> None:
    bench = serving(python="/venv")
    bench.lives["B"] = life
    change = write(bench, "B")
    assert change.outcome == "refused"
    assert not bench.plugin.bad


def test_what_another_python_cannot_load_is_bad() -> None:
    bench = serving(python="/venv")
    bench.lives["B"] = Life(load=EXITS)
    change = write(bench, "B")
    assert change.outcome == "refused"
    assert digest_of("B") in bench.plugin.bad


# -- failures.md 15, 29: bad luck


@pytest.mark.parametrize("life", [Life(load=DIES), Life(spawn=EMFILE)], ids=["killed", "EMFILE"])
def test_bad_luck_is_tried_again(life: Life) -> None:
    bench = serving()
    bench.lives["B"] = life
    change = write(bench, "B")
    assert change.outcome == ""
    bench.lives.clear()
    bench.after(1)
    assert bench.release() == 2


def test_bad_luck_marks_nothing() -> None:
    bench = serving()
    bench.lives["B"] = Life(spawn=EMFILE)
    change = write(bench, "B")
    bench.after(10)
    assert change.outcome == "refused"
    assert not bench.plugin.bad


def test_a_file_change_comes_back_after_much_bad_luck() -> None:
    bench = serving()
    bench.lives["B"] = Life(spawn=EMFILE)
    write(bench, "B")
    bench.after(100)
    bench.lives.clear()
    bench.after(60)
    assert bench.release() == 2


def test_the_same_bad_luck_is_told_once() -> None:
    bench = serving()
    bench.lives["B"] = Life(spawn=EMFILE)
    write(bench, "B")
    bench.after(600)
    assert bench.told.count("refused") == 1
    assert "it is tried again in" in bench.told
    refused = [x.entry for x in bench.given(o.Record) if x.entry["outcome"] == "refused"]
    assert len(refused) == 1


def test_a_release_that_always_crashes_at_boot_is_bad_in_the_end() -> None:
    bench = serving()
    bench.life("B", load=HANGS)
    change = write(bench, "B")
    for _ in range(6):
        bench.die(bench.asked[0][0], signal="SIGSEGV")
        bench.after(5)
    assert change.outcome == "refused"
    assert digest_of("B") in bench.plugin.bad


def test_a_full_store_is_tried_again() -> None:
    bench = serving()
    bench.stage_fails = ("no space left on device", True)
    write(bench, "B")
    bench.stage_fails = None
    bench.after(60)
    assert bench.release() == 2


def test_bad_luck_for_days_does_not_break_the_back_off() -> None:
    bench = serving(restart_max_s=30.0)
    bench.stage_fails = ("no space left on device", True)
    write(bench, "B")
    bench.after(2000 * 30)
    bench.stage_fails = None
    bench.after(30)
    assert bench.release() == 2


def test_a_newer_request_ends_the_retry_of_an_older() -> None:
    bench = serving()
    bench.stage_fails = ("no space left on device", True)
    write(bench, "B")
    bench.stage_fails = None
    write(bench, "C")
    number = bench.plugin.live and bench.plugin.live.number
    bench.after(60)
    assert bench.plugin.live is not None
    assert bench.plugin.live.number == number


def test_a_reload_that_nobody_can_stage_is_refused_at_once() -> None:
    bench = serving()
    bench.stage_fails = ("no space left on device", True)
    change = bench.change("reload")
    assert (change.outcome, change.stage) == ("refused", "stage")


# -- who wins


def test_a_newer_file_change_wins_while_the_older_warms() -> None:
    bench = serving()
    bench.life("B", load=HANGS)
    older = write(bench, "B")
    write(bench, "C")
    assert older.outcome == "superseded"
    assert bench.plugin.live is not None
    assert bench.plugin.live.release.digest == digest_of("C")


def test_a_to_b_to_c_to_a_during_a_drain_ends_on_a() -> None:
    bench = serving()
    bench.submit("long")
    for content in "BCA":
        write(bench, content)
    bench.answer(bench.core.jobs["long"])
    assert bench.release() == 1


def test_fifty_writes_in_a_second_are_two_changeovers_at_most() -> None:
    bench = serving()
    bench.life("B", load=HANGS)
    for number in range(50):
        bench.life(f"B{number}", load=HANGS)
        write(bench, f"B{number}")
    assert len(bench.everyone) == 2
    bench.reply(bench.asked[0][0], "load", Life().loaded())
    assert bench.plugin.live is not None
    assert bench.plugin.live.release.digest == digest_of("B49")


def test_going_back_to_what_serves_gives_the_newcomer_up() -> None:
    bench = serving()
    bench.life("B", load=HANGS)
    change = write(bench, "B")
    write(bench, "A")
    assert change.outcome == "superseded"
    assert bench.plugin.change is None
    assert bench.release() == 1


def test_going_back_while_the_newcomer_is_staged_gives_it_up() -> None:
    bench = serving()
    bench.stages = False
    change = write(bench, "B")
    write(bench, "A")
    bench.finish_stages()
    assert bench.release() == 1
    assert change.has_ended


def test_the_same_content_again_while_it_warms_is_no_second_change() -> None:
    bench = serving()
    bench.life("B", load=HANGS)
    write(bench, "B")
    assert bench.write("B") is None


def test_a_reload_of_what_is_warming_waits_for_it() -> None:
    bench = serving()
    bench.life("B", load=HANGS)
    change = write(bench, "B")
    reload = bench.change("reload")
    assert not change.has_ended
    bench.reply(bench.asked[0][0], "load", Life().loaded())
    assert reload.outcome == "unchanged"
    assert bench.release() == 2


def test_a_trigger_during_the_drain_waits() -> None:
    bench = serving()
    job = bench.submit("long")
    write(bench, "B")
    write(bench, "C")
    assert bench.plugin.live is not None
    assert bench.plugin.live.release.digest == digest_of("B")
    bench.answer(job)
    assert bench.plugin.live.release.digest == digest_of("C")


def test_a_trigger_during_the_watch_retires_what_is_parked() -> None:
    bench = serving()
    write(bench, "B")
    write(bench, "C")
    assert bench.release() == 3
    assert {w.generation.release.number for w in bench.everyone} == {2, 3}


def test_a_refused_newcomer_does_not_end_the_watch() -> None:
    bench = serving()
    write(bench, "B")
    watch = bench.plugin.watch
    bench.life("C", load=raises("ImportError"))
    write(bench, "C")
    assert bench.plugin.watch is watch
    bench.after(31)
    assert bench.plugin.approved[-1] == digest_of("B")


def test_the_stale_content_of_an_older_changeover_is_ignored() -> None:
    bench = serving()
    bench.stages = False
    older = write(bench, "B")
    bench.change("reload", force=True)
    late = bench.staging.pop(0)
    assert late is older
    bench.disk = "C"
    bench.finish_stages()
    bench.fact(lambda: bench._stage(older))
    assert bench.plugin.live is not None
    assert bench.plugin.live.release.digest == digest_of("C")


# -- numbers


def test_a_release_number_belongs_to_its_content() -> None:
    bench = serving()
    numbers = []
    for content in "ABA":
        bench.write(content)
        bench.after(31)
        numbers.append(bench.release())
    assert numbers == [1, 2, 1]


def test_a_generation_number_is_never_used_again() -> None:
    bench = serving()
    seen = [bench.plugin.live.number] if bench.plugin.live else []
    for content in "BAB":
        write(bench, content)
        bench.after(31)
        assert bench.plugin.live is not None
        seen.append(bench.plugin.live.number)
    assert seen == sorted(set(seen))


def test_the_registry_learns_of_a_release_after_success_only() -> None:
    bench = serving()
    bench.life("B", load=raises("ImportError"))
    write(bench, "B")
    assert bench.core.registry.watchers["p"].last_digest == digest_of("A")
    write(bench, "C")
    assert bench.core.registry.watchers["p"].last_digest == digest_of("C")


# -- cut and drain


def test_after_the_cut_no_job_starts_on_the_old_release() -> None:
    bench = serving()
    bench.submit("old")
    write(bench, "B")
    assert bench.submit("new").generation == 2


def test_what_was_queued_moves_at_the_cut() -> None:
    bench = serving(concurrency=1)
    bench.submit_many(3)
    write(bench, "B")
    waiting = [job for job in bench.core.jobs.values() if job.generation == 2]
    assert [job.id for job in waiting] == ["j2"]


def test_what_runs_finishes_on_the_old_release() -> None:
    bench = serving()
    job = bench.submit()
    change = write(bench, "B")
    bench.answer(job)
    assert (job.generation, change.report.drained, change.report.killed) == (1, 1, 0)


def test_stragglers_are_killed_at_the_drain_timeout() -> None:
    bench = Bench(drain_timeout_s=3.0)
    bench.lives["A"] = Life(methods=NOT_PURE)
    bench.start()
    job = bench.submit()
    change = write(bench, "B")
    bench.after(2.9)
    assert state_of(job) == "running"
    bench.after(0.2)
    assert state_of(job) == "lost"
    assert change.report.killed == 1


def test_a_straggler_that_is_not_pure_is_lost_with_its_reason() -> None:
    bench = Bench(drain_timeout_s=3.0)
    bench.lives["A"] = Life(methods=NOT_PURE)
    bench.start()
    job = bench.submit()
    write(bench, "B")
    bench.after(4)
    assert job.fault is not None
    assert job.fault.code == Code.WORKER_LOST
    assert job.fault.data["reason"] == "killed_at_drain"
    assert job.fault.executed == "maybe"
    assert not job.fault.retryable


def test_a_straggler_that_is_pure_is_run_again_on_the_new_release() -> None:
    bench = serving(drain_timeout_s=3.0)
    job = bench.submit()
    write(bench, "B")
    bench.after(4)
    assert (job.generation, job.attempts) == (2, 2)
    assert job.deaths == ()


def test_a_drain_timeout_of_zero_kills_at_once() -> None:
    bench = serving(drain_timeout_s=0.0)
    job = bench.submit()
    write(bench, "B")
    assert job.generation == 2


def test_drain_over_wait_kills_nobody() -> None:
    bench = serving(drain_timeout_s=3.0, drain_over="wait")
    job = bench.submit()
    change = write(bench, "B")
    bench.after(1000)
    assert (job.generation, change.step) == (1, Step.DRAIN)
    bench.answer(job)
    assert change.step in (Step.WATCH, Step.DONE)


def test_the_kill_ladder_of_a_straggler() -> None:
    bench = Bench(drain_timeout_s=1.0, kill_grace_s=2.0)
    bench.lives["A"] = Life(capabilities=("stacks",), ignores_term=True)
    bench.start()
    bench.submit()
    write(bench, "B")
    bench.after(10)
    ladder = [(order.what, when) for when, order in bench.timed(o.Signal)]
    assert ladder == [("stacks", 1.0), ("term", 1.2), ("kill", 3.2)]


def test_only_a_worker_with_the_capability_is_asked_for_stacks() -> None:
    bench = serving(drain_timeout_s=0.0)
    bench.submit()
    write(bench, "B")
    assert [x.what for x in bench.given(o.Signal)] == ["term"]


def test_the_drain_waits_for_all_of_several_jobs() -> None:
    bench = serving(concurrency=2)
    first, second = bench.submit_many(2)
    change = write(bench, "B")
    bench.answer(first)
    assert step_of(change) == "drain"
    bench.answer(second)
    assert step_of(change) == "watch"


# -- warm, check, adopt


def test_at_most_max_spawns_start_at_once() -> None:
    bench = Bench(supervisor={"max_spawns": 2}, workers=5)
    bench.life("A", load=HANGS)
    bench.start()
    assert len(bench.given(o.Spawn)) == 2
    bench.reply(bench.asked[0][0], "load", Life().loaded())
    assert len(bench.given(o.Spawn)) == 3


def test_a_worker_that_waits_for_its_siblings_does_not_grow_late() -> None:
    bench = Bench(supervisor={"max_spawns": 1}, workers=2, warm_timeout_s=10.0)
    bench.life("A", load=HANGS)
    change = bench.start()
    bench.after(9)
    bench.reply(bench.asked[0][0], "load", Life().loaded())
    bench.after(9)
    bench.reply(bench.asked[0][0], "load", Life().loaded())
    assert change.outcome == ""
    assert len(bench.workers) == 2


def test_warm_timeout_runs_over_load_and_check_together() -> None:
    bench = Bench(warm_timeout_s=10.0)
    bench.life("A", load=HANGS, check=HANGS, capabilities=("check",))
    change = bench.start()
    bench.after(6)
    bench.reply(bench.asked[0][0], "load", Life(capabilities=("check",)).loaded())
    bench.after(3.9)
    assert change.outcome == ""
    bench.after(0.2)
    assert "warm_timeout: no answer to check" in change.cause


def test_a_worker_may_ask_for_more_time() -> None:
    bench = Bench(warm_timeout_s=10.0)
    bench.life("A", load=HANGS)
    change = bench.start()
    worker = bench.asked[0][0]
    bench.fact(lambda: bench.core.extended(bench.now, worker, 20.0))
    bench.after(29)
    assert not change.has_ended
    bench.after(2)
    assert change.outcome == "refused"


def test_a_worker_may_not_ask_for_ever() -> None:
    bench = Bench(warm_timeout_s=10.0)
    bench.life("A", load=HANGS)
    change = bench.start()
    worker = bench.asked[0][0]
    for _ in range(100):
        bench.fact(lambda: bench.core.extended(bench.now, worker, 1e6))
    bench.after(111)
    assert change.outcome == "refused"


def test_adopt_is_asked_in_every_changeover_with_what_was_before() -> None:
    bench = serving()
    write(bench, "B")
    [ask] = [order for order in bench.given(o.Ask) if order.method == "adopt"]
    options = ask.params[0]
    assert options["state"] is None
    assert options["old_version"]["id"] == "p"


def test_nobody_is_adopted_at_the_first_load() -> None:
    bench = Bench()
    bench.start()
    assert "adopt" not in [order.method for order in bench.given(o.Ask)]


def test_a_worker_that_knows_no_adopt_is_fine() -> None:
    bench = serving()
    bench.life("B", adopt=Fault.new(Code.METHOD_NOT_FOUND, "unknown"))
    write(bench, "B")
    assert bench.release() == 2


def test_a_worker_that_luck_took_after_its_check_is_replaced_and_checked() -> None:
    bench = serving(workers=2)
    bench.life("B", capabilities=("check",), adopt=HANGS)
    write(bench, "B")
    bench.die(bench.asked[0][0], signal="SIGKILL")
    bench.lives.clear()
    bench.life("B", capabilities=("check",))
    bench.after(1)
    replaced = bench.everyone[-1]
    asked = [order.method for order in bench.given(o.Ask) if order.worker is replaced]
    assert asked == ["hello", "load", "check", "adopt"]


def test_the_reason_of_a_load_is_told() -> None:
    bench = serving()
    write(bench, "B")
    bench.die(bench.workers[0])
    reasons = [x.params[0]["reason"] for x in bench.given(o.Ask) if x.method == "load"]
    assert reasons[:1] == ["change"]


# -- park


def test_the_old_generation_stays_parked_until_the_watch_ends() -> None:
    bench = serving()
    write(bench, "B")
    bench.after(29)
    assert [w.state for w in bench.everyone] == [WorkerState.READY, WorkerState.READY]
    bench.after(2)
    assert bench.everyone == bench.workers


def test_rollback_keep_staged_parks_nobody() -> None:
    bench = serving(rollback_keep="staged")
    write(bench, "B")
    assert bench.everyone == bench.workers


def test_a_parked_worker_that_dies_is_nobodys_fault() -> None:
    bench = serving()
    write(bench, "B")
    parked = bench.everyone[0]
    bench.die(parked)
    assert bench.release() == 2
    assert not bench.plugin.deaths


def test_the_watch_ends_in_an_approved_release() -> None:
    bench = serving()
    change = write(bench, "B")
    bench.after(31)
    assert change.outcome == "done"
    assert bench.plugin.approved == [digest_of("A"), digest_of("B")]


def test_the_history_has_who_why_from_and_to() -> None:
    bench = serving()
    write(bench, "B")
    entries = [order.entry for order in bench.given(o.Record)]
    assert [entry["event"] for entry in entries] == ["cut", "changeover"]
    last = entries[-1]
    assert (last["who"], last["why"], last["outcome"]) == ("watch", "file", "done")
    assert last["from"]["number"] == 1
    assert last["to"]["number"] == 2


def test_the_phases_tell_where_the_time_went() -> None:
    bench = serving()
    bench.life("B", load=HANGS)
    change = write(bench, "B")
    bench.after(4)
    bench.reply(bench.asked[0][0], "load", Life().loaded())
    assert [name for name, _, _ in change.phases] == [
        "stage", "warm", "check", "adopt", "cut", "drain", "park",
    ]  # fmt: skip
    assert change.phases[1][1] == pytest.approx(4)


def test_each_phase_order_carries_its_own_step() -> None:
    bench = serving()
    write(bench, "B")
    steps = [order.step for order in bench.given(o.Phase)]
    assert steps == [
        Step.STAGE, Step.WARM, Step.CHECK, Step.ADOPT, Step.CUT, Step.DRAIN, Step.PARK, Step.WATCH,
    ]  # fmt: skip
