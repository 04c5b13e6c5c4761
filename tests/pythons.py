"""Other Pythons of this machine, with bare venvs: nothing of ours is installed there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

WAIT_S = 60.0
OURS = f"{sys.version_info.major}.{sys.version_info.minor}"
_VERSIONS = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


@cache
def python(version: str) -> Path:
    """The interpreter of a version, such as "3.9"; skips the test if there is none."""
    for path in _candidates(version):
        if _version(path) == version:
            return path
    pytest.skip(f"no Python {version} on this machine")


def bare_venv(version: str, folder: Path) -> Path:
    """The folder of a venv of that version with nothing in it, made once."""
    venv = folder / version
    if not venv.exists():
        make = [str(python(version)), "-m", "venv", "--without-pip", str(venv)]
        subprocess.run(make, check=True, timeout=WAIT_S)
    return venv


def site_packages(venv: Path) -> Path:
    """Where its packages would lie."""
    return next(venv.glob("lib/python*/site-packages"))


def _candidates(version: str) -> Iterator[Path]:
    if version == OURS:
        yield Path(sys.executable)
    for folder in os.get_exec_path():
        found = shutil.which(f"python{version}", path=folder)
        if found:
            yield Path(found)
    yield from _VERSIONS.glob(f"{version}.*/bin/python")


def _version(path: Path) -> str:
    """ "" for what only looks like a Python."""
    tell = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run(
        [path, "-c", tell], check=False, capture_output=True, text=True, timeout=WAIT_S
    )
    return done.stdout.strip()
