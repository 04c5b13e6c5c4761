"""Where the samples of a frame lie: planes, rows and shapes, worked out from the format table.

Chroma of odd sizes is rounded up, as ffmpeg does. Knows no frame and touches no bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, Optional, Tuple  # noqa: UP035  the aliases below run on 3.9

from .formats import AUDIO, VIDEO, PixelFormat

PlaneLayout = Tuple[Tuple[int, int, int], ...]  # noqa: UP006  (offset, stride, rows), in bytes
Shape = Tuple[int, ...]  # noqa: UP006


class Geometry(NamedTuple):
    """How a frame of one format and size lies in memory when there is no padding."""

    dtype: str
    plane_shapes: Tuple[Shape, ...]  # noqa: UP006  rows, columns and, side by side, components
    row_bytes: Shape
    array_shape: Optional[Shape]  # noqa: UP045  None: its planes do not form one array
    layout: PlaneLayout
    size_bytes: int


def _geometry(
    dtype: str, sample_bytes: int, shapes: tuple[Shape, ...], array_shape: Shape | None
) -> Geometry:
    layout, row_bytes, offset = [], [], 0
    for rows, *columns in shapes:
        stride = sample_bytes
        for count in columns:
            stride *= count
        layout.append((offset, stride, rows))
        row_bytes.append(stride)
        offset += stride * rows
    return Geometry(dtype, shapes, tuple(row_bytes), array_shape, tuple(layout), offset)


@lru_cache(maxsize=64)
def video_geometry(name: str, width: int, height: int) -> Geometry | None:
    """The geometry of a picture; None if the format is not in the table."""
    form = VIDEO.get(name)
    if form is None:
        return None
    shapes: list[Shape] = []
    for plane in form.planes:
        size = (-(-height >> plane.y), -(-width >> plane.x))
        shapes.append(size if plane.components == 1 else (*size, plane.components))
    return _geometry(
        form.dtype, form.sample_bytes, tuple(shapes), _array_shape(form, width, height)
    )


@lru_cache(maxsize=64)
def audio_geometry(name: str, samples: int, channels: int) -> Geometry | None:
    """The geometry of a piece of sound; None if the format is not in the table."""
    form = AUDIO.get(name)
    if form is None:
        return None
    if form.is_planar:
        return _geometry(
            form.dtype, form.sample_bytes, ((1, samples),) * channels, (channels, samples)
        )
    row = (1, samples * channels)
    return _geometry(form.dtype, form.sample_bytes, (row,), row)


def unknown_geometry(layout: PlaneLayout) -> Geometry:
    """Of a format that is not in the table: rows of bytes, as its planes say."""
    return _geometry("|u1", 1, tuple((rows, stride) for _, stride, rows in layout), None)


def size_of(name: str, shape: Shape) -> tuple[int, int] | None:
    """The width and height of the picture whose array has this shape, None if there is none."""
    form = VIDEO.get(name)
    if form is None or len(shape) < 2 or 0 in shape:
        return None
    width, height = _size_guess(form, shape)
    if width < 1 or height < 1 or _array_shape(form, width, height) != tuple(shape):
        return None
    return width, height


def _array_shape(form: PixelFormat, width: int, height: int) -> Shape | None:
    first = form.planes[0]
    if form.shape == "packed":
        return (height, width) if first.components == 1 else (height, width, first.components)
    if form.shape == "stacked":
        return (len(form.planes), height, width)
    if form.shape != "rows" or any(width % (1 << p.x) or height % (1 << p.y) for p in form.planes):
        return None
    samples = _samples(form, width, height)
    return None if samples % width else (samples // width, width)


def _samples(form: PixelFormat, width: int, height: int) -> int:
    return sum(-(-width >> p.x) * -(-height >> p.y) * p.components for p in form.planes)


def _size_guess(form: PixelFormat, shape: Shape) -> tuple[int, int]:
    if form.shape != "rows":
        return (shape[1], shape[0]) if form.shape == "packed" else (shape[-1], shape[-2])
    # All planes count a whole number of samples in one unit of their subsampling.
    unit_x = 1 << max(plane.x for plane in form.planes)
    unit_y = 1 << max(plane.y for plane in form.planes)
    return shape[1], shape[0] * unit_x * unit_y // _samples(form, unit_x, unit_y)
