"""The one file that a worker of another Python runs on: what is in it, when it is made."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from changeover.supervisor.runtime import Runtime
from tests import pythons


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state/runtime"


def run(python: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *arguments],
        check=False, capture_output=True, text=True, timeout=pythons.WAIT_S, cwd="/",
    )  # fmt: skip


def test_nothing_in_it_hides_a_package_of_the_plugins(folder: Path) -> None:
    with zipfile.ZipFile(Runtime(folder).path()) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert tops == {"__main__.py", "changeover"}


def test_it_is_named_by_its_content_and_cannot_be_written(folder: Path) -> None:
    path = Runtime(folder).path()
    assert path.name == f"{hashlib.sha256(path.read_bytes()).hexdigest()}.pyz"
    assert not stat.S_IMODE(path.stat().st_mode) & 0o222


def test_it_is_made_once(folder: Path) -> None:
    first, again = (Runtime(folder).path().stat() for _ in range(2))
    assert first == again
    assert len(os.listdir(folder)) == 1


def test_it_is_made_again_when_it_has_gone(folder: Path) -> None:
    runtime = Runtime(folder)
    runtime.path().unlink()
    assert runtime.path().exists()


def test_it_is_made_again_when_it_is_not_what_it_was(folder: Path) -> None:
    path = Runtime(folder).path()
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[:-1])
    assert Runtime(folder).path().read_bytes() == whole
    assert os.listdir(folder) == [path.name]


def test_a_folder_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "runtime").write_text("a file")
    with pytest.raises(OSError, match="runtime"):
        Runtime(tmp_path / "runtime").path()


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7", "3.8"])
def test_a_python_that_is_too_old_says_so(folder: Path, version: str) -> None:
    done = run(pythons.python(version), Runtime(folder).path(), "plugin.py")
    assert done.returncode == 1
    assert "a worker takes Python 3.9 or newer" in done.stderr
    assert f"is Python {version}" in done.stderr


def test_a_hand_that_starts_it_is_told_what_it_is(folder: Path) -> None:
    done = run(Path(sys.executable), "-I", Runtime(folder).path(), "plugin.py")
    assert done.returncode == 2
    assert "a supervisor starts it" in done.stderr
