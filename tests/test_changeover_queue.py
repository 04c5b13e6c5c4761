"""A new binary while jobs are queued and running: the queue moves, what runs is drained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from changeover.client import Changeover, WorkerLost, launch

from .conftest import PluginFile
from .pipes import Hold, plugin_text

STARTS = ("exec", "spawn", "forkserver")


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    held = Hold(tmp_path)
    yield held
    held.close()


def start(path: Path, **keys: Any) -> Changeover:
    return launch({"job": {"source": str(path), **keys}}, settle="20ms")


@pytest.mark.parametrize("how", STARTS)
def test_queued_jobs_move_and_running_ones_finish_on_the_old_release(
    plugin_file: PluginFile, hold: Hold, how: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=False))
    with start(path, workers=4, start=how) as co:
        running = [co["job"].submit(n, hold=hold.path) for n in range(4)]
        hold.wait_for(4)
        queued = [co["job"].submit(100 + n) for n in range(200)]
        assert co.status()["plugins"]["job"]["queued"] == 200
        plugin_file("job.py", plugin_text("2.0.0", pure=False))
        assert co.reload("job", wait="cut").outcome == "done"
        results = [future.result(30) for future in queued]
        assert [result[:2] for result in results] == [[100 + n, "2.0.0"] for n in range(200)]
        assert {future.info.version for future in queued} == {"2.0.0"}
        assert {future.info.attempts for future in queued} == {1}
        hold.release(4)
        assert [future.result(30)[:2] for future in running] == [[n, "1.0.0"] for n in range(4)]
        assert {future.info.release for future in running} == {1}
        counts = co.status()["plugins"]["job"]["counts"]
        assert counts == {
            "accepted": 204, "done": 204, "failed": 0, "cancelled": 0, "lost": 0, "rerun": 0,
        }  # fmt: skip


@pytest.mark.parametrize("how", STARTS)
def test_a_straggler_that_is_not_pure_is_killed_at_the_drain_timeout(
    plugin_file: PluginFile, hold: Hold, how: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=False))
    with start(path, drain_timeout="50ms", kill_grace="100ms", start=how) as co:
        straggler = co["job"].submit(1, hold=hold.path)
        hold.wait_for(1)
        plugin_file("job.py", plugin_text("2.0.0", pure=False))
        outcome = co.reload("job")
        assert (outcome.outcome, outcome.killed, outcome.lost) == ("done", 1, 1)
        with pytest.raises(WorkerLost) as lost:
            straggler.result(30)
        assert lost.value.reason == "killed_at_drain"
        assert lost.value.executed == "maybe"
        assert co["job"](2)[1] == "2.0.0"


def test_a_straggler_that_is_pure_is_run_again_on_the_new_release(
    plugin_file: PluginFile, hold: Hold
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with start(path, drain_timeout="50ms", kill_grace="100ms") as co:
        straggler = co["job"].submit(1, hold=hold.path)
        hold.wait_for(1)
        plugin_file("job.py", plugin_text("2.0.0", pure=True))
        assert co.reload("job").killed == 1
        hold.wait_for(1)
        hold.release(1)
        assert straggler.result(30)[1] == "2.0.0"
        assert straggler.info.attempts == 2


def test_with_a_drain_timeout_of_zero_the_straggler_is_killed_at_once(
    plugin_file: PluginFile, hold: Hold
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=False))
    with start(path, drain_timeout="0s", kill_grace="100ms") as co:
        straggler = co["job"].submit(1, hold=hold.path)
        hold.wait_for(1)
        plugin_file("job.py", plugin_text("2.0.0", pure=False))
        assert co.reload("job").killed == 1
        assert isinstance(straggler.exception(30), WorkerLost)


def test_a_kill_of_the_worker_costs_a_pure_plugin_no_job(plugin_file: PluginFile) -> None:
    import os
    import signal

    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with start(path, workers=2) as co:
        results = []
        for number, result in enumerate(co["job"].map(range(100), buffersize=8)):
            results.append(result[0])
            if number == 50:
                os.kill(result[2], signal.SIGKILL)
        assert results == list(range(100))


def test_map_keeps_its_order_over_changeovers(plugin_file: PluginFile) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with start(path, workers=3) as co:
        seen, versions = [], []
        for number, result in enumerate(co["job"].map(range(300), buffersize=16)):
            seen.append(result[0])
            versions.append(result[1])
            if number in (50, 150):
                plugin_file("job.py", plugin_text(f"{number}.0.0", pure=True))
                co.reload("job")
        assert seen == list(range(300))
        assert set(versions) == {"1.0.0", "50.0.0", "150.0.0"}
