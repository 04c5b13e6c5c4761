"""The filter that the demo swaps: two releases that one can tell apart from across the room."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

NAME = "filter"
_TEXT = '''\
"""One of the two releases that `changeover demo` swaps."""

import numpy as np
from changeover.worker import Frame, plugin


@plugin(version="{version}", pure=True)
def {look}(frame: Frame) -> Frame:
    soft = softened(frame.array)
    return frame.like({expression})


def softened(picture):
    wide = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge").astype(np.float32)
    rows, columns = picture.shape[:2]
    return sum(wide[y : y + rows, x : x + columns] for y in range(3) for x in range(3)) / 9
'''
_LOOKS = (
    ("1.0.0", "warm", "(soft * np.float32([1.0, 0.8, 0.45])).astype(np.uint8)"),
    ("2.0.0", "negative", "(255 - soft).astype(np.uint8)"),
)


class DemoFilter:
    """The filter's file, which is another release after every `swap`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "filter.py"
        self._texts = itertools.cycle(
            _TEXT.format(version=version, look=look, expression=expression)
            for version, look, expression in _LOOKS
        )
        self.swap()

    def swap(self) -> None:
        """Save the other release, as an editor does it: beside, then over the old one."""
        beside = self.path.with_suffix(".new")
        beside.write_text(next(self._texts), encoding="utf-8")
        os.replace(beside, self.path)
