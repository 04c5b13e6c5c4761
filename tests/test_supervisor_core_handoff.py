"""Handoff and stop-first: who is held, for how long, and what becomes of the state."""

from __future__ import annotations

from typing import Any

import pytest

from changeover.protocol.errors import Code, Fault
from changeover.supervisor import orders as o
from changeover.supervisor.changeover import Changeover
from changeover.supervisor.states import Gate, JobState, WorkerState

from .core_harness import HANGS, NOT_PURE, Bench, Life, raises, state_of, stateful, step_of


def serving(life: Life | None = None, **spec: Any) -> Bench:
    """A plugin with a state serves."""
    bench = Bench(**spec)
    bench.lives["A"] = life or stateful()
    bench.lives["B"] = stateful()
    bench.start()
    bench.after(31)
    bench.orders.clear()
    return bench


def stop_first(**spec: Any) -> Bench:
    bench = Bench(swap="stop-first", **spec)
    bench.start()
    bench.after(31)
    bench.orders.clear()
    return bench


def write(bench: Bench, content: str) -> Changeover:
    change = bench.write(content)
    assert change is not None
    return change


def asked(bench: Bench) -> list[tuple[str, int]]:
    """Each control request, and the release of the worker that was asked."""
    return [(x.method, x.worker.generation.release.number) for x in bench.given(o.Ask)]


# -- which plan


def test_auto_means_handoff_for_a_plugin_with_a_state() -> None:
    assert write(serving(), "B").plan == "handoff"


def test_auto_means_handoff_for_ordered_frames() -> None:
    assert write(serving(Life(frames="ordered")), "B").plan == "handoff"


def test_auto_means_overlap_for_the_others() -> None:
    assert write(serving(Life()), "B").plan == "overlap"


def test_handoff_with_several_workers_overlaps_and_warns() -> None:
    bench = serving(workers=2)
    assert write(bench, "B").plan == "overlap"
    assert "handoff needs workers = 1" in bench.told


def test_a_first_load_hands_nothing_over() -> None:
    bench = Bench(swap="stop-first")
    assert bench.start().plan == "overlap"


# -- handoff


def test_the_state_goes_from_the_old_to_the_new() -> None:
    bench = serving(stateful(export_state=b"tracks"))
    write(bench, "B")
    [adopt] = [x for x in bench.given(o.Ask) if x.method == "adopt"]
    assert adopt.params[0]["state"] == b"tracks"


def test_the_new_is_proven_before_anybody_is_held() -> None:
    bench = serving()
    bench.lives["B"] = Life(capabilities=("check",), check=HANGS)
    write(bench, "B")
    assert bench.plugin.gate is Gate.OPEN


def test_loading_is_no_part_of_the_hold() -> None:
    bench = serving()
    bench.lives["B"] = stateful(load=HANGS)
    write(bench, "B")
    assert state_of(bench.submit()) == "running"


def test_callers_are_held_until_the_cut() -> None:
    bench = serving()
    running = bench.submit()
    write(bench, "B")
    held = bench.submit()
    assert (held.state, bench.plugin.state) == (JobState.QUEUED, "holding")
    bench.answer(running)
    assert (held.state, held.generation) == (JobState.RUNNING, 2)


def test_the_export_comes_after_the_drain() -> None:
    bench = serving()
    running = bench.submit()
    write(bench, "B")
    assert "export_state" not in [method for method, _ in asked(bench)]
    bench.answer(running)
    assert ("export_state", 1) in asked(bench)


def test_a_filter_gives_what_it_holds_before_its_state() -> None:
    bench = serving(Life(capabilities=("flush", "state"), flush=b"\x91\x07"))
    write(bench, "B")
    methods = [method for method, number in asked(bench) if number == 1]
    assert methods == ["flush", "export_state"]
    assert [order.values for order in bench.given(o.Flushed)] == [b"\x91\x07"]


def test_new_callers_beyond_the_hold_timeout_get_busy() -> None:
    bench = stop_first(hold_timeout_s=2.0)
    bench.lives["B"] = Life(load=HANGS)
    write(bench, "B")
    held = bench.submit()
    bench.after(2.1)
    with pytest.raises(Fault) as caught:
        bench.submit()
    assert (caught.value.code, caught.value.data["reason"]) == (Code.BUSY, "holding")
    assert not held.has_ended


def test_the_deadlines_of_held_jobs_run() -> None:
    bench = serving(hold_timeout_s=20.0)
    bench.submit()
    write(bench, "B")
    held = bench.submit(timeout_s=1.0)
    bench.after(1.1)
    assert held.fault is not None
    assert held.fault.code == Code.DEADLINE


