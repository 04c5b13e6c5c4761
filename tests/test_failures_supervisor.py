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


def config(path: Path, start: str = "exec") -> str:
    return f"""
    [plugins.job]
    source = "{path}"
    start = "{start}"
    workers = 2
    reload = "on-signal"
    probation = "1ms"
    """


@pytest.mark.parametrize("start", STARTS)
def test_a_supervisor_that_is_killed_while_draining_leaves_no_worker_and_is_started_again(
    tmp_path: Path, plugin_file: PluginFile, hold: Hold, start: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=False))
    with Service(tmp_path, config(path, start)) as service, service.connect() as co:
        service.await_line("live")
        straggler = co["job"].submit(1, hold=hold.path)
        hold.wait_for(1)
        plugin_file("job.py", plugin_text("2.0.0", pure=False))
        co.reload("job", wait="cut")
        family = psutil.Process(service.pid).children(recursive=True)
        assert len(family) >= 3
        watched = Watched([member.pid for member in family])

        service.end(signal.SIGKILL)

        watched.await_end(GONE_S)
        with pytest.raises(Disconnected) as lost:
            straggler.result(DEADLINE_S)
        assert lost.value.executed == "maybe"
    with Service(tmp_path, config(path, start)) as service, service.connect() as co:
        assert co["job"](2)[1] == "2.0.0"
        assert co.status()["plugins"]["job"]["generation"] > 2
        assert service.run("history", "--verify").returncode == 0
        assert not [line for line in service.lines if "warning" in line]


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

with launch({"job": {"source": sys.argv[1], "start": sys.argv[3], "workers": 2}}) as co:
    co["job"].submit(1, hold=sys.argv[2]).result()
"""


@pytest.mark.parametrize("start", STARTS)
def test_a_program_that_is_killed_leaves_no_supervisor_no_worker_and_no_folder(
    tmp_path: Path, plugin_file: PluginFile, hold: Hold, start: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=False))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    arguments = [str(path), hold.path, start]
    program = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM, *arguments],
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    hold.wait_for(1)
    family = psutil.Process(program.pid).children(recursive=True)
    assert len(family) >= 3
    watched = Watched([member.pid for member in family])

    program.kill()
    program.wait(DEADLINE_S)

    watched.await_end(DEADLINE_S)
    assert not os.listdir(temporary)
