"""What a plugin keeps of a picture stays what it was, whatever comes after it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from changeover.client import Changeover, launch

from .conftest import PluginFile
from .serving import added

STARTS = ("exec", "spawn", "forkserver")
KEEPS = """
from changeover.worker import Frame, Plugin

class Keeps(Plugin):
    version = "1.0.0"
    kept = []

    def run(self, picture{type}):
        array = getattr(picture, "array", picture)
        self.kept = [*self.kept[-3:], array]
        return [int(each[0, 0, 0]) for each in self.kept]
"""


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, watch="off") as one:
        yield one


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("type_", ["", ": Frame"])
def test_a_picture_that_a_plugin_keeps_never_changes_under_it(
    co: Changeover, plugin_file: PluginFile, type_: str, start: str
) -> None:
    path = plugin_file("keeps.py", KEEPS.format(type=type_))
    pictures = [np.full((90, 160, 3), number, np.uint8) for number in range(20)]
    with added(co, "keeps", source=str(path), start=start) as keeps:
        found = list(keeps.map(pictures, buffersize=8))
    assert found == [list(range(max(0, n - 3), n + 1)) for n in range(20)]
