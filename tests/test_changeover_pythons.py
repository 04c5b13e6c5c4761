"""`python =`: from one interpreter to another while work flows, and to what is none."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover.client import Changeover, Refused, launch

from . import pythons
from .conftest import PluginFile
from .serving import DEADLINE_S, Service

WHERE = """
    import sys
    from changeover.worker import plugin

    @plugin(version="1.0.0", pure=True)
    def where():
        return [sys.prefix, "%d.%d" % sys.version_info[:2]]
"""
NEGATIVE = """
    from changeover.worker import Frame, plugin

    @plugin(version="1.0.0", pure=True)
    def negative(frame: Frame) -> Frame:
        return frame.like(255 - frame.array)
"""
KEYS = 'warm_timeout = "20s"\nrestart = "1ms..2ms"\nreload = "on-signal"\n'
Write = Callable[[str], object]


@pytest.fixture(scope="session")
def venvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("venvs")


@contextmanager
def serving(folder: Path, source: Path, python: str = "") -> Iterator[tuple[Service, Write]]:
    """A supervisor with one plugin, and how to write another `python` into its config."""

    def text(python: str) -> str:
        return f'[plugins.where]\nsource = "{source}"\n{KEYS}python = "{python}"\n'

    with Service(folder, text(python)) as service:
        service.await_line("1.0.0 @1 live")
        yield service, lambda python: Path(folder, "changeover.toml").write_text(text(python))
        assert service.run("stop") == 0
        assert service.wait() == 0


def reload(service: Service) -> tuple[int, str]:
    """The exit code of a bare `reload`, and all that it said."""
    command = service.begin("reload")
    said = "".join(command.communicate(timeout=DEADLINE_S))
    return command.returncode, said


def facts(co: Changeover, name: str = "where") -> dict[str, Any]:
    found: dict[str, Any] = co.status()["plugins"][name]
    return found


@pytest.mark.parametrize("version", dict.fromkeys(["3.9", "3.13", pythons.OURS]))
def test_another_python_is_a_changeover_to_the_same_release(
    plugin_file: PluginFile, tmp_path: Path, venvs: Path, version: str
) -> None:
    venv = pythons.bare_venv(version, venvs)
    with serving(tmp_path, plugin_file("where.py", WHERE)) as (service, write):
        with service.client() as co:
            before = facts(co)
        write(str(venv))
        assert reload(service)[0] == 0
        with service.client() as co:
            assert co["where"]() == [str(venv), version]
            after = facts(co)
    assert (after["release"]["number"], after["python"]) == (1, str(venv))
    assert after["generation"] > before["generation"]


def wrong_python(case: str, folder: Path) -> tuple[str, str]:
    """What is in the config, and what people must be told of it."""
    script = folder / "python"
    if case == "missing":
        return str(script), f"cannot start {script}: No such file"
    if case == "not on PATH":
        return "python3.0", "cannot start python3.0: No such file"
    if case == "no venv":
        (folder / "venv").mkdir()
        return str(folder / "venv"), f"cannot start {folder}/venv/bin/python: No such file"
    if case == "not executable":
        script.write_text("#!/bin/sh\n")
        return str(script), f"cannot start {script}: Permission denied"
    if case == "too old":
        return str(pythons.python("3.8")), "a worker takes Python 3.9 or newer"
    ends = {
        "no Python": "exit 0",
        "talks": "echo hello",
        "crashes": "echo broken >&2; kill -SEGV $$",
    }
    script.write_text(f"#!/bin/sh\n{ends[case]}\n")
    script.chmod(0o700)
    told = {"no Python": "exited with status 0", "talks": "wrote to stdout", "crashes": "broken"}
    return str(script), told[case]


@pytest.mark.parametrize(
    "case",
    ["missing", "not on PATH", "no venv", "not executable", "too old", "no Python", "talks",
     "crashes"],
)  # fmt: skip
def test_what_is_no_python_is_refused_and_can_be_put_right(
    plugin_file: PluginFile, tmp_path: Path, venvs: Path, case: str
) -> None:
    venv = pythons.bare_venv(pythons.OURS, venvs)
    wrong, told = wrong_python(case, tmp_path)
    with serving(tmp_path, plugin_file("where.py", WHERE), str(venv)) as (service, write):
        with service.client() as co:
            before = facts(co)
        write(wrong)
        code, said = reload(service)
        assert code == 5
        assert told in said
        assert wrong in said
        with service.client() as co:
            assert co["where"]()[0] == str(venv)
            assert facts(co)["workers"][0]["pid"] == before["workers"][0]["pid"]
        write("")
        code, said = reload(service)
        assert code == 0, said


def test_a_first_start_without_its_python_can_be_put_right(
    plugin_file: PluginFile, tmp_path: Path, venvs: Path
) -> None:
    later = tmp_path / "later"
    source = plugin_file("where.py", WHERE)
    with launch({}, watch="off") as co:
        with pytest.raises(Refused, match="No such file"):
            co.add("where", {"source": source, "python": later})
        later.symlink_to(pythons.bare_venv(pythons.OURS, venvs))
        co.add("where", {"source": source, "python": later})
        assert co["where"]()[0] == str(later)


def test_a_name_is_looked_for_on_the_path_of_the_plugin(
    plugin_file: PluginFile, tmp_path: Path, venvs: Path
) -> None:
    venv = pythons.bare_venv(pythons.OURS, venvs)
    (tmp_path / "blur-python").symlink_to(venv / "bin/python")
    keys = {"python": "python", "env": {"PATH": str(venv / "bin")}}
    with launch({"where": {"source": plugin_file("where.py", WHERE), **keys}}) as co:
        assert co["where"]()[0] == str(venv)


def test_frames_are_arrays_where_the_venv_has_numpy(
    plugin_file: PluginFile, tmp_path: Path
) -> None:
    venv = pythons.bare_venv(pythons.OURS, tmp_path)
    (pythons.site_packages(venv) / "numpy").symlink_to(Path(np.__file__).parent)
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    source = plugin_file("negative.py", NEGATIVE)
    with launch({"negative": {"source": source, "python": venv}}) as co:
        assert np.array_equal(co["negative"](pixels), 255 - pixels)


def test_a_killed_worker_is_replaced_on_the_same_python(
    plugin_file: PluginFile, tmp_path: Path, venvs: Path
) -> None:
    venv = pythons.bare_venv(pythons.OURS, venvs)
    source = plugin_file("where.py", WHERE)
    with launch({"where": {"source": source, "python": venv}}, watch="off") as co:
        subprocess.run(["kill", "-KILL", str(facts(co)["workers"][0]["pid"])], check=True)
        assert co["where"]()[0] == str(venv)


def test_status_names_the_python(plugin_file: PluginFile, tmp_path: Path, venvs: Path) -> None:
    venv = pythons.bare_venv(pythons.OURS, venvs)
    with serving(tmp_path, plugin_file("where.py", WHERE), str(venv)) as (service, _):
        command = service.begin("status", "where", "--json")
        document = json.loads(command.communicate(timeout=DEADLINE_S)[0])
        command = service.begin("status", "where")
        shown = command.communicate(timeout=DEADLINE_S)[0]
    assert document["plugins"]["where"]["python"] == str(venv)
    assert f"python      {venv}\n" in shown
