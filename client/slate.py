"""Numbered pictures: the number is in the pixels, as a clapperboard's is, and can be read back.

A block in the top left corner, a quarter of the width and two ninths of the height, holds 4 rows
of 8 cells: a white and a black cell first, then 24 bits of the number and 6 of a check. It is
read by comparing brightness, so it survives inversion, scaling, conversion, gain and mild blur.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from ..protocol.frame import Frame
from ..protocol.geometry import video_geometry
from .media import to_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = (1 << 24) - 1
LEAST_SIZE = (64, 36)
_COLUMNS, _ROWS = 8, 4
_BLOCK = (32, 18)  # a cell is this part of the width and of the height
_NUMBER_BITS, _CHECK_BITS = 24, 6
_BLACK, _WHITE = 16, 235
_LEAST_CONTRAST = 24
_LUMA_FIRST = ("yuv", "nv", "gray", "p01")


class SlateError(ValueError):
    """No number can be read from this picture, or written into it."""


def slate(number: int, width: int = 320, height: int = 180, format: str = "rgb24") -> Frame:  # noqa: A002
    """A grey picture with its number, `pts` the same. Formats: rgb24, gray, yuv420p and such.

    Raises SlateError below 64x36 and for numbers that do not fit 24 bits.
    """
    import numpy as np

    geometry = video_geometry(format, width, height)
    if geometry is None or geometry.dtype != "|u1":
        raise SlateError(f"slates are made in 8-bit formats, not in {format}")
    data = np.full(geometry.size_bytes, 128, np.uint8)
    frame = Frame(data, format=format, width=width, height=height, pts=number)
    stamp(frame, number)
    return frame


def stamp(frame: Frame, number: int) -> None:
    """Write the number into a frame of 8 bits whose data may be written. Raises SlateError."""
    if not 0 <= number <= MOST:
        raise SlateError(f"a slate number is 0 to {MOST}, not {number}")
    if frame.width < LEAST_SIZE[0] or frame.height < LEAST_SIZE[1]:
        raise SlateError(f"{frame!r} is too small for a number: at least 64x36")
    picture = frame.planes[0]
    for index, bit in enumerate(_cells(number)):
        top, bottom, left, right = _place(index, frame.width, frame.height)
        picture[top:bottom, left:right] = _WHITE if bit else _BLACK


def read_number(picture: Any) -> int:
    """The number in a Frame, a numpy array or a PyAV frame. Raises SlateError if there is none."""
    frame = to_frame(picture)
    levels = _levels(_brightness(frame))
    white, black = levels[0], levels[1]
    if abs(white - black) < _LEAST_CONTRAST:
        raise SlateError(f"no slate number in {frame!r}: its marks do not differ")
    middle = (white + black) / 2
    bits = [(level > middle) == (white > black) for level in levels[2:]]
    number = _of_bits(bits[:_NUMBER_BITS])
    if _of_bits(bits[_NUMBER_BITS:]) != _check(number):
        raise SlateError(f"no slate number in {frame!r}: the check does not match")
    return number


def _cells(number: int) -> list[int]:
    return [1, 0, *_bits(number, _NUMBER_BITS), *_bits(_check(number), _CHECK_BITS)]


def _bits(value: int, count: int) -> list[int]:
    return [value >> shift & 1 for shift in reversed(range(count))]


def _of_bits(bits: list[bool]) -> int:
    return sum(bit << shift for shift, bit in enumerate(reversed(bits)))


def _check(number: int) -> int:
    return zlib.crc32(number.to_bytes(3, "big")) & ((1 << _CHECK_BITS) - 1)


def _place(index: int, width: int, height: int) -> tuple[int, int, int, int]:
    row, column = divmod(index, _COLUMNS)
    across, down = _BLOCK
    return (
        row * height // down,
        (row + 1) * height // down,
        column * width // across,
        (column + 1) * width // across,
    )


def _brightness(frame: Frame) -> NDArray[Any]:
    picture = frame.planes[0]
    if frame.format.startswith(_LUMA_FIRST) and picture.ndim == 2:
        return picture.astype("f4") * (255.0 / max(255, int(picture.max())))
    colors: NDArray[Any] = picture[..., :3].astype("f4").mean(axis=2)
    return colors


def _levels(picture: NDArray[Any]) -> list[float]:
    height, width = picture.shape
    levels = []
    for index in range(_COLUMNS * _ROWS):
        top, bottom, left, right = _place(index, width, height)
        margin_y, margin_x = (bottom - top) // 4, (right - left) // 4
        inner = picture[top + margin_y : bottom - margin_y, left + margin_x : right - margin_x]
        levels.append(float(inner.mean()))
    return levels
