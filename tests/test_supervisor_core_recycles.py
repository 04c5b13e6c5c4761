"""Recycling on the pure core: `max_jobs`, `max_age`, `max_rss`; failures.md 17."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from changeover.supervisor import orders as o
from changeover.supervisor.changeover import Changeover
from changeover.supervisor.registry import Disabled, OnSignal
from changeover.supervisor.states import WorkerState

from .core_harness import BUSY, Bench, digest_of, raises, state_of, stateful, step_of

LONG_S = 31.0  # beyond `probation`
BIG = 1000


def serving(content: str = "A", **spec: Any) -> Bench:
    """A plugin whose release is approved."""
    bench = Bench(**spec)
    bench.start(content)
    bench.after(LONG_S)
    bench.orders.clear()
    return bench


def look(bench: Bench, taken: int = 0) -> None:
    """The shell has measured: every worker takes so many bytes."""
    memory = {worker.id: taken for worker in bench.everyone}
    bench.fact(lambda: bench.core.measured(bench.now, "p", memory))


def work(bench: Bench, jobs: int) -> None:
    for _ in range(jobs):
        bench.answer(bench.submit())


def generation(bench: Bench) -> int:
    assert bench.plugin.live is not None
    return bench.plugin.live.number


def history(bench: Bench) -> list[tuple[object, ...]]:
    """Why, who and outcome of each changeover that the history was told of."""
    entries = [record.entry for record in bench.given(o.Record)]
    return [(e["why"], e["who"], e["outcome"]) for e in entries if e["event"] == "changeover"]


# -- the limits


def test_after_max_jobs_fresh_workers_of_the_same_release_serve() -> None:
    bench = serving(max_jobs=3)
    old = bench.workers[0]
    work(bench, 2)
    assert bench.workers == [old]
    work(bench, 1)
    assert (bench.release(), generation(bench)) == (1, 2)
    assert old.state is WorkerState.EXITED
    work(bench, 2)
    assert generation(bench) == 2


def test_max_jobs_comes_up_to_a_tenth_earlier() -> None:
    bench = serving(max_jobs=100)  # the bench's jitter is the greatest
    work(bench, 89)
    assert generation(bench) == 1
    work(bench, 1)
    assert generation(bench) == 2


def test_workers_of_max_age_are_recycled_at_the_next_look() -> None:
    bench = serving(max_age_s=100.0)
    bench.after(99.0 - LONG_S)
    look(bench)
    assert generation(bench) == 1
    bench.after(1.0)
    look(bench)
    assert generation(bench) == 2
    bench.after(99.0)
    look(bench)
    assert generation(bench) == 2


def test_only_above_max_rss_it_is_recycled() -> None:
    bench = serving(max_rss_bytes=BIG)
    look(bench, BIG)
    assert generation(bench) == 1
    look(bench, BIG + 1)
    assert generation(bench) == 2


def test_without_limits_nothing_is_recycled() -> None:
    bench = serving()
    work(bench, 200)
    bench.after(1e6)
    look(bench, 1 << 50)
    assert generation(bench) == 1


def test_one_worker_at_its_limit_is_enough() -> None:
    bench = serving(workers=3, max_rss_bytes=BIG)
    last = bench.workers[2]
    bench.fact(lambda: bench.core.measured(bench.now, "p", {last.id: BIG + 1}))
    assert generation(bench) == 2
    assert len(bench.workers) == 3


def test_history_and_narration_say_which_limit_and_which_figure() -> None:
    bench = serving(max_rss_bytes=512 << 20)
    look(bench, 612 << 20)
    assert history(bench) == [("recycle", "max_rss", "done")]
    entry = bench.given(o.Record)[-1].entry
    assert entry["cause"] == "worker 1001 takes 612M, max_rss = 512M"
    assert "1.0.0 @1 → 1.0.0 @1 (recycle: worker 1001 takes 612M, max_rss = 512M), " in bench.told


def test_a_limit_of_a_new_config_counts_at_once() -> None:
    bench = serving()
    work(bench, 5)
    limited = Bench(max_jobs=6).spec
    bench.fact(lambda: bench.core.reconfigure(bench.now, limited, needs_change=False))
    work(bench, 1)
    assert generation(bench) == 2


# -- it loses nothing and touches nothing else


def test_what_runs_finishes_on_the_old_worker_and_what_waits_moves() -> None:
    bench = serving(max_jobs=1, concurrency=2)
    first, second = bench.submit_many(2)
    old = bench.holder(second)
    bench.answer(first)
    assert generation(bench) == 2
    assert bench.holder(second) is old
    assert bench.holder(bench.submit()) is not old
    bench.answer(second)
    assert state_of(second) == "done"
    assert bench.plugin.counts.lost == 0


def test_state_is_handed_over() -> None:
    bench = Bench(max_jobs=1)
    bench.lives["A"] = stateful(export_state=b"tracks")
    bench.start("A")
    work(bench, 1)
    assert generation(bench) == 2
    [adopt] = [ask for ask in bench.given(o.Ask) if ask.method == "adopt"]
    assert adopt.params[0]["state"] == b"tracks"


def test_a_disabled_plugin_is_recycled_too() -> None:
    bench = serving(max_jobs=1, reload=Disabled())
    work(bench, 1)
    assert generation(bench) == 2


def test_it_is_the_release_that_serves_whatever_the_source_holds() -> None:
    bench = serving(max_jobs=1, reload=OnSignal())
    bench.write("B")
    work(bench, 1)
    assert generation(bench) == 2
    assert bench.plugin.live is not None
    assert bench.plugin.live.release.digest == digest_of("A")


def test_a_pin_that_refused_the_config_does_not_stop_it() -> None:
    bench = serving(max_jobs=1)
    pinned = Bench(max_jobs=1, pin=digest_of("B")).spec
    bench.fact(lambda: bench.core.reconfigure(bench.now, pinned, needs_change=True))
    assert generation(bench) == 1
    work(bench, 1)
    assert generation(bench) > 1


def test_the_way_back_leads_where_it_led_before() -> None:
    bench = serving(max_jobs=1)
    bench.write("B")
    bench.write("C")  # A is approved, but it is B that this replaces
    work(bench, 1)
    bench.rollback()
    assert bench.release() == 2


def test_recycled_workers_never_come_back() -> None:
    bench = Bench(max_jobs=1)
    bench.start("A")
    seen = {bench.workers[0].id}
    for _ in range(3):
        work(bench, 1)
        seen.add(bench.workers[0].id)
    assert len(seen) == 4
    assert bench.everyone == bench.workers


def test_neither_do_those_of_the_same_release_that_a_forced_reload_has_parked() -> None:
    bench = serving(max_jobs=1)
    parked = bench.workers[0]
    bench.change(force=True)
    work(bench, 1)
    assert generation(bench) == 3
    assert parked.state is WorkerState.EXITED


# -- one changeover at a time


def test_it_waits_for_a_changeover_that_is_on_its_way() -> None:
    bench = serving(max_jobs=1)
    bench.life("B", check=BUSY, capabilities=("check",))
    bench.write("B")
    work(bench, 2)
    assert bench.plugin.change is not None
    assert (bench.plugin.change.reason, bench.plugin.pending) == ("file", None)


def test_while_one_is_under_way_no_other_is_asked_for() -> None:
    bench = serving(max_jobs=1)
    bench.starts = False
    work(bench, 5)
    look(bench)
    phases = [order.step for order in bench.given(o.Phase)]
    assert [step.value for step in phases] == ["stage", "warm"]


def test_a_new_release_takes_its_place() -> None:
    bench = serving(max_jobs=1)
    bench.starts = False
    work(bench, 1)
    recycle = bench.plugin.change
    bench.write("B")
    assert recycle is not None
    assert recycle.outcome == "superseded"
    while bench.spawning:
        bench.finish_spawns()
    assert bench.release() == 2


def test_a_new_release_that_bad_luck_keeps_away_still_comes() -> None:
    bench = serving(max_jobs=1, restart_min_s=10.0)
    bench.stage_fails = ("no space left", True)
    bench.write("B")
    bench.stage_fails = None
    work(bench, 1)
    assert (bench.release(), generation(bench)) == (1, 2)
    bench.after(20.0)
    assert bench.release() == 2


def test_at_most_max_spawns_of_all_its_workers_start_at_once() -> None:
    bench = serving(workers=5, max_jobs=1, supervisor={"max_spawns": 2})
    bench.starts = False
    work(bench, 5)
    assert len(bench.spawning) == 2
    assert len(bench.workers) == 5  # the old ones serve meanwhile
    while bench.spawning:
        assert len(bench.spawning) <= 2
        bench.finish_spawns()
    assert generation(bench) == 2


# -- the watch


def watched() -> tuple[Bench, Changeover]:
    """B is watched, and has been recycled once."""
    bench = serving(max_jobs=2, workers=1, concurrency=4)
    change = bench.write("B")
    assert change is not None
    return bench, change


def test_a_watch_goes_on_over_the_fresh_workers() -> None:
    bench, change = watched()
    work(bench, 2)
    bench.after(20.0)
    assert step_of(change) == "watch"
    work(bench, 2)
    bench.after(12.0)
    assert change.outcome == "done"
    assert bench.plugin.approved[-1] == digest_of("B")


def test_fresh_workers_of_a_watched_release_roll_back_too() -> None:
    bench, change = watched()
    for _ in range(4):
        bench.fail(bench.submit())
    assert generation(bench) > 2
    bench.fail(bench.submit())
    assert (bench.release(), change.outcome) == (1, "rolled_back")
    assert change.cause == "5 errors in 5 jobs"
    assert digest_of("B") in bench.plugin.bad


@pytest.mark.parametrize("is_drained_first", [True, False])
def test_it_rolls_back_while_the_recycled_worker_drains(is_drained_first: bool) -> None:
    bench, change = watched()
    straggler = bench.submit()
    for _ in range(5):
        bench.fail(bench.submit())
    assert bench.plugin.change is not None
    if is_drained_first:
        bench.answer(straggler)
    else:
        bench.after(LONG_S)  # killed at drain_timeout, and run again: it is pure
    assert (bench.release(), change.outcome) == (1, "rolled_back")
    if not is_drained_first:
        bench.answer(straggler)
    assert state_of(straggler) == "done"
    assert history(bench).count(("recycle", "max_jobs", "rolled_back")) == 1


def test_a_recycle_is_not_asked_for_again_after_a_rollback() -> None:
    bench, change = watched()
    bench.starts = False
    work(bench, 1)
    bench.fail(bench.submit())
    assert bench.plugin.change is not None
    assert bench.plugin.change.reason == "recycle"
    for _ in range(4):
        bench.fail(bench.submit())
    bench.starts = True
    bench.finish_spawns()
    assert (bench.release(), change.outcome) == (1, "rolled_back")
    bench.after(LONG_S)
    assert bench.release() == 1


def test_the_rate_of_errors_is_known_through_a_recycle() -> None:
    bench = serving(max_jobs=20)
    for _ in range(9):
        work(bench, 1)
        bench.fail(bench.submit())
    work(bench, 2)
    bench.write("B")  # as bad as A
    for _ in range(6):
        work(bench, 1)
        bench.fail(bench.submit())
    assert (bench.release(), generation(bench)) == (2, 3)


# -- when it does not help


def test_what_is_above_max_rss_when_it_is_fresh_is_recycled_ever_less_often() -> None:
    bench = serving(max_rss_bytes=BIG)
    begun = []
    for _ in range(200):
        before = generation(bench)
        look(bench, BIG + 1)
        if generation(bench) != before:
            begun.append(bench.now)
        bench.after(1.0)
    gaps = [after - before for before, after in pairwise(begun)]
    assert gaps == [2.0, 3.0, 5.0, 9.0, 17.0, 33.0, 65.0]  # until it is seen, and the pause
    assert bench.told.count("although it is fresh: recycling may not help") == 1
    assert "raise max_rss" in bench.told


def test_what_grows_later_is_recycled_without_a_pause() -> None:
    bench = serving(max_rss_bytes=BIG)
    for _ in range(5):
        before = generation(bench)
        look(bench, BIG + 1)
        assert generation(bench) == before + 1
        bench.after(3.0)


def test_while_max_rss_rests_other_limits_count() -> None:
    bench = serving(max_rss_bytes=BIG, max_jobs=1)
    for _ in range(3):
        look(bench, BIG + 1)
        bench.after(1.0)
    look(bench, BIG + 1)
    before = generation(bench)
    work(bench, 1)
    assert generation(bench) == before + 1


def test_a_refused_recycle_is_tried_again_by_and_by() -> None:
    bench = serving(max_jobs=1)
    life = bench.life("A", capabilities=("check",))
    life.check = raises("RuntimeError: no model")
    old = bench.workers[0]
    work(bench, 1)
    assert history(bench) == [("recycle", "max_jobs", "refused")]
    assert "it is tried again in 1.0 s, and then by and by" in bench.told
    work(bench, 3)
    look(bench)
    assert len(history(bench)) == 1
    bench.after(1.0)
    look(bench)
    assert len(history(bench)) == 2
    assert (bench.workers, bench.plugin.bad) == ([old], {})
    bench.after(1.0)
    look(bench)
    assert len(history(bench)) == 2
    life.check = None
    bench.after(1.0)
    look(bench)
    assert history(bench)[-1] == ("recycle", "max_jobs", "done")


def test_what_is_stopping_is_not_recycled() -> None:
    bench = serving(max_jobs=1, concurrency=2)
    first, second = bench.submit_many(2)
    bench.fact(lambda: bench.core.stop(bench.now))
    bench.answer(first)
    assert bench.given(o.Phase) == []
    bench.answer(second)
    assert bench.core.is_idle
