"""Digits for pictures, as dots: enough to caption a contact sheet without a font."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALE = 2
HEIGHT = 5 * SCALE
_SIGNS = {  # width, then the rows from the top as binary numbers
    "0": (3, 7, 5, 5, 5, 7),
    "1": (3, 2, 6, 2, 2, 7),
    "2": (3, 7, 1, 7, 4, 7),
    "3": (3, 7, 1, 7, 1, 7),
    "4": (3, 5, 5, 7, 1, 1),
    "5": (3, 7, 4, 7, 1, 7),
    "6": (3, 7, 4, 7, 5, 7),
    "7": (3, 7, 1, 1, 1, 1),
    "8": (3, 7, 5, 7, 5, 7),
    "9": (3, 7, 5, 7, 1, 7),
    "@": (5, 14, 17, 23, 16, 14),
    " ": (2, 0, 0, 0, 0, 0),
}


def lettering(text: str) -> NDArray[Any]:
    """A mask of rows x columns, true where there is ink. Raises KeyError for other signs."""
    import numpy as np

    columns: list[list[int]] = []
    for sign in text:
        width, *rows = _SIGNS[sign]
        columns += [[row >> shift & 1 for row in rows] for shift in reversed(range(width))]
        columns.append([0] * 5)
    dots: NDArray[Any] = np.array(columns, bool).T
    return dots.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
