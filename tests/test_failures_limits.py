"""Limits of workers, with real processes: recycling loses nothing, memory is held to its limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from changeover.client import Changeover, WorkerLost, launch

from .conftest import PluginFile
from .pipes import Hold, plugin_text
from .serving import DEADLINE_S, added, await_said, worker_pid

GROWS = """
import os
from changeover.worker import plugin

kept = []

@plugin(version="1.0.0", pure={pure})
def grow(megabytes, unless=None, hold=None):
    if unless is not None and not os.path.exists(unless):
        open(unless, "w").close()
    elif unless is not None:
        return os.getpid()
    kept.append(b"x" * (megabytes << 20))
    if hold is not None:
        open(hold).read(1)
    return os.getpid()
"""
COUNTS = """
from changeover.worker import Plugin

class Counts(Plugin):
    name, version = "counts", "1.0.0"
    def on_load(self, ctx): self.count = 0
    def run(self):
        self.count += 1
        return self.count
    def export_state(self): return {"count": self.count}
    def on_reload(self, old_version, state): self.count = state["count"] if state else 0
"""


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, settle="20ms") as one:
        yield one


def generation(co: Changeover, name: str) -> int:
    number: int = co.status()["plugins"][name]["generation"]
    return number


def plugins_of(co: Changeover) -> list[dict[str, Any]]:
    return list(co.status()["plugins"].values())


def recycled(co: Changeover, name: str) -> list[dict[str, Any]]:
    """The history of its recycles that have ended, once there is one."""
    with co.watch("plugins", plugin=name) as watch:
        while not (found := _recycled(co, name)):
            next(watch)
    return found


def _recycled(co: Changeover, name: str) -> list[dict[str, Any]]:
    entries = co.request("history", {"plugin": name, "limit": 1000}, timeout=DEADLINE_S)
    return [e for e in entries if e["event"] == "changeover" and e["why"] == "recycle"]


def test_max_jobs_recycles_under_load_and_loses_nothing(
    co: Changeover, plugin_file: PluginFile
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=False))
    with added(co, "load", source=str(path), workers=2, max_jobs=20) as job:
        pids: list[int] = []
        for number, (answer, _, pid) in enumerate(job.map(count(), buffersize=8)):
            assert answer == number
            pids.append(pid)
            if len(set(pids)) > 6:
                break
        plugin = co.status()["plugins"]["load"]
        assert (plugin["counts"]["lost"], plugin["release"]["number"]) == (0, 1)
        entry = recycled(co, "load")[0]
        assert (entry["who"], entry["outcome"], entry["killed"]) == ("max_jobs", "done", 0)
        assert "jobs, max_jobs = 20" in entry["cause"]


def test_a_state_lives_through_recycling(co: Changeover, plugin_file: PluginFile) -> None:
    path = plugin_file("counts.py", COUNTS)
    with added(co, "counts", source=str(path), max_jobs=7) as counts:
        for number in count(1):
            assert counts() == number
            if number % 10 == 0 and generation(co, "counts") > 3:
                break


def test_a_leak_is_recycled_above_max_rss(co: Changeover, plugin_file: PluginFile) -> None:
    path = plugin_file("grow.py", GROWS.format(pure=True))
    with added(co, "grow", source=str(path), reload="disabled", max_rss="100MiB") as grow:
        old = grow(1)
        with co.watch("log", plugin="grow") as log:
            grow(120)
            await_said(log, "M, max_rss = 100M), 0 drained, 0 killed, 0 lost")
        assert grow(1) != old
        assert [entry["who"] for entry in recycled(co, "grow")] == ["max_rss"]


def test_max_age_recycles_the_approved_bytes_whatever_the_file_holds(
    co: Changeover, plugin_file: PluginFile
) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    keys = {"source": str(path), "reload": "on-signal", "max_age": "1500ms"}
    with added(co, "aged", **keys) as job:
        old = worker_pid(co, "aged")
        plugin_file("job.py", "this is no Python")
        entry = recycled(co, "aged")[0]
        number, version, pid = job(1)
        assert (entry["outcome"], number, version) == ("done", 1, "1.0.0")
        assert pid != old


def test_a_callable_is_recycled(co: Changeover) -> None:
    with launch({"pid": {"source": lambda: [os.getpid()], "max_jobs": 1}}) as own:
        first = own["pid"]()
        recycled(own, "pid")
        assert own["pid"]() != first


def test_a_changed_file_is_seen_between_recycles(plugin_file: PluginFile) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    keys = {"source": str(path), "max_jobs": 1}
    with launch({"job": keys}, settle="1s") as co, co.watch("plugins", plugin="job") as watch:
        assert co["job"](0)[1] == "1.0.0"
        plugin_file("job.py", plugin_text("2.0.0", pure=True))
        while co["job"](0)[1] != "2.0.0":  # each call leads to a recycle, much faster than `settle`
            next(watch)


def test_twenty_plugins_that_reach_their_limit_together_start_two_at_once(
    plugin_file: PluginFile,
) -> None:
    path = str(plugin_file("job.py", plugin_text("1.0.0", pure=True)))
    names = [f"job{number}" for number in range(20)]
    with (
        launch({name: {"source": path, "max_jobs": 5} for name in names}, max_spawns=2) as co,
        co.watch("workers") as watch,
    ):
        futures = [co[name].submit(n) for n in range(5) for name in names]
        assert all(future.result(DEADLINE_S)[1] == "1.0.0" for future in futures)
        while any(plugin["generation"] <= len(names) for plugin in plugins_of(co)):
            next(watch)
            workers = [worker for plugin in plugins_of(co) for worker in plugin["workers"]]
            states = [worker["state"] for worker in workers if worker["pid"]]
            assert states.count("starting") <= 2
            assert states.count("ready") >= len(names)
        assert all(plugin["counts"]["lost"] == 0 for plugin in plugins_of(co))


# -- memory


def test_a_worker_above_memory_is_killed_and_its_pure_job_is_run_again(
    co: Changeover, plugin_file: PluginFile, hold: Hold, tmp_path: Path
) -> None:
    path = plugin_file("grow.py", GROWS.format(pure=True))
    keys = {"source": str(path), "memory": "200MiB", "crash_loop": "1 in 60s", "poison": 2}
    with added(co, "grow", **keys) as grow, co.watch("log", plugin="grow") as log:
        old = worker_pid(co, "grow")
        job = grow.submit(300, unless=str(tmp_path / "mark"), hold=hold.path)
        await_said(log, "M, memory = 200M\n  1 re-run, 0 lost")
        assert job.result(DEADLINE_S) != old
        plugin = co.status()["plugins"]["grow"]
        assert (plugin["state"], plugin["bad"]) == ("live", {})


def test_the_caller_of_what_is_not_pure_learns_that_it_was_the_memory(
    co: Changeover, plugin_file: PluginFile, hold: Hold
) -> None:
    path = plugin_file("grow.py", GROWS.format(pure=False))
    with added(co, "grow", source=str(path), memory="200MiB") as grow:
        with pytest.raises(WorkerLost, match="memory = 200M") as lost:
            grow(300, hold=hold.path)
        assert (lost.value.reason, lost.value.executed) == ("memory", "maybe")
        assert lost.value.signal == "SIGKILL"
        assert grow(1) > 0


def test_what_a_worker_has_started_counts(
    co: Changeover, plugin_file: PluginFile, hold: Hold
) -> None:
    path = plugin_file(
        "parent.py",
        """
        import subprocess, sys
        from changeover.worker import plugin

        @plugin(version="1.0.0")
        def parent(hold):
            child = "import sys; kept = b'x' * (300 << 20); open(sys.argv[1]).read(1)"
            subprocess.run([sys.executable, "-c", child, hold], check=True)
        """,
    )
    with added(co, "parent", source=str(path), memory="200MiB") as parent:
        with pytest.raises(WorkerLost) as lost:
            parent(hold.path)
        assert lost.value.reason == "memory"


def test_a_release_that_does_not_fit_is_refused(co: Changeover, plugin_file: PluginFile) -> None:
    path = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with added(co, "job", source=str(path), memory="200MiB") as job:
        fat = "kept = b'x' * (300 << 20)\nimport sys; sys.stdin.read(0)\n"
        hang = "import os; r, w = os.pipe(); os.read(r, 1)\n"
        with co.watch("log", plugin="job") as log:
            plugin_file("job.py", fat + hang + plugin_text("2.0.0", pure=True))
            await_said(log, "@2 refused, still on 1.0.0 @1\n  memory: worker ")
        assert job(1)[1] == "1.0.0"
