"""State is handed over: nothing is counted twice, nobody waits for a load."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from changeover.client import Changeover, Refused, launch

from .conftest import PluginFile
from .pipes import Hold

COUNTER = """
from changeover.worker import Plugin

class Counter(Plugin):
    name, version = "counter", "{version}"

    def on_load(self, ctx):
        self.count = 0
        {on_load}

    def run(self, hold=None):
        self.count += 1
        if hold is not None:
            open(hold + ".began", "wb", buffering=0).write(b".")
            open(hold, "rb", buffering=0).read(1)
        return self.count

    def export_state(self):
        {export}
        return {{"count": self.count}}

    def on_reload(self, old_version, state):
        assert old_version.id == "counter"
        if state:
            self.count = state["count"]
"""


def counter(version: str, *, on_load: str = "pass", export: str = "pass") -> str:
    return COUNTER.format(version=version, on_load=on_load, export=export)


def start(path: Path, **keys: str) -> Changeover:
    return launch({"counter": {"source": str(path), **keys}}, watch="off")


def test_a_counter_counts_without_gap_or_repeat_over_ten_changeovers_under_load(
    plugin_file: PluginFile,
) -> None:
    path = plugin_file("counter.py", counter("1.0.0"))
    seen: list[int] = []
    longest_s = [0.0]
    stop = threading.Event()
    slow = "import select; select.select([], [], [], 0.3)"  # a model that takes its time
    with start(path) as co:

        def call() -> None:
            while not stop.is_set():
                began = time.monotonic()
                seen.append(co["counter"]())
                longest_s[0] = max(longest_s[0], time.monotonic() - began)

        caller = threading.Thread(target=call)
        caller.start()
        held_s = []
        try:
            for number in range(10):
                plugin_file("counter.py", counter(f"1.1.{number}", on_load=slow))
                outcome = co.reload("counter")
                took = {phase["phase"]: phase["ms"] for phase in outcome.phases}
                held_s.append(sum(took[p] for p in ("drained", "exported", "adopted")) / 1000)
        finally:
            stop.set()
            caller.join()
    assert seen == list(range(1, len(seen) + 1))
    assert longest_s[0] < 0.3  # less than one load: nobody waited for it
    assert all(hold_s < 0.3 for hold_s in held_s)


def test_an_export_that_raises_is_refused_and_the_old_one_counts_on(
    plugin_file: PluginFile,
) -> None:
    path = plugin_file("counter.py", counter("1.0.0", export="raise ValueError('not now')"))
    with start(path) as co:
        assert co["counter"]() == 1
        plugin_file("counter.py", counter("2.0.0"))
        with pytest.raises(Refused, match="not now"):
            co.reload("counter")
        assert co["counter"]() == 2
        assert co.status()["plugins"]["counter"]["release"]["version"] == "1.0.0"


def test_with_force_an_export_that_raises_costs_the_state_only(plugin_file: PluginFile) -> None:
    path = plugin_file("counter.py", counter("1.0.0", export="raise ValueError('not now')"))
    with start(path) as co:
        co["counter"]()
        plugin_file("counter.py", counter("2.0.0"))
        assert co.reload("counter", force=True).outcome == "done"
        assert co["counter"]() == 1


def test_a_straggler_makes_a_handoff_give_up(plugin_file: PluginFile, tmp_path: Path) -> None:
    hold = Hold(tmp_path)
    path = plugin_file("counter.py", counter("1.0.0"))
    with start(path, drain_timeout="50ms") as co:
        straggler = co["counter"].submit(hold.path)
        hold.wait_for(1)
        plugin_file("counter.py", counter("2.0.0"))
        with pytest.raises(Refused, match="drain_timeout"):
            co.reload("counter")
        hold.release(1)
        assert straggler.result(30) == 1
        assert co["counter"]() == 2
    hold.close()


def test_callers_wait_while_stop_first_replaces_the_worker(plugin_file: PluginFile) -> None:
    path = plugin_file("counter.py", counter("1.0.0"))
    with start(path, swap="stop-first") as co:
        assert co["counter"]() == 1
        plugin_file("counter.py", counter("2.0.0"))
        assert co.reload("counter").outcome == "done"
        assert co["counter"]() == 1  # stop-first hands nothing over


def test_stop_first_starts_the_old_release_again_when_the_new_one_is_refused(
    plugin_file: PluginFile,
) -> None:
    path = plugin_file("counter.py", counter("1.0.0"))
    with start(path, swap="stop-first") as co:
        plugin_file("counter.py", "import nosuchmodule\n")
        with pytest.raises(Refused):
            co.reload("counter")
        assert co["counter"]() == 1
        assert co.status()["plugins"]["counter"]["release"]["version"] == "1.0.0"
