"""The trigger table of the architecture page, row by row."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from changeover.protocol.errors import Code, Fault
from changeover.supervisor.registry import Cron, Disabled, Every, OnSignal
from changeover.supervisor.triggers import Reason

from .core_harness import WALL, Bench, digest_of, raises

BAD = raises("ImportError: no module named numpyy")


def serving(**spec: Any) -> Bench:
    """A bench on which A serves and its watch is over."""
    bench = Bench(**spec)
    bench.start("A")
    bench.after(31)
    return bench


def with_bad_b(**spec: Any) -> Bench:
    """… and B on disk, which was refused."""
    bench = serving(**spec)
    bench.life("B", load=BAD)
    bench.write("B")
    bench.change("signal")
    return bench


def with_held_b() -> Bench:
    """… and B on disk, from which the operator went back to A."""
    bench = serving()
    bench.write("B")
    bench.after(31)
    bench.rollback()
    bench.after(31)
    return bench


# -- file change, HUP, bare reload


def test_other_content_begins_a_changeover() -> None:
    bench = serving()
    change = bench.write("B")
    assert change is not None
    assert bench.release() == 2


def test_the_same_content_again_begins_none() -> None:
    bench = serving()
    assert bench.write("A") is None


def test_a_file_change_counts_for_on_change_only() -> None:
    bench = serving(reload=OnSignal())
    assert bench.write("B") is None


def test_hup_takes_what_the_source_holds_now() -> None:
    bench = serving(reload=OnSignal())
    bench.write("B")
    assert bench.change("signal").outcome == ""
    assert bench.release() == 2


def test_hup_with_the_same_content_is_nothing_to_do() -> None:
    bench = serving()
    assert bench.change("signal").outcome == "unchanged"
    assert bench.plugin.live is not None
    assert bench.plugin.live.number == 1


def test_bad_content_is_not_tried_again_by_a_file_change() -> None:
    bench = with_bad_b()
    assert bench.write("B") is None


def test_bad_content_is_not_tried_again_by_hup() -> None:
    bench = with_bad_b()
    change = bench.change("signal")
    assert (change.outcome, change.cause) == ("unchanged", BAD.message)


def test_held_content_is_not_tried_again_by_a_file_change() -> None:
    assert with_held_b().write("B") is None


def test_held_content_is_not_tried_again_by_hup() -> None:
    bench = with_held_b()
    assert bench.change("signal").outcome == "unchanged"
    assert bench.release() == 1


@pytest.mark.parametrize("make", [with_bad_b, with_held_b])
def test_marks_last_until_the_content_changes(make: object) -> None:
    bench: Bench = make()  # type: ignore[operator]
    bench.lives.clear()
    bench.write("A")
    assert bench.write("B") is not None
    assert bench.release() == 2


def test_a_config_change_is_a_changeover_of_the_same_content() -> None:
    bench = serving()
    spec = replace(bench.spec, config={"strength": 2})
    change = bench.fact(lambda: bench.core.reconfigure(bench.now, spec, needs_change=True))
    assert change is not None
    assert bench.release() == 1
    assert bench.plugin.live is not None
    assert bench.plugin.live.number == 2
    assert bench.plugin.live.spec.config == {"strength": 2}


def test_a_config_change_that_was_refused_is_tried_by_hup() -> None:
    bench = serving()
    spec = replace(bench.spec, config={"strength": 2})
    bench.life("A", load=BAD)
    bench.fact(lambda: bench.core.reconfigure(bench.now, spec, needs_change=True))
    bench.lives.clear()
    assert bench.change("signal").outcome == ""
    assert bench.plugin.live is not None
    assert bench.plugin.live.spec.config == {"strength": 2}


def test_a_refused_config_does_not_mark_what_serves_as_bad() -> None:
    bench = serving()
    bench.life("A", load=BAD)
    spec = replace(bench.spec, config={"strength": 2})
    bench.fact(lambda: bench.core.reconfigure(bench.now, spec, needs_change=True))
    assert not bench.plugin.bad


def test_live_keys_need_no_changeover() -> None:
    bench = serving()
    spec = replace(bench.spec, queue=3)
    assert bench.fact(lambda: bench.core.reconfigure(bench.now, spec, needs_change=False)) is None
    assert bench.plugin.live is not None
    assert bench.plugin.live.number == 1


def test_live_keys_leave_alone_what_a_refused_config_wanted() -> None:
    bench = serving(workers=1)
    bench.life("A", load=BAD)
    three = replace(bench.spec, workers=3)
    bench.fact(lambda: bench.core.reconfigure(bench.now, three, needs_change=True))
    more = replace(three, queue=5)
    bench.fact(lambda: bench.core.reconfigure(bench.now, more, needs_change=False))
    assert bench.plugin.live is not None
    assert (bench.plugin.live.spec.workers, len(bench.workers)) == (1, 1)


# -- schedule


def test_a_schedule_begins_with_the_same_content_too() -> None:
    bench = serving(reload=Every(10.0))
    due = bench.fact(lambda: bench.core.check_schedules(bench.now + 10, WALL))
    assert [change.reason for change in due] == ["schedule"]
    assert bench.release() == 1
    assert bench.plugin.live is not None
    assert bench.plugin.live.number == 2


def test_a_schedule_fires_once() -> None:
    bench = serving(reload=Every(10.0))
    bench.fact(lambda: bench.core.check_schedules(bench.now, WALL))
    assert bench.fact(lambda: bench.core.check_schedules(bench.now + 1, WALL)) == []


def test_a_clock_that_jumps_fires_a_cron_once() -> None:
    bench = serving(reload=Cron("0 3 * * *"))
    jumped = WALL + timedelta(days=9)
    assert len(bench.fact(lambda: bench.core.check_schedules(bench.now, jumped))) == 1
    assert bench.fact(lambda: bench.core.check_schedules(bench.now, jumped)) == []


@pytest.mark.parametrize("make", [with_bad_b, with_held_b])
def test_a_schedule_on_marked_content_refreshes_what_serves(make: object) -> None:
    bench: Bench = make()  # type: ignore[operator]
    before = bench.plugin.live
    assert before is not None
    change = bench.change("schedule")
    assert bench.plugin.live is change.new
    assert bench.plugin.live is not before
    assert bench.release() == before.release.number


def test_a_schedule_of_a_plugin_that_closes_is_not_left_due() -> None:
    bench = serving(reload=Every(10.0))
    bench.submit()
    bench.fact(lambda: bench.core.remove(bench.now, "p"))
    assert bench.fact(lambda: bench.core.check_schedules(bench.now + 10, WALL)) == []
    assert bench.core.registry.next_due_s(bench.now + 10, WALL) == 10.0


# -- reload NAME


def test_reload_takes_other_content() -> None:
    bench = serving(reload=OnSignal())
    bench.disk = "B"
    bench.change("reload")
    assert bench.release() == 2


def test_reload_of_the_same_content_is_nothing_to_do() -> None:
    bench = serving()
    assert bench.change("reload").outcome == "unchanged"


@pytest.mark.parametrize("make", [with_bad_b, with_held_b])
def test_reload_tries_marked_content_again(make: object) -> None:
    bench: Bench = make()  # type: ignore[operator]
    bench.lives.clear()
    bench.change("reload")
    assert bench.release() == 2
    assert not bench.plugin.bad
    assert not bench.plugin.held


def test_reload_by_force_takes_the_same_content_too() -> None:
    bench = serving()
    bench.change("reload", force=True)
    assert bench.release() == 1
    assert bench.plugin.live is not None
    assert bench.plugin.live.number == 2


def test_reload_of_marked_content_that_serves_is_nothing_to_do() -> None:
    bench = Bench()
    bench.life("A")
    bench.start("A")
    bench.plugin.bad[digest_of("A")] = "died"  # its watch went badly, there was no other
    assert bench.change("reload").outcome == "unchanged"


# -- rollback


def test_rollback_always_begins() -> None:
    bench = serving()
    bench.write("B")
    bench.after(31)
    bench.rollback()
    assert bench.release() == 1


def test_the_digest_that_a_rollback_leaves_is_held() -> None:
    assert with_held_b().plugin.held == {digest_of("B")}


def test_rollback_without_an_earlier_release_is_not_found() -> None:
    bench = serving()
    with pytest.raises(Fault, match="no earlier release") as caught:
        bench.rollback()
    assert caught.value.code == Code.NOT_FOUND


def test_rollback_to_a_number_that_nobody_has_is_not_found() -> None:
    bench = serving()
    with pytest.raises(Fault, match="no release @9"):
        bench.rollback(to=9)


# -- disabled


def disabled_with_b() -> Bench:
    bench = serving(reload=Disabled())
    bench.disk = "B"
    return bench


@pytest.mark.parametrize("reason", ["file", "signal", "config", "schedule"])
def test_disabled_skips_what_comes_by_itself(reason: Reason) -> None:
    bench = disabled_with_b()
    assert bench.change(reason).outcome == "unchanged"
    assert bench.release() == 1


@pytest.mark.parametrize("force", [False, True])
def test_disabled_refuses_reload(force: bool) -> None:
    bench = disabled_with_b()
    change = bench.change("reload", force=force)
    assert (change.outcome, change.cause) == ("refused", "its reload policy is disabled")
    assert bench.release() == 1


def test_disabled_refuses_rollback() -> None:
    bench = serving()
    bench.write("B")
    spec = replace(bench.spec, reload=Disabled())
    bench.fact(lambda: bench.core.reconfigure(bench.now, spec, needs_change=False))
    assert bench.rollback().outcome == "refused"
    assert bench.release() == 2


def test_disabled_still_loads_once() -> None:
    assert serving(reload=Disabled()).release() == 1


def test_disabled_still_restarts_after_a_crash() -> None:
    bench = serving(reload=Disabled())
    bench.die(bench.workers[0])
    assert [worker.state.value for worker in bench.workers] == ["ready"]


def test_disabled_still_rolls_back_by_itself() -> None:
    bench = serving()
    bench.write("B")
    spec = replace(bench.spec, reload=Disabled())
    bench.fact(lambda: bench.core.reconfigure(bench.now, spec, needs_change=False))
    bench.die(bench.workers[0])
    assert bench.release() == 1


# -- start


def restarted(*, mark: str) -> Bench:
    """A supervisor that starts on content which its history knows as bad or held."""
    past = serving()
    past.write("B")
    past.after(31)
    bench = Bench()
    bench.disk = "B"
    known = past.plugin
    fresh = type(known)(bench.spec)
    fresh.releases = {d: replace(release, path="") for d, release in known.releases.items()}
    fresh.approved = [digest_of("A")]
    if mark == "bad":
        fresh.bad = {digest_of("B"): "died"}
    else:
        fresh.held = {digest_of("B")}
    bench.fact(lambda: bench.core.add(0.0, bench.spec, reason="start", plugin=fresh))
    return bench


@pytest.mark.parametrize("mark", ["bad", "held"])
def test_a_start_on_marked_content_runs_the_approved_release(mark: str) -> None:
    bench = restarted(mark=mark)
    assert bench.release() == 1
    assert bench.plugin.live is not None
    assert bench.plugin.live.release.path.startswith("/store/")


def test_a_start_on_bad_content_without_an_approved_release_fails() -> None:
    bench = Bench()
    plugin = type(serving().plugin)(bench.spec)
    plugin.bad = {digest_of("A"): "ImportError"}
    change = bench.fact(lambda: bench.core.add(0.0, bench.spec, reason="start", plugin=plugin))
    assert change.outcome == "refused"
    assert bench.plugin.state == "failed"


def test_add_tries_bad_content_again() -> None:
    bench = Bench()
    plugin = type(serving().plugin)(bench.spec)
    plugin.bad = {digest_of("A"): "ImportError"}
    bench.fact(lambda: bench.core.add(0.0, bench.spec, reason="add", plugin=plugin))
    assert bench.release() == 1


# -- pin


def test_only_pinned_content_runs() -> None:
    bench = serving(pin=digest_of("A"))
    change = bench.write("B")
    assert change is not None
    assert change.outcome == "refused"
    assert "pin allows only" in change.cause
    assert not bench.plugin.bad
