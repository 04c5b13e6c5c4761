"""The end of a plugin and of all of them."""

from __future__ import annotations

from typing import Any

import pytest

from changeover.protocol.errors import Code, Fault
from changeover.supervisor import orders as o
from changeover.supervisor.states import JobState

from .core_harness import HANGS, Bench, Life, stateful


def serving(**spec: Any) -> Bench:
    bench = Bench(**spec)
    bench.start()
    bench.after(31)
    bench.orders.clear()
    return bench


def remove(bench: Bench) -> None:
    bench.fact(lambda: bench.core.remove(bench.now, "p"))


def stop(bench: Bench, *, at_once: bool = False) -> None:
    bench.fact(lambda: bench.core.stop(bench.now, at_once=at_once))


END = [remove, stop]


@pytest.mark.parametrize("end", END)
def test_what_was_accepted_is_finished(end: object) -> None:
    bench = serving()
    jobs = bench.submit_many(2)
    end(bench)  # type: ignore[operator]
    for job in jobs:
        bench.answer(job)
    assert [job.state for job in jobs] == [JobState.DONE] * 2


@pytest.mark.parametrize("end", END)
def test_then_the_workers_leave(end: object) -> None:
    bench = serving()
    job = bench.submit()
    end(bench)  # type: ignore[operator]
    assert bench.everyone
    bench.answer(job)
    assert not bench.everyone
    assert bench.core.is_idle


@pytest.mark.parametrize("end", END)
def test_nothing_more_is_accepted(end: object) -> None:
    bench = serving()
    bench.submit()
    end(bench)  # type: ignore[operator]
    with pytest.raises(Fault) as caught:
        bench.submit()
    assert caught.value.code == Code.STOPPING


@pytest.mark.parametrize("end", END)
def test_nothing_more_is_changed(end: object) -> None:
    bench = serving()
    bench.submit()
    end(bench)  # type: ignore[operator]
    assert bench.write("B") is None
    with pytest.raises(Fault) as caught:
        bench.rollback()
    assert caught.value.code == Code.STOPPING


@pytest.mark.parametrize("end", END)
def test_a_crash_meanwhile_is_answered_while_jobs_wait(end: object) -> None:
    bench = serving()
    jobs = bench.submit_many(2)
    end(bench)  # type: ignore[operator]
    bench.die(bench.workers[0])
    bench.answer(jobs[0])
    bench.answer(jobs[1])
    assert bench.core.is_idle


@pytest.mark.parametrize("end", END)
def test_what_waits_behind_a_pause_is_refused(end: object) -> None:
    bench = serving()
    bench.fact(lambda: bench.core.pause(bench.now, "p"))
    job = bench.submit()
    end(bench)  # type: ignore[operator]
    assert job.fault is not None
    assert job.fault.code == Code.STOPPING
    assert bench.core.is_idle


@pytest.mark.parametrize("end", END)
def test_a_warming_newcomer_that_nobody_waits_for_is_given_up(end: object) -> None:
    bench = serving()
    bench.life("B", load=HANGS)
    change = bench.write("B")
    end(bench)  # type: ignore[operator]
    assert change is not None
    assert change.outcome == "superseded"
    assert bench.core.is_idle


@pytest.mark.parametrize("end", END)
def test_a_first_load_goes_on_for_the_jobs_that_wait_for_it(end: object) -> None:
    bench = Bench()
    bench.life("A", load=HANGS)
    bench.start()
    job = bench.submit()
    end(bench)  # type: ignore[operator]
    bench.reply(bench.asked[0][0], "load", Life().loaded())
    bench.answer(job)
    assert (job.state, bench.core.is_idle) == (JobState.DONE, True)


@pytest.mark.parametrize("end", END)
def test_a_changeover_that_somebody_waits_for_goes_on(end: object) -> None:
    bench = serving()
    bench.life("B", load=HANGS)
    bench.disk = "B"
    change = bench.change("reload")
    change.waiters.append("someone")
    end(bench)  # type: ignore[operator]
    assert not bench.core.is_idle
    bench.reply(bench.asked[0][0], "load", Life().loaded())
    assert (change.outcome, bench.core.is_idle) == ("done", True)


@pytest.mark.parametrize("end", END)
def test_the_last_deadline_is_enough_to_end(end: object) -> None:
    bench = Bench()
    bench.life("A", load=HANGS)
    bench.start()
    bench.submit(timeout_s=5.0)
    end(bench)  # type: ignore[operator]
    bench.after(10)
    assert bench.core.is_idle


