"""What follows a crash of what serves: at once, later, or never (failures.md 3, 15, 23)."""

from __future__ import annotations

from typing import Any

import pytest

from changeover.protocol.errors import Code, Fault
from changeover.supervisor import orders as o
from changeover.supervisor.registry import OnSignal
from changeover.supervisor.states import Restart

from .core_harness import HANGS, NOT_PURE, Bench, Life, digest_of, raises, state_of

EMFILE = Fault.new(Code.CHANGE_FAILED, "too many open files", bad_luck=True)


def serving(**spec: Any) -> Bench:
    bench = Bench(**spec)
    bench.start()
    bench.after(31)
    bench.orders.clear()
    return bench


def crash(bench: Bench, times: int) -> None:
    """Crash, let it come back, crash …; stop when nothing comes back."""
    for _ in range(times):
        if not bench.workers:
            return
        bench.die(bench.workers[0])
        bench.after(5)


def test_the_first_crash_is_answered_at_once() -> None:
    bench = serving()
    bench.die(bench.workers[0])
    assert [when for when, _ in bench.timed(o.Spawn)] == [31.0]


def test_the_next_crashes_are_answered_later_and_later() -> None:
    bench = serving(restart_min_s=0.1)
    delays = []
    for _ in range(5):
        died = bench.now
        bench.die(bench.workers[0])
        bench.after(5)
        delays.append(round(bench.timed(o.Spawn)[-1][0] - died, 3))
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8]


def test_the_back_off_has_a_limit() -> None:
    bench = serving(restart_min_s=1.0, restart_max_s=2.0)
    crash(bench, 4)
    died = bench.now
    bench.die(bench.workers[0])
    bench.after(5)
    assert bench.timed(o.Spawn)[-1][0] - died == 2.0


def test_a_back_off_is_seen() -> None:
    bench = serving(restart_min_s=1.0)
    bench.die(bench.workers[0])
    bench.die(bench.workers[0])
    assert bench.plugin.state == "backoff"
    assert state_of(bench.submit()) == "queued"


def test_beyond_the_crash_loop_it_has_failed() -> None:
    bench = serving()
    crash(bench, 5)
    assert bench.plugin.state == "live"
    crash(bench, 1)
    assert bench.plugin.state == "failed"


def test_crashes_far_apart_are_no_loop() -> None:
    bench = serving()
    for _ in range(20):
        bench.die(bench.workers[0])
        bench.after(61)
    assert bench.plugin.state == "live"


def test_a_failed_plugin_refuses_what_waits_and_what_comes() -> None:
    bench = serving(poison=99)
    waiting = bench.submit_many(2)[1]
    crash(bench, 6)
    assert waiting.fault is not None
    assert waiting.fault.code == Code.UNAVAILABLE
    with pytest.raises(Fault, match="6 workers died within 60 s") as caught:
        bench.submit()
    assert caught.value.code == Code.UNAVAILABLE


def test_the_other_workers_of_a_failed_plugin_finish_what_they_have() -> None:
    bench = serving(workers=2, crash_loop_count=1)
    busy = bench.submit()
    holder = bench.holder(busy)
    for _ in range(2):
        bench.die(next(w for w in bench.workers if w is not holder))
        bench.after(5)
    assert bench.plugin.state == "failed"
    bench.answer(busy)
    assert state_of(busy) == "done"
    assert not bench.everyone


def test_a_job_that_comes_back_to_a_failed_plugin_is_refused() -> None:
    bench = serving(workers=2, crash_loop_count=1)
    busy = bench.submit()
    holder = bench.holder(busy)
    for _ in range(2):
        bench.die(next(w for w in bench.workers if w is not holder))
        bench.after(5)
    bench.die(holder)
    assert busy.fault is not None
    assert (busy.fault.code, busy.fault.executed) == (Code.UNAVAILABLE, "maybe")


def test_reload_brings_a_failed_plugin_back_with_the_same_content() -> None:
    bench = serving()
    crash(bench, 6)
    bench.change("reload")
    assert bench.plugin.state == "live"


def test_other_content_brings_a_failed_plugin_back() -> None:
    bench = serving()
    crash(bench, 6)
    bench.write("B")
    assert (bench.plugin.state, bench.release()) == ("live", 2)


def test_the_count_follows_the_content_through_a_changeover() -> None:
    bench = serving()
    crash(bench, 3)
    bench.change("reload", force=True)
    bench.after(31)
    crash(bench, 3)
    assert bench.plugin.state == "failed"


def test_a_worker_that_does_not_boot_again_is_a_death_too() -> None:
    bench = serving()
    bench.life("A", load=raises("cannot open the model"))
    bench.die(bench.workers[0])
    bench.after(60)
    assert bench.plugin.state == "failed"


def test_bad_luck_at_a_restart_never_fails_a_plugin() -> None:
    bench = serving()
    bench.life("A", spawn=EMFILE)
    bench.die(bench.workers[0])
    bench.after(600)
    assert bench.plugin.state == "backoff"
    bench.lives.clear()
    bench.after(31)
    assert (bench.plugin.state, len(bench.workers)) == ("live", 1)


def test_a_restart_runs_the_approved_release_whatever_is_on_disk() -> None:
    bench = serving(reload=OnSignal())
    bench.write("B")
    bench.die(bench.workers[0])
    assert bench.workers[0].generation.release.digest == digest_of("A")


def test_a_crash_between_reload_and_ready_is_still_answered() -> None:
    bench = serving()
    bench.life("B", load=HANGS)
    bench.write("B")
    bench.die(bench.workers[0])
    assert [worker.state.value for worker in bench.workers] == ["ready"]


def test_a_stop_during_a_crash_loop_stays_stopped() -> None:
    bench = serving()
    crash(bench, 3)
    bench.die(bench.workers[0])
    bench.fact(lambda: bench.core.stop(bench.now))
    bench.after(60)
    assert not bench.everyone
    assert bench.core.is_idle


def test_broken_protocol_kills_at_once_and_tells_its_caller() -> None:
    bench = Bench()
    bench.lives["A"] = Life(methods=NOT_PURE, ignores_term=True)
    bench.start()
    bench.after(31)
    job = bench.submit()
    worker = bench.workers[0]
    bench.fact(lambda: bench.core.broke_protocol(bench.now, worker, "wrote to stdout: 'hi'"))
    assert [order.what for order in bench.given(o.Signal)] == ["kill"]
    assert job.fault is not None
    assert job.fault.data["reason"] == "protocol"


def test_only_the_jobs_of_the_worker_that_broke_it_are_touched() -> None:
    bench = serving(workers=2)
    first, second = bench.submit_many(2)
    worker = bench.holder(first)
    bench.fact(lambda: bench.core.broke_protocol(bench.now, worker, "c1"))
    assert (first.attempts, second.attempts) == (2, 1)


def test_people_are_told_what_a_crash_means_for_the_jobs() -> None:
    bench = serving()
    bench.submit("8f3c")
    pid = bench.workers[0].pid
    bench.die(bench.workers[0])
    assert (
        f"worker {pid} died of SIGSEGV, job 8f3c\n  1 re-run, 0 lost; restart 1 of 5" in bench.told
    )


def test_a_generation_that_failed_stays_failed() -> None:
    bench = serving()
    crash(bench, 6)
    bench.after(1000)
    assert bench.plugin.live is not None
    assert bench.plugin.live.restart is Restart.FAILED
    assert not bench.everyone
