"""What is on disk and what runs: torn writes, gaps, flips, old times; restarts after a kill."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from changeover.client import Changeover, launch

from .conftest import PluginFile
from .pipes import Hold
from .serving import added, await_said, worker_pid

STARTS = ("exec", "spawn", "forkserver")
DEADLINE_S = 30.0
LINES = 400

Load = Callable[[], Any]


def text(version: str, trace: Path, lines: int = LINES) -> str:
    """A long plugin of which every prefix that ends with a line is valid Python too.

    It writes down when its first line runs and when its last one does.
    """
    return "\n".join(
        [
            f"open({str(trace)!r}, 'a').write('begin {version}\\n')",
            "from changeover.worker import plugin",
            f"@plugin(version={version!r}, pure=True)",
            "def job(number=0):",
            f"    return [number, {version!r}]",
            *(f"n = {n + 100000}" for n in range(lines)),
            f"open({str(trace)!r}, 'a').write('end {version}\\n')",
            "",
        ]
    )


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace"


@pytest.fixture
def path(tmp_path: Path, trace: Path) -> Path:
    file = tmp_path / "live" / "job.py"
    file.parent.mkdir()
    file.write_text(text("1.0.0", trace))
    return file


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, settle="400ms", max_spawns=1) as one:
        yield one


@pytest.fixture
def job(co: Changeover, path: Path) -> Iterator[Load]:
    """The plugin, live on 1.0.0: calling it is load, and gives the version that answered."""
    with added(co, "job", source=str(path), probation="1ms"):
        yield lambda: co["job"]()[1]
    changes = [entry for entry in co.history("job") if entry["event"] == "changeover"]
    started = max(at for at, entry in enumerate(changes) if entry["why"] == "add")
    outcomes = [entry["outcome"] for entry in changes[started + 1 :]]
    assert outcomes.count("done") == 1, outcomes


def await_version(job: Load, version: str) -> None:
    """Calls go on until this version answers them."""
    deadline = time.monotonic() + DEADLINE_S
    while job() != version:
        assert time.monotonic() < deadline, "it is not there"


def executions(trace: Path) -> list[str]:
    return trace.read_text().splitlines()


def write_slowly(path: Path, content: str, job: Load) -> None:
    """In place, bit by bit, while jobs go on."""
    with path.open("w") as file:
        for start in range(0, len(content), 40):
            file.write(content[start : start + 40])
            file.flush()
            job()


def test_a_slow_write_in_place_is_one_changeover_and_no_part_of_it_is_run(
    job: Load, path: Path, trace: Path
) -> None:
    write_slowly(path, text("2.0.0", trace, lines=2000), job)
    await_version(job, "2.0.0")
    assert executions(trace) == ["begin 1.0.0", "end 1.0.0", "begin 2.0.0", "end 2.0.0"]


def test_a_schedule_in_the_middle_of_a_write_runs_no_part_of_it(
    co: Changeover, path: Path, trace: Path
) -> None:
    keys = {"reload": {"every": "100ms"}, "start": "forkserver"}
    with added(co, "job", source=str(path), **keys):

        def job() -> Any:
            return co["job"]()[1]

        write_slowly(path, text("2.0.0", trace, lines=2000), job)
        await_version(job, "2.0.0")
    assert executions(trace).count("begin 2.0.0") == executions(trace).count("end 2.0.0")


def test_an_empty_file_is_reported_once_and_costs_nothing(
    co: Changeover, job: Load, path: Path, trace: Path
) -> None:
    later = path.with_name("later.py")
    later.write_text(text("1.0.0", trace))
    with added(co, "later", source=str(later)):
        with co.watch("log", plugin="job") as log:
            path.write_text("")
            await_said(log, "no plugin in the source")
        for version in ("2.0.0", "3.0.0"):
            os.utime(path)
            later.write_text(text(version, trace))  # it settles after what was touched before
            await_version(lambda: co["later"]()[1], version)
            assert job() == "1.0.0"
    path.write_text(text("2.0.0", trace))
    await_version(job, "2.0.0")
    assert sum("no plugin in the source" in line["message"] for line in co.logs("job")) == 1


def test_a_source_that_goes_and_comes_back_is_one_changeover(
    co: Changeover, job: Load, path: Path, trace: Path
) -> None:
    with co.watch("log", plugin="job") as log:
        path.unlink()
        await_said(log, "job.py")
    assert job() == "1.0.0"
    beside = path.with_name("beside")
    beside.write_text(text("2.0.0", trace))
    beside.rename(path)
    await_version(job, "2.0.0")


def test_a_link_that_is_flipped_to_and_fro_is_one_changeover(
    co: Changeover, job: Load, path: Path, trace: Path
) -> None:
    one, two, link = path.with_name("one"), path.with_name("two"), path.with_name("link")
    one.write_text(text("1.0.0", trace))
    two.write_text(text("2.0.0", trace))
    for number in range(41):
        link.symlink_to(one if number % 2 else two)
        link.rename(path)
    await_version(job, "2.0.0")
    assert executions(trace) == ["begin 1.0.0", "end 1.0.0", "begin 2.0.0", "end 2.0.0"]


def same_size_and_time(path: Path, new: str) -> None:
    times = path.stat()
    path.write_text(new)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size


def older(path: Path, new: str) -> None:
    path.write_text(new)
    os.utime(path, (1e9, 1e9))


def hard_link(path: Path, new: str) -> None:
    beside, link = path.with_name("beside"), path.with_name("link")
    beside.write_text(new)
    os.link(beside, link)
    link.rename(path)


@pytest.mark.parametrize("swap", [same_size_and_time, older, hard_link])
def test_other_bytes_are_a_change_whatever_their_times_say(
    job: Load, path: Path, trace: Path, swap: Callable[[Path, str], None]
) -> None:
    swap(path, text("2.0.0", trace))
    await_version(job, "2.0.0")


@pytest.mark.parametrize("start", STARTS)
def test_after_a_kill_the_approved_bytes_are_started_again(
    co: Changeover, path: Path, trace: Path, start: str
) -> None:
    with added(co, "job", source=str(path), start=start, reload="on-signal"):
        path.write_text(text("2.0.0", trace))
        for _ in range(2):
            os.kill(worker_pid(co, "job"), signal.SIGKILL)
            assert co["job"]() == [0, "1.0.0"]
        assert co.reload("job").to["version"] == "2.0.0"


@pytest.mark.parametrize("start", STARTS)
def test_what_was_hashed_is_what_is_started(
    co: Changeover, path: Path, trace: Path, plugin_file: PluginFile, hold: Hold, start: str
) -> None:
    slow = plugin_file("slow.py", f"""
        from changeover.worker import plugin
        open({hold.began!r}, "wb", buffering=0).write(b".")
        open({hold.path!r}, "rb", buffering=0).read(1)

        @plugin(version="1.0.0")
        def slow():
            return None
        """)  # fmt: skip
    keys = {"source": str(path), "start": start, "reload": "on-signal"}
    with added(co, "job", **keys) as job:
        adding = co.connection.request("add", ["slow", {"source": str(slow)}])
        hold.wait_for(1)  # there is no room for another start
        path.write_text(text("2.0.0", trace))
        with co.watch("plugins", plugin="job") as watch:
            reloading = co.connection.request("reload", [["job"], {}])
            phases = (event for event in watch if event.kind == "change_phase")
            assert any(event.params[1]["next"] == "warm" for event in phases)
        path.write_text(text("3.0.0", trace))
        hold.release(1)
        adding.result(DEADLINE_S)
        assert reloading.result(DEADLINE_S)[0]["to"]["version"] == "2.0.0"
        assert job() == [0, "2.0.0"]
    co.remove("slow")