@pytest.mark.parametrize("end", END)
def test_a_watch_ends_with_its_plugin(end: object) -> None:
    bench = serving()
    change = bench.write("B")
    end(bench)  # type: ignore[operator]
    assert change is not None
    assert change.has_ended
    assert bench.core.is_idle


@pytest.mark.parametrize("end", END)
def test_a_drain_is_finished(end: object) -> None:
    bench = serving()
    job = bench.submit()
    change = bench.write("B")
    end(bench)  # type: ignore[operator]
    assert not bench.core.is_idle
    bench.answer(job)
    assert change is not None
    assert (change.outcome, bench.core.is_idle) == ("done", True)


def test_a_retry_does_not_outlive_its_plugin() -> None:
    bench = serving()
    bench.stage_fails = ("no space left", True)
    bench.write("B")
    remove(bench)
    bench.after(100)
    assert "p" not in bench.core.plugins
    assert bench.core.next_due() is None


def test_a_removed_plugin_can_be_added_again() -> None:
    bench = serving()
    remove(bench)
    bench.start("B")
    assert bench.plugin.state == "live"


def test_until_it_is_gone_its_name_is_taken() -> None:
    bench = serving()
    bench.submit()
    remove(bench)
    with pytest.raises(Fault) as caught:
        bench.start()
    assert caught.value.code == Code.CONFLICT


def test_a_removed_plugin_leaves_nothing_in_the_registry() -> None:
    bench = Bench()
    bench.life("A", load=HANGS)
    bench.start()
    remove(bench)
    registry = bench.core.registry
    assert [*registry.loaded_plugins, *registry.watchers, *registry.policies] == []


def test_nothing_is_added_to_a_supervisor_that_stops() -> None:
    bench = Bench()
    stop(bench)
    with pytest.raises(Fault) as caught:
        bench.start()
    assert caught.value.code == Code.STOPPING


# -- at once


def test_a_stop_at_once_kills() -> None:
    bench = serving()
    bench.life("A", ignores_term=True)
    bench.submit()
    stop(bench, at_once=True)
    assert [order.what for order in bench.given(o.Signal)] == ["kill"]
    assert bench.core.is_idle


def test_a_stop_at_once_tells_every_caller() -> None:
    bench = serving(queue=1)
    running, queued, lobby = bench.submit_many(3)
    stop(bench, at_once=True)
    faults = [job.fault for job in (running, queued, lobby) if job.fault is not None]
    assert [fault.code for fault in faults] == [Code.WORKER_LOST, Code.STOPPING, Code.STOPPING]
    assert [fault.executed for fault in faults] == ["maybe", "no", "no"]
    assert faults[0].data["reason"] == "stopped"
    assert faults[0].retryable


def test_a_stop_at_once_ends_what_is_warming_whoever_waits() -> None:
    bench = serving()
    bench.life("B", load=HANGS)
    bench.disk = "B"
    change = bench.change("reload")
    change.waiters.append("someone")
    stop(bench, at_once=True)
    assert change.outcome == "superseded"
    assert bench.core.is_idle


def test_a_stop_at_once_ends_a_hold() -> None:
    bench = Bench()
    bench.lives["A"] = stateful(export_state=HANGS)
    bench.start()
    bench.after(31)
    bench.write("B")
    job = bench.submit()
    stop(bench, at_once=True)
    assert job.has_ended
    assert bench.core.is_idle


def test_a_stop_at_once_overtakes_a_stop() -> None:
    bench = serving()
    job = bench.submit()
    stop(bench)
    stop(bench, at_once=True)
    assert (job.state, bench.core.is_idle) == (JobState.LOST, True)


def test_a_stop_at_once_ends_a_way_back() -> None:
    bench = serving(rollback_keep="staged")
    change = bench.write("B")
    bench.life("A", load=HANGS)
    bench.die(bench.workers[0])
    stop(bench, at_once=True)
    assert change is not None
    assert change.has_ended
    assert bench.core.is_idle


def test_a_process_that_comes_after_the_stop_is_killed() -> None:
    bench = Bench()
    bench.starts = False
    bench.start()
    stop(bench, at_once=True)
    bench.finish_spawns()
    assert bench.core.is_idle
