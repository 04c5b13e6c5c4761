"""The check that nothing is left behind has to be able to fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# No plugins to load, no options of the machine's, lines that are not cut.
PLAIN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "COLUMNS": "200"}
LEAKY = """
import os, subprocess, threading
kept = []

def test_descriptor():
    os.pipe()

def test_process():
    kept.append(subprocess.Popen(["sleep", "100"]))

def test_orphan():
    subprocess.run(["sh", "-c", "sleep 100 >/dev/null 2>&1 &"], check=True)

def test_thread():
    threading.Thread(target=threading.Event().wait, name="lingers", daemon=True).start()

def test_tidy():
    with open("/dev/null"):
        subprocess.run(["true"], check=True)
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What pytest said of each of the tests above, under this folder's own check."""
    folder = tmp_path_factory.mktemp("leaks")
    check = (Path(__file__).parent / "tidy.py").read_text()
    (folder / "conftest.py").write_text(check.replace("GRACE_S = 5.0", "GRACE_S = 0.2"))
    (folder / "test_leaks.py").write_text(LEAKY)
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-p", "no:xdist", "-rA", "--tb=line", str(folder)],
        cwd=folder,
        env={**os.environ, **PLAIN},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout + ran.stderr
    lines = [line.split(maxsplit=3) for line in ran.stdout.splitlines() if "::test_" in line]
    return {line[1].partition("::test_")[2]: line[-1] for line in lines if line[0] != "PASSED"}


@pytest.mark.parametrize(
    ("leak", "words"),
    [
        ("descriptor", "left behind: descriptor "),
        ("process", "left behind: process "),
        ("orphan", "left behind: process "),
        ("thread", "left behind: thread lingers"),
    ],
)
def test_what_is_left_behind_fails_the_test(leak: str, words: str, report: dict[str, str]) -> None:
    assert words in report[leak]


def test_a_tidy_test_passes(report: dict[str, str]) -> None:
    assert set(report) == {"descriptor", "process", "orphan", "thread"}
