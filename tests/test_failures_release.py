"""New releases that are bad, however they are started, and good ones that have bad luck."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from changeover.client import Changeover, Refused, WorkerLost, launch

from .conftest import PluginFile
from .pipes import Hold, plugin_text
from .serving import DEADLINE_S, Service, added, worker_pid

PLUGINS = Path(__file__).parent / "plugins"
STARTS = ("exec", "spawn", "forkserver")
MULTIPROCESS = ("spawn", "forkserver")  # `exec` is in test_changeover_bad_release
BAD = {
    "import": ("import nosuchmodule\n", "ModuleNotFoundError"),
    "exit": ("import os; os._exit(0)\n", "exited with status 0"),
    "abort": ("import os; os.abort()\n", "SIGABRT"),
    "hang": ("import os\nos.read(os.pipe()[0], 1)\n", "warm_timeout"),
}


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, watch="off") as one:
        yield one


@pytest.mark.parametrize("start", MULTIPROCESS)
@pytest.mark.parametrize("case", ["import", "exit", "hang"])
def test_a_release_that_fails_before_the_cut_changes_nothing(
    co: Changeover, plugin_file: PluginFile, case: str, start: str
) -> None:
    text, cause = BAD[case]
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with added(co, "job", source=str(path), start=start, warm_timeout="1s") as job:
        pid = worker_pid(co, "job")
        plugin_file("job.py", text)
        with pytest.raises(Refused, match=cause):
            co.reload("job")
        assert job(7) == [7, "1.0.0", pid]
        assert [each.outcome for each in co.reload_changed()] == ["unchanged"]


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("garbage", "wrote to stdout: 'Loading model"),
        ("another protocol", "not protocol 1"),
        ("exits", "exited with status 0"),
    ],
)
def test_a_program_that_does_not_speak_the_protocol_is_refused(
    co: Changeover, plugin_file: PluginFile, how: str, cause: str
) -> None:
    text = (PLUGINS / "speaks_by_hand.py").read_text()
    path = plugin_file("program.py", text)
    with added(co, "job", source=str(path), command=[sys.executable, "{source}"]) as job:
        pid = worker_pid(co, "job")
        plugin_file("program.py", text.replace('HOW = ""', f'HOW = "{how}"'))
        with pytest.raises(Refused, match=cause):
            co.reload("job")
        assert job("here") == "here"
        assert worker_pid(co, "job") == pid
        assert [each.outcome for each in co.reload_changed()] == ["unchanged"]


CRASHES = """
import os
from changeover.worker import plugin

@plugin(version="2.0.0", pure=True)
def job(number, hold=None):
    os.abort()
"""


@pytest.mark.parametrize("start", MULTIPROCESS)
def test_a_release_that_crashes_is_rolled_back_and_costs_no_job(
    co: Changeover, plugin_file: PluginFile, start: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with added(co, "job", source=str(path), start=start) as job:
        pid = worker_pid(co, "job")
        plugin_file("job.py", CRASHES)
        co.reload("job")
        assert list(job.map(range(50))) == [[n, "1.0.0", pid] for n in range(50)]
        counts = co.status()["plugins"]["job"]["counts"]
        assert counts["lost"] == counts["failed"] == 0


def test_reload_that_waits_for_the_watch_exits_6_when_it_was_rolled_back(
    plugin_file: PluginFile, tmp_path: Path
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    plugins = f'[plugins.job]\nsource = "{path}"\nreload = "on-signal"\n'
    with Service(tmp_path, plugins) as service, service.client() as co:
        service.await_line("live")
        plugin_file("job.py", CRASHES)
        reload = service.begin("reload", "job", "--wait", "watched")
        service.await_line("2.0.0 @2 (reload)")
        assert co["job"](1)[1] == "1.0.0"
        out, err = reload.communicate(timeout=DEADLINE_S)
        assert reload.returncode == 6, (out, err)


SLOW = """
import os
from changeover.worker import plugin
open({began!r}, "wb", buffering=0).write(b".")
open({hold!r}, "rb", buffering=0).read(1)

@plugin(version="2.0.0", pure=True)
def job(number):
    return [number, "2.0.0", os.getpid()]
"""


def slow_text(hold: Hold) -> str:
    """A release whose import says that it has begun and hangs."""
    return SLOW.format(began=hold.began, hold=hold.path)


def workers_in(co: Changeover, state: str) -> list[int]:
    """Pids of the plugin's workers in this state."""
    workers = co.status()["plugins"]["job"]["workers"]
    return [worker["pid"] for worker in workers if worker["state"] == state]


@pytest.mark.parametrize("start", STARTS)
def test_a_good_release_whose_warming_worker_is_killed_by_a_stranger_is_not_blamed(
    co: Changeover, plugin_file: PluginFile, hold: Hold, start: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with added(co, "job", source=str(path), start=start, restart="1ms..1ms") as job:
        plugin_file("job.py", slow_text(hold))
        reloading = co.connection.request("reload", [["job"], {}])
        hold.wait_for(1)
        (warming,) = workers_in(co, "starting")
        os.kill(warming, signal.SIGKILL)
        hold.wait_for(1)
        hold.release(1)
        (outcome,) = reloading.result(DEADLINE_S)
        assert (outcome["outcome"], outcome["to"]["version"]) == ("done", "2.0.0")
        assert job(3)[1] == "2.0.0"


@pytest.mark.parametrize("start", STARTS)
def test_the_old_release_is_started_again_when_its_worker_is_killed_meanwhile(
    co: Changeover, plugin_file: PluginFile, hold: Hold, start: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with added(co, "job", source=str(path), start=start) as job:
        pid = worker_pid(co, "job")
        plugin_file("job.py", slow_text(hold))
        reloading = co.connection.request("reload", [["job"], {}])
        hold.wait_for(1)
        os.kill(pid, signal.SIGKILL)
        assert job(1)[1] == "1.0.0"
        hold.release(1)
        assert reloading.result(DEADLINE_S)[0]["outcome"] == "done"
        assert job(3)[1] == "2.0.0"


def test_a_fork_server_that_is_killed_costs_a_pure_plugin_no_job(
    co: Changeover, plugin_file: PluginFile
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with added(co, "job", source=str(path), start="forkserver", workers=2) as job:
        results = []
        for number, result in enumerate(job.map(range(100), buffersize=8)):
            results.append(result[0])
            if number == 30:
                os.kill(psutil.Process(result[2]).ppid(), signal.SIGKILL)
        assert results == list(range(100))


def test_a_program_that_does_not_know_usr2_is_asked_to_end_by_term(
    co: Changeover, plugin_file: PluginFile, hold: Hold
) -> None:
    text = (PLUGINS / "speaks_by_hand.py").read_text()
    path = plugin_file("program.py", text)
    keys = {"source": str(path), "command": [sys.executable, "{source}"], "drain_timeout": "0s"}
    with added(co, "job", **keys) as job:
        straggler = job.submit("hangs", hold.path)
        hold.wait_for(1)
        plugin_file("program.py", text + "\n")
        co.reload("job")
        lost = straggler.exception(DEADLINE_S)
        assert isinstance(lost, WorkerLost)
        assert (lost.signal, lost.exit) == (None, 7)
        assert "TERM" in [line["message"] for line in co.logs("job")]
