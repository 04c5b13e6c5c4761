"""What the operator said in the middle of a crash loop holds."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from changeover.client import Changeover, launch

from .conftest import PluginFile
from .serving import DEADLINE_S, Service, added, await_said, worker_pid

STARTS = ("exec", "spawn", "forkserver")
CRASHES_WHERE = """
import os
if os.path.exists({flag!r}):
    os._exit(3)
from changeover.worker import plugin

@plugin(version="1.0.0", pure=True)
def job(number):
    return number
"""
KEYS = {"restart": "5ms..5ms", "crash_loop": "1000 in 60s", "probation": "1ms"}


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, watch="off") as one:
        yield one


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """While it is there, every worker that starts ends at once."""
    return tmp_path / "flag"


@pytest.fixture
def source(plugin_file: PluginFile, flag: Path) -> str:
    return str(plugin_file("job.py", CRASHES_WHERE.format(flag=str(flag))))


def begin_to_crash(co: Changeover, flag: Path) -> None:
    """And do so again and again."""
    with co.watch("log", plugin="job") as log:
        flag.touch()
        os.kill(worker_pid(co, "job"), signal.SIGKILL)
        await_said(log, "restart 4 of")


@pytest.mark.parametrize("start", STARTS)
def test_what_was_paused_in_a_crash_loop_stays_paused_when_it_is_over(
    co: Changeover, source: str, flag: Path, start: str
) -> None:
    with added(co, "job", source=source, start=start, **KEYS) as job:
        begin_to_crash(co, flag)
        co.pause("job")
        waits = job.submit(1)
        with co.watch("workers", plugin="job") as workers:
            flag.unlink()
            assert any(event.params[1]["state"] == "ready" for event in workers)
        assert co.status()["plugins"]["job"]["state"] == "paused"
        assert not waits.done()
        co.resume("job")
        assert waits.result(DEADLINE_S) == 1


@pytest.mark.parametrize("start", STARTS)
def test_what_was_removed_in_a_crash_loop_is_not_started_again(
    co: Changeover, source: str, flag: Path, start: str
) -> None:
    with added(co, "job", source=source, start=start, **KEYS):
        begin_to_crash(co, flag)
    flag.unlink()
    with co.watch("workers") as workers, added(co, "other", source=source, start=start):
        facts = (event.params[1] for event in workers)
        seen = [each["plugin"] for each in takewhile(lambda each: each["state"] != "ready", facts)]
    assert set(seen) == {"other"}


def test_a_supervisor_that_is_stopped_in_a_crash_loop_leaves(
    tmp_path: Path, source: str, flag: Path
) -> None:
    keys = "".join(f'{key} = "{value}"\n' for key, value in KEYS.items())
    with Service(tmp_path, f'[plugins.job]\nsource = "{source}"\n{keys}') as service:
        service.await_line("1.0.0 @1 live")
        with service.client() as co:
            begin_to_crash(co, flag)
        assert service.run("stop") == 0
        assert service.wait() == 0
