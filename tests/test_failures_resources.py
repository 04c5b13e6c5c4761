"""The machine has nothing left: what runs goes on, and what was to come comes when it can."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from changeover.client import Changeover, launch

from .conftest import PluginFile
from .pipes import plugin_text
from .serving import (
    DEADLINE_S,
    MAY_MOUNT,
    Service,
    added,
    await_said,
    need_mounts,
    worker_pid,
)

STARTS = ("exec", "spawn", "forkserver")


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, settle="20ms") as one:
        yield one


@contextmanager
def few_descriptors(co: Changeover, spare: int) -> Iterator[None]:
    """The supervisor may open so many more, until the end of the block."""
    pid = co.status()["pid"]
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    lowest = [number for number in range(max(taken) + spare + 2) if number not in taken]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest[spare], hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def await_version(co: Changeover, version: str) -> None:
    """Until this version serves."""
    with co.watch("plugins", plugin="job") as watch:
        while co["job"](0)[1] != version:
            next(watch)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(("spare", "words"), [(0, "open files"), (5, "no descriptor left")])
def test_without_descriptors_the_old_release_serves_and_the_new_one_comes_later(
    co: Changeover, plugin_file: PluginFile, spare: int, words: str, start: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with added(co, "job", source=str(path), start=start, restart="10ms..50ms") as job:
        pid = worker_pid(co, "job")
        with few_descriptors(co, spare), co.watch("log", plugin="job") as log:
            plugin_file("job.py", plugin_text("2.0.0", pure=True))
            await_said(log, words)
            assert [job(n) for n in range(20)] == [[n, "1.0.0", pid] for n in range(20)]
        await_version(co, "2.0.0")


@pytest.mark.parametrize("start", STARTS)
def test_without_descriptors_a_worker_that_died_comes_back_later_and_its_job_waits(
    co: Changeover, plugin_file: PluginFile, start: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with added(co, "job", source=str(path), start=start, restart="10ms..50ms") as job:
        with few_descriptors(co, 0), co.watch("log", plugin="job") as log:
            os.kill(worker_pid(co, "job"), signal.SIGKILL)
            waits = job.submit(1)
            await_said(log, "died of SIGKILL")
            await_said(log, "open files")
            assert co.status()["plugins"]["job"]["state"] == "backoff"
            assert not waits.done()
        assert waits.result(DEADLINE_S)[1] == "1.0.0"


class SmallDisk(Service):
    """Its state_dir is a file system of one MiB that only it can see."""

    def __init__(self, folder: Path, plugins: str) -> None:
        (folder / "state").mkdir()
        mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
        super().__init__(
            folder, plugins, wrapper=[*MAY_MOUNT, "sh", "-c", mount, str(folder / "state")]
        )
        self.disk = Path(f"/proc/{self.process.pid}/root{folder / 'state'}")

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is left, until the end of the block."""
        filler = self.disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        try:
            yield
        finally:
            filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path, plugin_file: PluginFile) -> Iterator[SmallDisk]:
    need_mounts()
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    keys = f'[plugins.job]\nsource = "{path}"\nrestart = "10ms..50ms"\n'
    with SmallDisk(tmp_path, keys) as service:
        service.await_line("1.0.0 @1 live")
        yield service


def test_with_a_full_disk_the_old_release_serves_and_the_new_one_comes_later(
    small_disk: SmallDisk, plugin_file: PluginFile
) -> None:
    with small_disk.client() as co:
        with small_disk.full():
            plugin_file("job.py", plugin_text("2.0.0", pure=True))
            small_disk.await_line("the disk is full: free some space")
            assert co["job"](1)[1] == "1.0.0"
            os.kill(worker_pid(co, "job"), signal.SIGKILL)
            assert co["job"](2)[1] == "1.0.0"
        await_version(co, "2.0.0")
        assert co.request("history", {"verify": True})["ok"]