GIVES_UP = {
    "a job that never ends": (stateful(), "drain_timeout: 1 jobs still run after 3 s"),
    "export_state hangs": (
        stateful(export_state=HANGS), "drain_timeout: no answer to export_state within 3 s",
    ),
    "export_state raises": (stateful(export_state=raises("pickle")), "export_state: pickle"),
}  # fmt: skip


@pytest.fixture(params=GIVES_UP)
def given_up(request: pytest.FixtureRequest) -> tuple[Bench, Changeover, str]:
    """A handoff that cannot have the state in time."""
    life, cause = GIVES_UP[request.param]
    bench = serving(life, drain_timeout_s=3.0)
    if request.param == "a job that never ends":
        bench.submit("long")
    change = write(bench, "B")
    bench.submit("held")
    bench.after(4)
    return bench, change, cause


def test_a_handoff_that_gets_no_state_gives_up(
    given_up: tuple[Bench, Changeover, str],
) -> None:
    _, change, cause = given_up
    assert (change.outcome, change.cause) == ("refused", cause)


def test_the_old_goes_on_with_its_state(given_up: tuple[Bench, Changeover, str]) -> None:
    bench, _, _ = given_up
    assert bench.release() == 1
    assert [worker.state for worker in bench.workers] == [WorkerState.READY]
    assert bench.core.jobs["held"].state in (JobState.RUNNING, JobState.QUEUED)
    assert bench.plugin.gate is Gate.OPEN


def test_content_without_blame_is_not_marked(given_up: tuple[Bench, Changeover, str]) -> None:
    assert not given_up[0].plugin.bad


def test_hold_timeout_limits_everything_that_callers_wait_for() -> None:
    bench = serving(hold_timeout_s=2.0)
    bench.lives["B"] = stateful(adopt=HANGS)
    change = write(bench, "B")
    bench.after(2.1)
    assert "hold_timeout" in change.cause
    assert bench.release() == 1


def test_a_slow_handoff_does_not_run_into_warm_timeout() -> None:
    bench = serving(warm_timeout_s=1.0, hold_timeout_s=50.0, drain_timeout_s=40.0)
    job = bench.submit()
    change = write(bench, "B")
    bench.after(20)
    bench.answer(job)
    assert step_of(change) == "watch"


def test_a_state_that_the_new_cannot_read_is_refused() -> None:
    bench = serving(stateful(state={"format": "2", "accepts": ["2"]}))
    bench.lives["B"] = stateful(state={"format": "1", "accepts": ["1"]})
    change = write(bench, "B")
    assert change.cause == "the new release takes state of ['1'], not '2'"
    assert bench.release() == 1


def test_an_import_that_raises_is_refused_and_the_old_resumes() -> None:
    bench = serving()
    bench.lives["B"] = stateful(adopt=raises("KeyError: 'tracks'"))
    change = write(bench, "B")
    assert change.outcome == "refused"
    assert bench.submit().generation == 1


def test_the_answer_to_an_export_that_was_given_up_is_not_the_next_ones() -> None:
    bench = serving(stateful(export_state=HANGS), drain_timeout_s=3.0)
    write(bench, "B")
    bench.after(4)
    bench.lives["A"].export_state = b"fresh"
    change = bench.change("reload")
    old = bench.workers[0]
    bench.reply(old, "export_state", b"stale")
    assert change.state == b"fresh"


def test_force_kills_a_straggler_and_starts_fresh() -> None:
    bench = serving(drain_timeout_s=3.0)
    job = bench.submit()
    bench.disk = "B"
    change = bench.change("reload", force=True)
    bench.after(4)
    assert (bench.release(), change.state) == (2, None)
    assert job.fault is not None
    assert job.fault.data["reason"] == "killed_at_drain"
    assert "the state is lost" in bench.told


def test_force_does_not_wait_for_an_export_that_hangs() -> None:
    bench = serving(stateful(export_state=HANGS), drain_timeout_s=3.0)
    bench.disk = "B"
    change = bench.change("reload", force=True)
    bench.after(4)
    assert bench.release() == 2
    assert "no answer to export_state within 3 s; forced" in change.cause


def test_force_still_limits_the_adoption() -> None:
    bench = serving(stateful(export_state=HANGS), drain_timeout_s=3.0, hold_timeout_s=5.0)
    bench.lives["B"] = stateful(adopt=HANGS)
    bench.disk = "B"
    change = bench.change("reload", force=True)
    bench.after(10)
    assert change.outcome == "refused"
    assert [worker.state for worker in bench.workers] == [WorkerState.READY]


