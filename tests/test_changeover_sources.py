"""What can be a plugin: a closure, a folder, a wheel, a program in C; and how each is replaced."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from changeover.client import launch

from .conftest import PluginFile
from .pipes import plugin_text

C_SOURCE = Path(__file__).parent.parent / "examples" / "c" / "invert.c"


@pytest.mark.parametrize("how", ["spawn", "forkserver"])
def test_a_closure_runs_and_is_swapped(how: str) -> None:
    factor = 3
    with launch({"times": {"source": lambda x: factor * x, "start": how}}) as co:
        assert co["times"](2) == 6
        other = 10
        assert co.reload("times", lambda x: other * x).outcome == "done"
        assert co["times"](2) == 20


def test_a_folder_is_a_plugin_and_any_file_of_it_counts(plugin_file: PluginFile) -> None:
    plugin_file("shift/helper.py", "BY = 1\n")
    path = plugin_file(
        "shift/__init__.py",
        """
        from changeover.worker import plugin
        from .helper import BY

        @plugin(version="1.0.0", pure=True)
        def shift(number):
            return number + BY
        """,
    ).parent
    with launch({"shift": str(path)}, watch="off") as co:
        assert co["shift"](1) == 2
        plugin_file("shift/helper.py", "BY = 100\n")
        assert co.reload("shift").outcome == "done"
        assert co["shift"](1) == 101


def test_a_module_beside_the_source_is_staged_with_it(plugin_file: PluginFile) -> None:
    plugin_file("helper.py", "BY = 1\n")
    path = plugin_file(
        "shift.py",
        """
        import helper
        from changeover.worker import plugin

        @plugin(version="1.0.0", pure=True)
        def shift(number):
            return number + helper.BY
        """,
    )
    with launch({"shift": str(path)}, watch="off") as co:
        plugin_file("helper.py", "BY = 100\n")
        assert co["shift"](1) == 2  # staged bytes, not the live file
        assert co.reload("shift").outcome == "done"
        assert co["shift"](1) == 101


def test_a_zip_is_a_plugin(tmp_path: Path) -> None:
    path = tmp_path / "job.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("job.py", plugin_text("1.0.0", pure=True))
    with launch({"job": str(path)}, watch="off") as co:
        assert co["job"](4)[:2] == [4, "1.0.0"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_program_in_c_runs_and_is_swapped(tmp_path: Path) -> None:
    program = tmp_path / "invert"
    subprocess.run(["cc", "-O2", "-o", str(program), str(C_SOURCE)], check=True)
    with launch({"invert": {"command": [str(program)]}}, watch="off") as co:
        assert co["invert"](b"\x00\x01\xff") == b"\xff\xfe\x00"
        rebuilt = tmp_path / "rebuilt"
        subprocess.run(["cc", "-O1", "-g", "-o", str(rebuilt), str(C_SOURCE)], check=True)
        rebuilt.replace(program)
        outcome = co.reload("invert")
        assert (outcome.outcome, outcome.to["number"]) == ("done", 2)
        assert co["invert"](b"\x00\x01\xff") == b"\xff\xfe\x00"
