"""The supervisor is killed: nothing outlives it, and nothing of it is in the next one's way."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from changeover.client import Disconnected, launch

from .conftest import PluginFile
from .pipes import Hold, plugin_text
from .serving import DEADLINE_S, Service

STARTS = ("exec", "spawn", "forkserver")
GONE_S = 1.0  # invariant 8


class Watched:
    """Processes of which each is to end."""

    def __init__(self, pids: list[int]) -> None:
        self._pidfds = {os.pidfd_open(pid): pid for pid in pids}

    def await_end(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        left = dict(self._pidfds)
        while left and time.monotonic() < deadline:
            for fd in select.select(list(left), [], [], deadline - time.monotonic())[0]:
                del left[fd]
        for fd in self._pidfds:
            os.close(fd)
        assert not left, f"still there: {list(left.values())}"


def config(path: Path) -> str:
    """Three plugins of one source, one for each way to start."""
    keys = f'source = "{path}"\nreload = "on-signal"\nprobation = "1ms"\n'
    return "".join(f'[plugins.{start}]\nstart = "{start}"\n{keys}' for start in STARTS)


def test_a_supervisor_that_is_killed_while_draining_leaves_no_worker_and_is_started_again(
    tmp_path: Path, plugin_file: PluginFile, hold: Hold
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=False))
    with Service(tmp_path, config(path)) as service, service.client() as co:
        service.await_line("live", 3)
        stragglers = [co[start].submit(1, hold=hold.path) for start in STARTS]
        hold.wait_for(3)
        plugin_file("job.py", plugin_text("2.0.0", pure=False))
        co.reload_changed(wait="cut")
        family = psutil.Process(service.process.pid).children(recursive=True)
        assert len(family) == 8  # two workers of each, the fork server, the guard
        watched = Watched([member.pid for member in family])

        service.kill()

        watched.await_end(GONE_S)
        for straggler in stragglers:
            lost = straggler.exception(DEADLINE_S)
            assert isinstance(lost, Disconnected)
            assert lost.executed == "maybe"
    with Service(tmp_path, config(path)) as service, service.client() as co:
        assert [co[start](2)[1] for start in STARTS] == ["2.0.0"] * 3
        generations = [plugin["generation"] for plugin in co.status()["plugins"].values()]
        assert min(generations) > 6  # no number is used twice
        assert co.request("history", {"verify": True})["ok"]
        assert not [line for line in service.log if "warning" in line]


def test_the_folder_of_a_private_supervisor_that_was_killed_is_removed_by_the_next(
    tmp_path: Path, plugin_file: PluginFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with launch({"job": str(path)}, watch="off") as neighbour:
        neighbours = set(os.listdir(temporary))
        with launch({"job": str(path)}, watch="off") as killed:
            os.kill(killed.status()["pid"], signal.SIGKILL)
        assert set(os.listdir(temporary)) > neighbours
        with launch({}, watch="off"):
            left = set(os.listdir(temporary))
            assert left > neighbours
            assert len(left - neighbours) == 1
        assert set(os.listdir(temporary)) == neighbours
        assert neighbour["job"](1)[0] == 1
    assert not os.listdir(temporary)


PROGRAM = """
import sys
from changeover.client import launch

path, hold, *starts = sys.argv[1:]
with launch({start: {"source": path, "start": start} for start in starts}) as co:
    jobs = [co[start].submit(1, hold=hold) for start in starts]
    jobs[0].result()
"""


def test_a_program_that_is_killed_leaves_no_supervisor_no_worker_and_no_folder(
    tmp_path: Path, plugin_file: PluginFile, hold: Hold
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=False))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    program = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM, str(path), hold.path, *STARTS],
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    hold.wait_for(3)
    family = psutil.Process(program.pid).children(recursive=True)
    assert len(family) == 6  # the supervisor, three workers, the fork server, the guard
    watched = Watched([member.pid for member in family])

    program.kill()
    program.wait(DEADLINE_S)

    watched.await_end(DEADLINE_S)
    assert not os.listdir(temporary)