def test_a_crash_in_the_middle_loses_the_state_and_says_so() -> None:
    bench = serving(stateful(export_state=HANGS))
    write(bench, "B")
    bench.die(bench.workers[0])
    assert bench.release() == 2
    assert "the state is lost: its worker is gone" in bench.told


def test_a_new_one_that_dies_after_the_import_gives_way_to_the_old_with_its_state() -> None:
    bench = serving()
    old = bench.workers[0]
    write(bench, "B")
    bench.submit()
    bench.die(bench.workers[0])
    assert bench.workers == [old]
    adopted = [x for x in bench.given(o.Ask) if x.method == "adopt" and x.worker is old]
    assert not adopted


def test_a_rollback_hands_the_state_back() -> None:
    bench = serving()
    old = bench.workers[0]
    bench.lives["B"] = stateful(export_state=b"newer")
    write(bench, "B")
    bench.rollback()
    assert bench.workers == [old]
    [adopt] = [x for x in bench.given(o.Ask) if x.method == "adopt" and x.worker is old]
    assert adopt.params[0]["state"] == b"newer"


def test_no_signal_goes_to_the_old_before_the_cut() -> None:
    bench = serving(drain_timeout_s=3.0)
    bench.submit()
    write(bench, "B")
    bench.after(10)
    assert not [order for order in bench.given(o.Signal) if order.worker in bench.workers]


# -- stop-first


def test_stop_first_never_runs_two_at_once() -> None:
    bench = stop_first()
    bench.life("A", unload=HANGS)
    write(bench, "B")
    assert not bench.given(o.Spawn)
    bench.after(8)
    assert bench.release() == 2


def test_stop_first_holds_its_callers() -> None:
    bench = stop_first()
    bench.lives["B"] = Life(load=HANGS)
    write(bench, "B")
    job = bench.submit()
    assert state_of(job) == "queued"
    bench.reply(bench.asked[0][0], "load", Life().loaded())
    assert job.generation == 2


def test_stop_first_starts_the_approved_release_again() -> None:
    bench = stop_first()
    bench.lives["B"] = Life(load=raises("ImportError"))
    change = write(bench, "B")
    assert change.outcome == "refused"
    assert bench.release() == 1
    assert state_of(bench.submit()) == "running"


def test_stop_first_waits_for_the_refused_one_to_leave() -> None:
    bench = stop_first(kill_grace_s=2.0)
    bench.lives["B"] = Life(load=raises("ImportError"), ignores_term=True)
    write(bench, "B")
    assert not bench.workers
    bench.after(2.1)
    assert [worker.generation.release.number for worker in bench.workers] == [1]


def test_a_crash_of_the_old_while_it_drains_brings_it_not_back() -> None:
    bench = stop_first(restart_min_s=1.0)
    bench.lives["B"] = Life(load=HANGS)
    bench.die(bench.workers[0])
    bench.submit()
    write(bench, "B")
    bench.die(bench.workers[0])
    bench.after(30)
    assert {w.generation.release.number for w in bench.everyone} == {2}


def test_stop_first_kills_stragglers_at_the_drain_timeout() -> None:
    bench = Bench(swap="stop-first", drain_timeout_s=3.0)
    bench.lives["A"] = Life(methods=NOT_PURE)
    bench.start()
    bench.after(31)
    job = bench.submit()
    change = write(bench, "B")
    bench.after(4)
    assert (bench.release(), change.report.killed) == (2, 1)
    assert job.fault is not None
    assert job.fault.data["reason"] == "killed_at_drain"


def test_stop_first_waits_when_it_is_told_to() -> None:
    bench = stop_first(drain_timeout_s=3.0, drain_over="wait")
    job = bench.submit()
    change = write(bench, "B")
    bench.after(100)
    assert step_of(change) == "drain"
    bench.answer(job)
    assert bench.release() == 2


def test_stop_first_rolls_back_by_stopping_first() -> None:
    bench = stop_first()
    write(bench, "B")
    bench.answer(bench.submit())
    for _ in range(5):
        bench.fail(bench.submit())
    assert bench.release() == 1
    assert len(bench.everyone) == 1


def test_people_are_told_how_long_callers_were_held() -> None:
    bench = serving(stateful(export_state=HANGS), drain_timeout_s=3.0)
    write(bench, "B")
    bench.after(4)
    assert "callers were held for 3.0 s; fix it and save" in bench.told
