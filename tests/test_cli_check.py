"""`changeover check`: a plugin or a config in a throwaway supervisor."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from changeover.supervisor.cli.main import main

Told = pytest.CaptureFixture[str]

PURE = """
from changeover.worker import plugin

@plugin(version="1.2.0", pure=True)
def length(data: bytes):
    return len(data)
"""
COUNTS = """
from changeover.worker import plugin
seen = []

@plugin(version="0.1.0")
def count(data: bytes):
    seen.append(data)
    return len(seen)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two plugins, a broken one, samples; the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "length.py").write_text(PURE)
    (tmp_path / "count.py").write_text(COUNTS)
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    samples = tmp_path / "samples"
    samples.mkdir()
    for number in range(5):
        (samples / f"{number}.bin").write_bytes(bytes(number))
    return tmp_path


def checked(capsys: Told, *line: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the steps of each plugin."""
    code = main(["check", *line, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "changeover.check/1"
    return code, document["plugins"]


def steps(plugin: dict[str, Any]) -> list[tuple[str, bool]]:
    """Name and verdict of each step."""
    return [(step["step"], step["ok"]) for step in plugin["steps"]]


def test_a_good_plugin_stands_a_changeover_and_a_kill(capsys: Told) -> None:
    code, plugins = checked(capsys, "./length.py")

    assert code == 0
    assert steps(plugins["length"]) == [("load", True), ("changeover", True), ("kill -9", True)]
    assert plugins["length"]["steps"][0]["detail"].startswith("1.2.0 @1: run (pure)")


def test_samples_are_run_before_and_through_both(capsys: Told) -> None:
    code, plugins = checked(capsys, "./length.py", "--samples", "samples")

    assert code == 0
    load, samples, changeover, kill = plugins["length"]["steps"]
    assert load["ok"]
    assert samples["detail"] == "5 of 5"
    assert changeover["detail"] == "the same content took over, lost 0"
    assert kill["detail"].endswith("was replaced, all jobs were run again")


def test_what_is_not_pure_may_lose_the_job_that_was_killed(capsys: Told) -> None:
    code, plugins = checked(capsys, "./count.py", "--samples", "samples")

    assert code == 0
    assert plugins["count"]["ok"]


def test_a_plugin_that_does_not_load_fails_with_its_own_line(capsys: Told) -> None:
    assert main(["check", "./broken.py"]) == 1
    shown = capsys.readouterr().out
    assert "FAILED" in shown
    assert "No module named 'no_such_module' (broken.py:1)" in shown


def test_a_sample_that_fails_is_named(folder: Path, capsys: Told) -> None:
    (folder / "count.py").write_text(COUNTS.replace("return len(seen)", "return 1 // len(data)"))

    code, plugins = checked(capsys, "./count.py", "--samples", "samples")

    assert code == 1
    assert steps(plugins["count"]) == [("load", True), ("samples", False)]
    assert plugins["count"]["steps"][1]["detail"].startswith("0.bin: ")
    assert "ZeroDivisionError" in plugins["count"]["steps"][1]["detail"]


def test_a_config_is_checked_whole(folder: Path, capsys: Told) -> None:
    (folder / "changeover.toml").write_text(
        '[defaults]\nworkers = 2\n[plugins.a]\nsource = "length.py"\nreload = "disabled"\n'
        '[plugins.b]\nsource = "broken.py"\n'
    )

    code, plugins = checked(capsys)

    assert code == 1
    assert {name: plugin["ok"] for name, plugin in plugins.items()} == {"a": True, "b": False}


def test_one_plugin_of_a_config_is_checked_by_its_name(folder: Path, capsys: Told) -> None:
    (folder / "other.toml").write_text(
        '[plugins.a]\nsource = "length.py"\n[plugins.b]\nsource = "broken.py"\n'
    )

    code, plugins = checked(capsys, "a", "-c", "other.toml", "-o", "workers=2")

    assert (code, list(plugins)) == (0, ["a"])


def test_a_config_with_four_mistakes_reports_all_four(folder: Path, capsys: Told) -> None:
    (folder / "bad.toml").write_text(
        '[supervisor]\nsettle = 5\n[plugins.a]\nsorce = "x.py"\nworkers = "two"\nfull = "blok"\n'
    )

    assert main(["check", "bad.toml"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "changeover: 4 mistakes in the config; nothing was started"
    assert len(told) == 5


def test_serve_refuses_the_same_config_with_the_same_words(folder: Path, capsys: Told) -> None:
    (folder / "bad.toml").write_text('[plugins.a]\nsorce = "x.py"\n')
    main(["check", "bad.toml"])
    words = capsys.readouterr().err

    assert main(["serve", "-c", "bad.toml"]) == 2
    assert capsys.readouterr().err == words


def test_nothing_is_changed(folder: Path) -> None:
    (folder / "changeover.toml").write_text(
        '[supervisor]\nstate_dir = "state"\nsocket = "s.sock"\n[plugins.a]\nsource = "length.py"\n'
    )
    before = sorted(os.walk(folder))

    assert main(["check"]) == 0
    assert sorted(os.walk(folder)) == before


def test_a_name_that_is_not_in_the_config_is_bad_usage(folder: Path, capsys: Told) -> None:
    (folder / "changeover.toml").write_text('[plugins.a]\nsource = "length.py"\n')

    assert main(["check", "b"]) == 2
    assert "no plugin 'b' in changeover.toml; it has: a" in capsys.readouterr().err


def test_a_private_plugin_that_does_not_start_is_a_failure(capsys: Told) -> None:
    assert main(["call", "./broken.py"]) == 1
    assert "No module named 'no_such_module' (broken.py:1)" in capsys.readouterr().err


def test_a_private_plugin_takes_overrides(capsys: Told) -> None:
    assert main(["call", "./length.py", "data=abc", "-o", "workers=2", "-o", "settle=20ms"]) == 0
    assert capsys.readouterr().out == "3\n"
    assert main(["call", "./length.py", "-o", "wrokers=2"]) == 2
    assert 'unknown key; did you mean "workers"?' in capsys.readouterr().err


def test_a_program_can_be_called_by_its_path(folder: Path, capsys: Told) -> None:
    program = folder / "program"
    program.write_text("#!/bin/sh\necho 'this is no worker'\n")

    assert main(["call", "./program"]) == 2
    assert "neither Python (.py, folder, .zip, .whl) nor executable" in capsys.readouterr().err
    program.chmod(0o755)
    assert main(["call", "./program"]) == 1
    assert "this is no worker" in capsys.readouterr().err
