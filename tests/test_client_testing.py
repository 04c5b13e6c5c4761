"""The fixture that plugin authors test with, used as they use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from changeover.client import PluginError, WorkerLost
from changeover.client.testing import Stage

from .conftest import PluginFile

INVERT = """
from changeover.worker import Frame, plugin

@plugin(version="1.0.0", pure=True)
def invert(frame: Frame) -> Frame:
    return frame.like(255 - frame.array)
"""
ECHOES = Path(__file__).parent / "plugins" / "echoes.py"


def test_no_frame_is_lost_to_a_changeover_and_a_kill(stage: Stage, plugin_file: PluginFile) -> None:
    invert = stage.load(plugin_file("invert.py", INVERT))
    frames = stage.slate(60)
    assert stage.numbers(frames) == list(range(60))
    out = stage.run(frames, changeover_at=25, kill_at=40)
    assert stage.numbers(out) == list(range(60))
    assert int(out[0].array[-1, -1, 0]) == 127  # it is the plugin's work, not the input
    status = stage.co.status()["plugins"][invert.plugin]
    assert status["generation"] > 1
    assert status["counts"]["lost"] == 0


def test_a_plugin_beside_the_test_is_found_by_its_name(stage: Stage) -> None:
    echo = stage.load("plugins/echoes.py", workers=2)
    assert echo.plugin == "echoes"
    assert echo("hello") == "hello"
    assert len(stage.co.status()["plugins"]["echoes"]["workers"]) == 2


def test_a_callable_can_be_tried_too(stage: Stage) -> None:
    stage.load(lambda x: 2 * x)
    assert stage.run([1, 2, 3]) == [2, 4, 6]


def test_the_plugin_s_own_errors_are_raised_where_they_happen(stage: Stage) -> None:
    def picky(number: int) -> int:
        if number == 2:
            raise ValueError("not two")
        return number

    stage.load(picky)
    with pytest.raises(PluginError, match="not two"):
        stage.run(range(5))
    assert stage.run(range(5), on_error="skip") == [0, 1, 3, 4]


def test_a_kill_costs_a_plugin_that_is_not_pure_its_job(stage: Stage, tmp_path: Path) -> None:
    import os

    hold = str(tmp_path / "hold")
    os.mkfifo(hold)
    os.mkfifo(hold + ".began")
    stage.load("plugins/holds.py")

    def items() -> object:
        yield hold
        with open(hold + ".began", "rb", buffering=0) as file:
            file.read(1)
        yield hold

    with pytest.raises(WorkerLost):
        stage.run(items(), kill_at=1)  # type: ignore[arg-type]


def test_what_is_missing_is_said(stage: Stage) -> None:
    with pytest.raises(FileNotFoundError, match=r"no nosuch\.py in"):
        stage.load("nosuch.py")
    with pytest.raises(RuntimeError, match="load one first"):
        stage.run([1])


def test_installing_it_makes_no_pytest_slower() -> None:
    program = (
        "import sys, changeover.client.testing\n"
        "heavy = {'asyncio', 'numpy', 'av', 'dill', 'msgpack', 'pydantic', 'multiprocess'}\n"
        "loaded = heavy & sys.modules.keys() - before\n"
        "assert not loaded, loaded\n"
    )
    program = "import sys, pytest\nbefore = set(sys.modules)\n" + program
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_stranger_s_test_passes_with_the_installed_plugin(tmp_path: Path) -> None:
    (tmp_path / "invert.py").write_text(INVERT)
    (tmp_path / "test_invert.py").write_text(
        "def test_invert(stage):\n"
        "    stage.load('invert.py')\n"
        "    out = stage.run(stage.slate(20), changeover_at=5, kill_at=10)\n"
        "    assert stage.numbers(out) == list(range(20))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
