"""A contact sheet: small pictures of a run in their order, framed in the colour of the release
that made them. A frame that was done again after its worker was killed has a white, crossed edge.

Keeps a bounded number of pictures, however long the run is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .lettering import HEIGHT, lettering
from .png import png

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PICTURES = 96
_COLUMNS = 12
_PICTURE_WIDTH = 128
_BORDER = 6
_GAP = 5
_CAPTION = HEIGHT + 5
_PAPER = (24, 24, 27)
_INK = (10, 10, 10)
_WHITE = (255, 255, 255)
_RED = (220, 30, 40)
_COLORS = (
    *((66, 165, 245), (255, 160, 30), (102, 187, 106), (236, 64, 122)),
    *((171, 71, 188), (255, 238, 88), (38, 198, 218), (161, 136, 127)),
)


class Picture(NamedTuple):
    """One output frame on the sheet. A milestone is shown even where others are left out."""

    number: int
    release: int
    is_rerun: bool
    is_milestone: bool
    pixels: NDArray[Any]


class ContactSheet:
    """Takes every output frame and keeps as many as fit, evenly spread, and all milestones."""

    def __init__(self, most: int = MOST_PICTURES) -> None:
        self._most = most
        self._every = 1
        self._seen = 0
        self._release: int | None = None
        self._pictures: list[Picture] = []

    def add(self, number: int, release: int, pixels: NDArray[Any], *, is_rerun: bool) -> None:
        """One output frame: rows x columns x 3 of uint8, in output order."""
        is_milestone = is_rerun or release != self._release
        self._release = release
        if is_milestone or self._seen % self._every == 0:
            small = _shrunk(pixels)
            self._pictures.append(Picture(number, release, is_rerun, is_milestone, small))
        self._seen += 1
        if len(self._pictures) > 2 * self._most:
            self._thin_out()

    def png(self) -> bytes:
        """The sheet as a PNG file. Raises ValueError if there is no picture."""
        return png(_sheet([_cell(picture) for picture in self._chosen()]))

    def _chosen(self) -> list[Picture]:
        """All milestones, and as many of the others as there is room for, evenly spread."""
        common = [index for index, each in enumerate(self._pictures) if not each.is_milestone]
        room = max(self._most - len(self._pictures) + len(common), self._most // 4)
        left_out = set(common)
        left_out -= {common[place * len(common) // room] for place in range(room) if common}
        return [each for index, each in enumerate(self._pictures) if index not in left_out]

    def _thin_out(self) -> None:
        self._every *= 2
        keep, common = [], 0
        for picture in self._pictures:
            if picture.is_milestone or common % 2 == 0:
                keep.append(picture)
            common += not picture.is_milestone
        # Very many changeovers: then the newest of them.
        self._pictures = keep[-2 * self._most :]


def _shrunk(pixels: NDArray[Any]) -> NDArray[Any]:
    """The mean of squares of the same size: a whole number smaller, about the wanted width."""
    step = max(1, pixels.shape[1] // _PICTURE_WIDTH)
    rows, columns = pixels.shape[0] // step, pixels.shape[1] // step
    squares = pixels[: rows * step, : columns * step].reshape(rows, step, columns, step, 3)
    small: NDArray[Any] = squares.mean(axis=(1, 3)).astype("u1")
    return small


def _cell(picture: Picture) -> NDArray[Any]:
    import numpy as np

    rows, columns, _ = picture.pixels.shape
    cell = np.empty((rows + 2 * _BORDER + _CAPTION, columns + 2 * _BORDER, 3), "u1")
    cell[:] = _COLORS[(picture.release - 1) % len(_COLORS)]
    if picture.is_rerun:
        _cross_out(cell)
    cell[_BORDER : _BORDER + rows, _BORDER : _BORDER + columns] = picture.pixels
    text = lettering(f"@{picture.release} {picture.number:05d}")
    place = cell[-text.shape[0] - 4 : -4, _BORDER : _BORDER + text.shape[1]]
    place[text] = _INK
    return cell


def _cross_out(cell: NDArray[Any]) -> None:
    import numpy as np

    rows, columns, _ = cell.shape
    stripes = (np.arange(rows)[:, None] + np.arange(columns)[None, :]) // _BORDER % 2 == 0
    edge = slice(None, 2 - _CAPTION - _BORDER // 2)
    cell[edge][stripes[edge]] = _RED
    cell[edge][~stripes[edge]] = _WHITE


def _sheet(cells: list[NDArray[Any]]) -> NDArray[Any]:
    import numpy as np

    if not cells:
        raise ValueError("a contact sheet needs a picture")
    height = max(cell.shape[0] for cell in cells) + _GAP
    width = max(cell.shape[1] for cell in cells) + _GAP
    rows = -(-len(cells) // _COLUMNS)
    sheet = np.empty((rows * height + _GAP, min(_COLUMNS, len(cells)) * width + _GAP, 3), "u1")
    sheet[:] = _PAPER
    for index, cell in enumerate(cells):
        top = index // _COLUMNS * height + _GAP
        left = index % _COLUMNS * width + _GAP
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return sheet
