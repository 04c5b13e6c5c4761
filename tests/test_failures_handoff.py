"""A state that cannot be handed over: the old worker goes on with it, and people learn why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from changeover.client import Changeover, Refused, launch

from .conftest import PluginFile
from .pipes import Hold
from .serving import added, await_said

PLUGINS = Path(__file__).parent / "plugins"
STARTS = ("exec", "spawn", "forkserver")
MIB = 1 << 20
COUNTER = """
import os
from changeover.worker import Plugin

class Counter(Plugin):
    version = "{version}"
    count = 0

    def run(self):
        self.count += 1
        return [self.count, self.version]

    def export_state(self):
        {export}

    def on_reload(self, old_version, state):
        self.count = state
        {adopt}
"""


def counter(version: str, *, export: str = "return self.count", adopt: str = "pass") -> str:
    return COUNTER.format(version=version, export=export, adopt=adopt)


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, watch="off") as one:
        yield one


def refused_reload(co: Changeover) -> str:
    """Why; and the operator was told the same."""
    with co.watch("log", plugin="job") as log:
        with pytest.raises(Refused) as refused:
            co.reload("job")
        assert refused.value.outcome == "refused"
        await_said(log, str(refused.value.cause).splitlines()[0])
    return str(refused.value)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("export", "cause"),
    [
        ("raise ValueError('not now')", "not now"),
        (f"return bytes({80 * MIB})", "bytes"),
        ("return {1, 2}", "is of type set"),
    ],
)
def test_a_state_that_cannot_be_exported_stays_where_it_is(
    co: Changeover, plugin_file: PluginFile, export: str, cause: str, start: str
) -> None:
    path = plugin_file("job.py", counter("1.0.0", export=export))
    with added(co, "job", source=str(path), start=start) as job:
        assert job() == [1, "1.0.0"]
        plugin_file("job.py", counter("2.0.0"))
        assert cause in refused_reload(co)
        assert job() == [2, "1.0.0"]


def test_an_export_that_hangs_is_given_up_and_its_late_answer_applied_to_nobody(
    co: Changeover, plugin_file: PluginFile, hold: Hold
) -> None:
    hangs = f"open({hold.path!r}, 'rb', buffering=0).read(1); return 99"
    path = plugin_file("job.py", counter("1.0.0", export=hangs))
    with added(co, "job", source=str(path), drain_timeout="50ms") as job:
        assert job() == [1, "1.0.0"]
        plugin_file("job.py", counter("2.0.0"))
        assert "no answer to export_state" in refused_reload(co)
        hold.release(1)
        assert job() == [2, "1.0.0"]
        plugin_file("job.py", counter("3.0.0"))
        hold.release(1)
        co.reload("job")
        assert job() == [100, "3.0.0"]


CORRUPT = f"""
import sys
sys.path.insert(0, {str(PLUGINS)!r})
import msgpack
from raw_worker import LOADED, RawWorker

class Exports(RawWorker):
    loaded = LOADED | {{
        "capabilities": {{"state": True}}, "state": {{"format": "1", "accepts": ["1"]}},
    }}

    def on_export_state(self, msgid, *_):
        state = msgpack.packb({{"format": "1", "version": "0.1.0"}})
        broken = b"\\x83" + state[1:] + msgpack.packb("data") + b"\\xa4\\xff\\xff\\xff\\xff"
        self.write(b"\\x94\\x01" + msgpack.packb(msgid) + b"\\xc0" + broken)

Exports().serve()
"""
RUNS = """
import runpy, sys
sys.argv = ["worker", {path!r}]
runpy.run_module("changeover.worker", run_name="__main__")
"""


def test_a_corrupt_state_is_refused_by_the_new_release_and_the_old_one_serves(
    co: Changeover, plugin_file: PluginFile
) -> None:
    new = plugin_file("new/counter.py", counter("2.0.0"))
    program = plugin_file("program.py", CORRUPT)
    command = [sys.executable, "-P", "{source}"]
    with added(co, "job", source=str(program), command=command, swap="handoff") as job:
        assert job(5) == [5]
        plugin_file("program.py", RUNS.format(path=str(new)))
        assert "adopt is not readable" in refused_reload(co)
        assert job(6) == [6]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("adopt", "cause"),
    [("raise ValueError('too old for me')", "too old for me"), ("os._exit(4)", "status 4")],
)
def test_a_new_release_that_refuses_the_state_or_dies_of_it_leaves_it_with_the_old(
    co: Changeover, plugin_file: PluginFile, adopt: str, cause: str, start: str
) -> None:
    path = plugin_file("job.py", counter("1.0.0"))
    with added(co, "job", source=str(path), start=start) as job:
        assert job() == [1, "1.0.0"]
        plugin_file("job.py", counter("2.0.0", adopt=adopt))
        assert cause in refused_reload(co)
        assert job() == [2, "1.0.0"]


@pytest.mark.parametrize("start", STARTS)
def test_a_new_release_that_dies_with_the_state_leaves_the_old_one_with_its_own(
    co: Changeover, plugin_file: PluginFile, start: str
) -> None:
    path = plugin_file("job.py", counter("1.0.0"))
    dies = counter("2.0.0").replace("self.count += 1", "os.abort()")
    with added(co, "job", source=str(path), start=start) as job:
        assert job() == [1, "1.0.0"]
        plugin_file("job.py", dies)
        with co.watch("log", plugin="job") as log:
            co.reload("job")
            job.submit().exception(30)
            await_said(log, "0 re-run, 1 lost, and its state; restart 1 of 5")
            await_said(log, "rolled back to 1.0.0")
        assert job() == [2, "1.0.0"]
