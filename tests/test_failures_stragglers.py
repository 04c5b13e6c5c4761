"""Old workers that do not let go: killed at the deadline, one outcome for each caller."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

import pytest

from changeover.client import Changeover, WorkerLost, launch

from .conftest import PluginFile
from .pipes import Hold, plugin_text
from .serving import DEADLINE_S, added, worker_pid

PLUGINS = Path(__file__).parent / "plugins"
STARTS = ("exec", "spawn", "forkserver")
GOOD = """
from changeover.worker import plugin

@plugin(version="2.0.0")
def good(number):
    return number
"""


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, watch="off") as one:
        yield one


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("how", ["ignores TERM", "masks signals", "is stuck in C", "is stopped"])
def test_a_worker_that_does_not_let_go_is_killed_at_the_drain_timeout(
    co: Changeover, tmp_path: Path, plugin_file: PluginFile, hold: Hold, how: str, start: str
) -> None:
    path = tmp_path / "job.py"
    shutil.copy(PLUGINS / "clings.py", path)
    keys = {"drain_timeout": "20ms", "kill_grace": "20ms", "start": start}
    with added(co, "job", source=str(path), config={"how": how}, **keys) as job:
        pid = worker_pid(co, "job")
        straggler = job.submit(hold.path)
        hold.wait_for(1)
        if how == "is stopped":
            os.kill(pid, signal.SIGSTOP)
        plugin_file("job.py", GOOD)

        outcome = co.reload("job")

        assert (outcome.killed, outcome.lost) == (1, 1)
        with pytest.raises(WorkerLost) as lost:
            straggler.result(30)
        assert (lost.value.reason, lost.value.executed) == ("killed_at_drain", "maybe")
        assert job(7) == 7
        assert not Path(f"/proc/{pid}").exists()
        counts = co.status()["plugins"]["job"]["counts"]
        assert (counts["accepted"], counts["done"], counts["lost"]) == (2, 1, 1)
        if how in ("ignores TERM", "is stuck in C"):  # those that could be asked for their stack
            lines = [line["message"] for line in co.logs("job")]
            assert any("job.py" in line and "in run" in line for line in lines), lines


@pytest.mark.parametrize("start", STARTS)
def test_a_drain_waits_for_both_of_two_running_jobs(
    co: Changeover, plugin_file: PluginFile, hold: Hold, start: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=False))
    with added(co, "job", source=str(path), start=start, concurrency=2) as job:
        jobs = [job.submit(n, hold=hold.path) for n in range(2)]
        hold.wait_for(2)
        plugin_file("job.py", plugin_text("2.0.0", pure=False))
        co.reload("job", wait="cut")
        hold.release(1)
        assert len(wait(jobs, DEADLINE_S, FIRST_COMPLETED).done) == 1
        states = [worker["state"] for worker in co.status()["plugins"]["job"]["workers"]]
        assert sorted(states) == ["draining", "ready"]
        hold.release(1)
        assert [each.result(DEADLINE_S)[1] for each in jobs] == ["1.0.0"] * 2


@pytest.mark.parametrize("start", STARTS)
def test_a_job_does_not_stay_with_an_idle_worker_that_is_dead(
    co: Changeover, plugin_file: PluginFile, start: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with added(co, "job", source=str(path), start=start, workers=2) as job:
        dead = worker_pid(co, "job")
        supervisor = co.status()["pid"]
        os.kill(supervisor, signal.SIGSTOP)  # it learns of the death and of the jobs at once
        os.kill(dead, signal.SIGKILL)
        jobs = [job.submit(n) for n in range(4)]
        os.kill(supervisor, signal.SIGCONT)
        assert dead not in {each.result(DEADLINE_S)[2] for each in jobs}
