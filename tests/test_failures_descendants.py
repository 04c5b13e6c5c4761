"""What a worker has started goes with it: children that keep its pipes, sessions, daemons."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from changeover.client import Changeover, launch

from .conftest import PluginFile
from .serving import Service, added, worker_pid

PLUGINS = Path(__file__).parent / "plugins"
STARTS = ("exec", "spawn", "forkserver")
DEADLINE_S = 30.0
GOOD = """
from changeover.worker import plugin

@plugin(version="2.0.0")
def good(number):
    return number
"""


class Family:
    """The reading end of a FIFO that the descendants hold: its end is theirs."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "fifo")
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def await_members(self, count: int) -> None:
        """Until each has said that it is here."""
        said = b""
        while said.count(b"\n") < count:
            said += self._read()

    def await_end(self) -> None:
        """Until nobody is left."""
        while self._read():
            pass

    def _read(self) -> bytes:
        assert select.select([self._fd], [], [], DEADLINE_S)[0], "a descendant is still there"
        return os.read(self._fd, 100)

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, watch="off") as one:
        yield one


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    members = Family(tmp_path)
    yield members
    members.close()


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("ending", ["removed", "replaced", "killed"])
def test_no_descendant_outlives_its_worker(
    co: Changeover, tmp_path: Path, plugin_file: PluginFile, family: Family, ending: str, start: str
) -> None:
    path = tmp_path / "job.py"
    shutil.copy(PLUGINS / "leaves_descendants.py", path)
    with added(co, "job", source=str(path), start=start, rollback_keep="staged") as job:
        pid = job(family.path)
        family.await_members(3)
        plugin_file("job.py", GOOD)
        if ending == "replaced":
            co.reload("job")
        elif ending == "killed":
            os.kill(pid, signal.SIGKILL)
        if ending != "removed":
            family.await_end()
    family.await_end()


def test_no_descendant_outlives_a_private_supervisor(tmp_path: Path, family: Family) -> None:
    with launch({"job": str(PLUGINS / "leaves_descendants.py")}, watch="off") as co:
        co["job"](family.path)
        family.await_members(3)
    family.await_end()


def config(start: str) -> str:
    return f'[plugins.job]\nsource = "{PLUGINS}/leaves_descendants.py"\nstart = "{start}"\n'


def await_guard(service: Service, *, but: int = 0) -> int:
    """The pid of the supervisor's guard, once it has one other than that."""
    supervisor = psutil.Process(service.process.pid)
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for child in supervisor.children():
            if child.pid != but and any(word.endswith("tagged.py") for word in child.cmdline()):
                return child.pid
    raise AssertionError("no guard")


@pytest.mark.parametrize("start", STARTS)
def test_no_descendant_outlives_a_supervisor_that_is_killed(
    tmp_path: Path, family: Family, start: str
) -> None:
    with Service(tmp_path, config(start)) as service, service.client() as co:
        service.await_line("live")
        co["job"](family.path)
        family.await_members(3)
        service.kill()
        family.await_end()


def test_a_guard_that_was_killed_is_started_again_and_does_its_work(
    tmp_path: Path, family: Family
) -> None:
    with Service(tmp_path, config("exec")) as service, service.client() as co:
        service.await_line("live")
        first = await_guard(service)
        os.kill(first, signal.SIGKILL)
        service.await_line("the guard died of SIGKILL; started again")
        await_guard(service, but=first)
        co["job"](family.path)
        family.await_members(3)
        service.kill()
        family.await_end()


def test_a_service_manager_that_signals_everybody_ends_no_guard(
    tmp_path: Path, family: Family
) -> None:
    with Service(tmp_path, config("exec")) as service, service.client() as co:
        service.await_line("live")
        co["job"](family.path)
        family.await_members(3)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(await_guard(service), number)
        service.kill()
        family.await_end()


def test_the_workers_of_another_supervisor_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with (
        Service(tmp_path / "other", config("exec")) as other,
        other.client() as neighbour,
        Service(tmp_path, config("exec")) as service,
    ):
        service.await_line("live")
        other.await_line("live")
        pid, guard = worker_pid(neighbour, "job"), await_guard(service)
        service.kill()
        os.waitpid(guard, 0)  # an orphan: it is our child now
        assert worker_pid(neighbour, "job") == pid
        assert psutil.pid_exists(pid)


PROGRAM = """#!/bin/sh
sh -c 'exec 3>"$0"; echo here >&3; exec sleep 1000' "$FIFO" &
exec "$PYTHON" -P -m changeover.worker "$PLUGIN"
"""


def test_a_child_that_keeps_the_protocols_pipes_delays_neither_the_exit_nor_the_restart(
    co: Changeover, tmp_path: Path, family: Family
) -> None:
    program = tmp_path / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    env = {"FIFO": family.path, "PYTHON": sys.executable, "PLUGIN": str(PLUGINS / "echoes.py")}
    with added(co, "program", command=[str(program)], env=env) as job:
        family.await_members(1)
        os.kill(worker_pid(co, "program"), signal.SIGKILL)
        assert job(5, timeout=DEADLINE_S) == 5
    family.await_end()
