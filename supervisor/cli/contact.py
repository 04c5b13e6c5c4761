"""A contact sheet: small pictures of a run in their order, framed in the colour of the release
that made them. What came out after its worker had been killed has a white frame and a cross.

Keeps a bounded number of pictures, however long the run is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .png import png

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PICTURES = 120
_COLUMNS = 12
_PICTURE_WIDTH = 120
_BORDER = 5
_GAP = 4
_CAPTION = 13
_PAPER = (18, 18, 20)
_INK = (12, 12, 12)
_WHITE = (255, 255, 255)
_COLORS = ((66, 165, 245), (255, 167, 38), (102, 187, 106), (236, 64, 122), (171, 71, 188), (255, 238, 88))
# 3 x 5 dots a sign, row by row from the top, the left dot first.
_SIGNS = {
    "0": "757 555", "1": "262 227", "2": "717 47", "3": "717 17", "4": "557 11", "5": "747 17",
    "6": "747 57", "7": "711 11", "8": "757 57", "9": "757 17", "@": "757 47", "x": "052 50",
}  # fmt: skip


class Picture(NamedTuple):
    """One output frame on the sheet."""

    number: int
    release: int
    is_rerun: bool
    pixels: NDArray[Any]
