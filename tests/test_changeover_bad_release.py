"""Everything a release can do wrong: the old one is not touched, or everything goes back to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from changeover.client import Changeover, Refused, launch

from .conftest import PluginFile

GOOD = """
from changeover.worker import plugin

@plugin(version="1.0.0", pure=True)
def echo(number):
    return number
"""
HEAD = "from changeover.worker import Plugin, plugin\n"
CLASS = HEAD + "class Echo(Plugin):\n    name, version = 'echo', '2.0.0'\n"
RUN = "    def run(self, number): return number\n"
REFUSED = {
    "import": ("import nosuchmodule\n" + GOOD, "ModuleNotFoundError", "echo.py:1"),
    "syntax": ("def (:\n", "SyntaxError", "echo.py:1"),
    "empty": ("", "no plugin in the source", "echo.py"),
    "exits with 0": ("import os; os._exit(0)\n", "exited with status 0", ""),
    "sys.exit": ("import sys; sys.exit(3)\n", "SystemExit", "echo.py:1"),
    "hangs": ("import os\nos.read(os.pipe()[0], 1)\n", "warm_timeout", ""),
    "on_load": (CLASS + "    def on_load(self, ctx): raise ValueError('no model')\n" + RUN,
                "on_load: ValueError: no model", "echo.py:4"),
    "on_check": (CLASS + "    def on_check(self, ctx): assert False, 'no boxes'\n" + RUN,
                 "on_check: AssertionError: no boxes", "echo.py:4"),
    "adopt": (CLASS + "    def on_reload(self, old, state): raise OSError('no')\n" + RUN,
              "on_reload: OSError: no", "echo.py:4"),
}  # fmt: skip


def start(path: Path) -> Changeover:
    keys = {"source": str(path), "warm_timeout": "2s", "probation": "20s"}
    return launch({"echo": keys}, watch="off")


def worker_pid(co: Changeover) -> int:
    pid: int = co.status()["plugins"]["echo"]["workers"][0]["pid"]
    return pid


@pytest.mark.parametrize("case", REFUSED)
def test_a_release_that_fails_before_the_cut_changes_nothing(
    plugin_file: PluginFile, case: str
) -> None:
    text, cause, place = REFUSED[case]
    path = plugin_file("echo.py", GOOD)
    with start(path) as co:
        pid = worker_pid(co)
        plugin_file("echo.py", text)
        with pytest.raises(Refused) as refused:
            co.reload("echo")
        assert refused.value.outcome == "refused"
        assert cause in str(refused.value)
        assert place in str(refused.value)
        assert worker_pid(co) == pid
        assert co["echo"](7) == 7
        assert co.status()["plugins"]["echo"]["counts"]["failed"] == 0


def test_a_bad_first_release_is_told_with_file_and_line(plugin_file: PluginFile) -> None:
    path = plugin_file("echo.py", "import nosuchmodule\n")
    with pytest.raises(Refused, match=r"nosuchmodule.*echo\.py:1"):
        start(path)


@pytest.mark.parametrize("calls", [1, 10])
def test_a_release_that_crashes_is_rolled_back_and_costs_no_job(
    plugin_file: PluginFile, calls: int
) -> None:
    crashes = f"""
    import os
    from changeover.worker import plugin

    seen = []

    @plugin(version="2.0.0", pure=True)
    def echo(number):
        seen.append(number)
        if len(seen) >= {calls}:
            os.abort()
        return number
    """
    path = plugin_file("echo.py", GOOD)
    with start(path) as co:
        pid = worker_pid(co)
        plugin_file("echo.py", crashes)
        co.reload("echo")
        assert list(co["echo"].map(range(200))) == list(range(200))
        plugin = co.status()["plugins"]["echo"]
        assert plugin["release"]["version"] == "1.0.0"
        assert plugin["workers"][0]["pid"] == pid  # the parked one, warm
        assert plugin["counts"]["lost"] == plugin["counts"]["failed"] == 0
        assert [entry["outcome"] for entry in co.history() if entry["event"] == "changeover"] == [
            "done", "done", "rolled_back", "done",
        ]  # fmt: skip


def test_a_release_that_errors_is_rolled_back_after_a_bounded_number(
    plugin_file: PluginFile,
) -> None:
    path = plugin_file("echo.py", GOOD)
    with start(path) as co:
        plugin_file("echo.py", GOOD.replace("return number", "raise ValueError(number)"))
        co.reload("echo")
        outcomes = list(co["echo"].map(range(100), buffersize=4, on_error="skip"))
        assert len(outcomes) >= 100 - 5 - 4
        plugin = co.status()["plugins"]["echo"]
        assert plugin["release"]["number"] == 1


def test_bad_content_is_not_tried_again_by_itself_but_by_name(plugin_file: PluginFile) -> None:
    path = plugin_file("echo.py", GOOD)
    with start(path) as co:
        plugin_file("echo.py", "import nosuchmodule\n")
        with pytest.raises(Refused):
            co.reload("echo")
        assert [each.outcome for each in co.reload_changed()] == ["unchanged"]
        with pytest.raises(Refused):
            co.reload("echo")
