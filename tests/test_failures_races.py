"""Changeovers that get in each other's way: the newest wins, and two generations are the most."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from changeover.client import Changeover, launch

from .conftest import PluginFile
from .pipes import Hold, plugin_text
from .serving import DEADLINE_S, added

STARTS = ("exec", "spawn", "forkserver")


class Census:
    """The generations of a plugin that have a process, counted from what the supervisor tells."""

    def __init__(self, co: Changeover) -> None:
        self.most = 0
        self._alive: dict[str, int] = {}
        self._watch = co.watch("workers", plugin="job")
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        for event in self._watch:
            worker, facts = event.params
            if facts["state"] == "exited":
                self._alive.pop(worker, None)
            else:
                self._alive[worker] = facts["generation"]
            self.most = max(self.most, len(set(self._alive.values())))

    def close(self) -> None:
        self._watch.close()
        self._thread.join()


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, settle="50ms") as one:
        yield one


@pytest.fixture
def census(co: Changeover) -> Iterator[Census]:
    """At the end of every test there were at most two at once."""
    counted = Census(co)
    yield counted
    counted.close()
    assert counted.most == 2


def await_version(job: Any, version: str) -> None:
    """Calls go on until this version answers them."""
    deadline = time.monotonic() + DEADLINE_S
    while job(0)[1] != version:
        assert time.monotonic() < deadline, "it is not there"


@pytest.mark.usefixtures("census")
@pytest.mark.parametrize("start", STARTS)
def test_there_and_back_during_a_drain_ends_where_the_file_is(
    co: Changeover, plugin_file: PluginFile, hold: Hold, start: str
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=False))
    with added(co, "job", source=str(path), start=start, reload="on-signal") as job:
        straggler = job.submit(1, hold=hold.path)
        hold.wait_for(1)
        outcomes = []
        for version in ("2.0.0", "3.0.0", "1.0.0"):
            plugin_file("job.py", plugin_text(version, pure=False))
            outcomes.append(co.connection.request("reload", [["job"], {}]))
            if version == "2.0.0":
                await_version(job, version)  # the first release drains
        hold.release(1)
        assert straggler.result(DEADLINE_S)[1] == "1.0.0"
        ends = [outcome.result(DEADLINE_S)[0]["outcome"] for outcome in outcomes]
        assert ends == ["done", "superseded", "done"]
        assert job(2)[1] == "1.0.0"
        assert co.status()["plugins"]["job"]["release"]["number"] == 1


@pytest.mark.usefixtures("census")
@pytest.mark.parametrize("start", STARTS)
def test_fifty_writes_in_a_second_end_with_the_last(
    co: Changeover, plugin_file: PluginFile, start: str
) -> None:
    path = plugin_file("job.py", plugin_text("0.0.0", pure=True))
    with added(co, "job", source=str(path), start=start, workers=2) as job:
        for number in range(1, 51):
            plugin_file("job.py", plugin_text(f"{number}.0.0", pure=True))
            job(number)
        await_version(job, "50.0.0")
        assert co.reload("job").outcome == "unchanged"
        counts = co.status()["plugins"]["job"]["counts"]
        assert counts["lost"] == counts["failed"] == 0
    assert not [line for line in co.logs() if "Traceback" in line["message"]]


CRASHES = """
import os
from changeover.worker import plugin

@plugin(version="2.0.0", pure=True)
def job(number, hold=None):
    os.abort()
"""
HANGS_WHERE = """
import os
if os.path.exists({flag!r}):
    open({began!r}, "wb", buffering=0).write(b".")
    open({hold!r}, "rb", buffering=0).read(1)
"""


@pytest.mark.usefixtures("census")
@pytest.mark.parametrize("start", STARTS)
def test_a_reload_while_a_rollback_runs_comes_after_it(
    co: Changeover, plugin_file: PluginFile, hold: Hold, tmp_path: Path, start: str
) -> None:
    flag = tmp_path / "flag"
    first = plugin_text("1.0.0", pure=True)
    hangs = HANGS_WHERE.format(flag=str(flag), began=hold.began, hold=hold.path)
    path = plugin_file("job.py", hangs + first)
    keys = {"start": start, "reload": "on-signal", "rollback_keep": "staged"}
    with added(co, "job", source=str(path), **keys) as job:
        plugin_file("job.py", CRASHES)
        co.reload("job")
        flag.touch()
        waiting = job.submit(1)
        hold.wait_for(1)  # the first release, from the store, on its way back
        plugin_file("job.py", plugin_text("3.0.0", pure=True))
        reloading = co.connection.request("reload", [["job"], {}])
        assert not waiting.done()
        hold.release(1)
        (outcome,) = reloading.result(DEADLINE_S)
        assert (outcome["from"]["version"], outcome["to"]["version"]) == ("1.0.0", "3.0.0")
        assert waiting.result(DEADLINE_S)[1] in ("1.0.0", "3.0.0")
        assert job(2)[1] == "3.0.0"
        ends = [entry for entry in co.history("job") if entry["event"] == "changeover"]
        assert [entry["outcome"] for entry in ends[-4:]] == ["done", "rolled_back", "done", "done"]


def test_plugins_that_change_at_once_do_not_lose_what_was_staged(
    co: Changeover, plugin_file: PluginFile
) -> None:
    names = ("one", "two", "three", "four")

    def write(name: str, number: int) -> str:
        text = f"# {name}\n{plugin_text(f'{number}.0.0', pure=True)}"
        return str(plugin_file(f"{name}.py", text))

    with ExitStack() as stack:
        for name in names:
            keys = {"source": write(name, 0), "start": "forkserver", "reload": "on-signal"}
            stack.enter_context(added(co, name, **keys))
        for number in range(1, 9):
            for name in names:
                write(name, number)
            changes = [co.connection.request("reload", [[name], {}]) for name in names]
            ends = [change.result(DEADLINE_S)[0] for change in changes]
            assert [end["outcome"] for end in ends] == ["done"] * 4, ends
