"""What every test has: nothing may be left behind, and plugins are files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from .pipes import Hold
from .tidy import nothing_left_behind, pytest_sessionstart

__all__ = ["hold", "nothing_left_behind", "plugin_file", "pytest_sessionstart"]

PluginFile = Callable[[str, str], Path]


@pytest.fixture
def plugin_file(tmp_path: Path) -> PluginFile:
    """Write a plugin: `plugin_file("double.py", "def run(x): ...")`; again = a new release."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.new")
        beside.write_text(dedent(text))
        return beside.replace(path)

    return write


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    """A place for plugins to hang at."""
    held = Hold(tmp_path)
    yield held
    held.close()
