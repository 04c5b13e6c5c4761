"""A picture or a piece of sound, as plugins and callers hold it.

The bytes stay where they came from: arrays and planes are views of them wherever the layout
allows it. numpy is imported only by what returns arrays. Knows nothing of messages; the map that
travels is made in `frame_wire.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .geometry import PlaneLayout, size_of, video_geometry
from .planes import placed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from numpy.typing import NDArray

_FACTS = (
    *("format", "kind", "width", "height", "samples", "rate", "layout"),
    *("pts", "duration", "time_base", "sar", "color", "field", "meta"),
)
_GUESSES = {
    (2, 0, "|u1"): "gray",
    (2, 0, "<u2"): "gray16le",
    (3, 3, "|u1"): "rgb24",
    (3, 4, "|u1"): "rgba",
    (3, 3, "<u2"): "rgb48le",
    (3, 4, "<u2"): "rgba64le",
}


class Frame:
    """One video or audio frame: the bytes, how they lie, and what is known about them.

    `data` is anything with a buffer; `format` is ffmpeg's name. `plane_layout` is one
    `(offset, stride, rows)` in bytes a plane, by default without padding. `pts` and `duration`
    count in `time_base`, a (numerator, denominator) of seconds. `sar` is the sample aspect
    ratio, `color` (range, space, primaries, transfer), `field` the field order; audio has
    `kind="audio"`, `rate` in Hz, `layout` ("stereo") and `samples`. `meta` holds plain data.
    Raises ValueError when size, planes and data do not fit together.
    """

    __slots__ = (
        "__weakref__",
        "_geometry",
        "_time_base",
        "color",
        "data",
        "duration",
        "field",
        "format",
        "height",
        "kind",
        "layout",
        "meta",
        "plane_layout",
        "pts",
        "rate",
        "samples",
        "sar",
        "width",
    )

    def __init__(  # noqa: PLR0913  the facts of the wire form, each by its name
        self,
        data: Any,
        *,
        format: str,  # noqa: A002  the name that ffmpeg, PyAV and the design use
        width: int = 0,
        height: int = 0,
        kind: str = "video",
        plane_layout: Sequence[Sequence[int]] | None = None,
        pts: int | None = None,
        duration: int | None = None,
        time_base: Fraction | tuple[int, int] | None = None,
        sar: tuple[int, int] | None = None,
        color: tuple[Any, ...] | None = None,
        field: str | None = None,
        rate: int | None = None,
        layout: str | None = None,
        samples: int = 0,
        meta: dict[str, Any] | None = None,
    ) -> None:
        view = data if type(data) is memoryview else memoryview(data)
        self.data: memoryview = view if view.format == "B" and view.ndim == 1 else view.cast("B")
        self.format, self.kind = format, kind
        self.width, self.height, self.samples = width, height, samples
        self.pts, self.duration = pts, duration
        self.time_base = time_base
        self.sar, self.color, self.field = sar, color, field
        self.rate, self.layout = rate, layout
        self.meta: dict[str, Any] = {} if meta is None else meta
        self.plane_layout: PlaneLayout
        size = (samples,) if kind == "audio" else (width, height)
        self._geometry, self.plane_layout = placed(
            kind, format, size, self.data.nbytes, plane_layout
        )

    def __repr__(self) -> str:
        size = f"{self.width}x{self.height}" if self.kind == "video" else f"{self.samples} samples"
        return f"<Frame {size} {self.format} pts={self.pts}>"

    @property
    def time_base(self) -> Fraction | None:
        """Seconds that one step of `pts` takes. A (numerator, denominator) may be assigned."""
        if self._time_base is None:
            return None
        from fractions import Fraction

        return Fraction(*self._time_base)

    @time_base.setter
    def time_base(self, value: Fraction | tuple[int, int] | None) -> None:
        if value is None or isinstance(value, tuple):
            self._time_base = value
        else:
            self._time_base = (value.numerator, value.denominator)

    @property
    def array(self) -> NDArray[Any]:
        """All samples as one numpy array, without padding, as PyAV's `to_ndarray` shapes them.

        HxWxC packed; HxW grey; CxHxW 4:4:4; planes one below the other in rows of the width for
        4:2:0, 4:2:2 and nv12 (3H/2 x W for 4:2:0). Audio: channels x samples planar, else
        1 x samples. It is a view, read-only where the data is; only several planes with padding
        or gaps are copied, and that copy is read-only.
        Raises ValueError for a format or an odd size that has no such shape: use `planes`.
        """
        import numpy as np

        geometry = self._geometry
        if geometry.array_shape is None:
            raise ValueError(
                f"{self.format} of {self.width}x{self.height} has no one array: use frame.planes"
            )
        if len(self.plane_layout) == 1:
            return self.planes[0]
        if self._is_tight():
            offset = self.plane_layout[0][0]
            return np.ndarray(geometry.array_shape, geometry.dtype, self.data, offset)
        rows = np.concatenate([plane.reshape(-1) for plane in self.planes])
        rows.flags.writeable = False
        return rows.reshape(geometry.array_shape)

    @property
    def planes(self) -> tuple[NDArray[Any], ...]:
        """One numpy view a plane, without padding: rows x columns (x components, as in nv12).

        A plane of audio is one row. A format that is not in the table gives rows of bytes.
        """
        import numpy as np

        views = []
        dtype = np.dtype(self._geometry.dtype)
        for shape, (offset, stride, _) in zip(self._geometry.plane_shapes, self.plane_layout):
            inner = (
                (dtype.itemsize,)
                if len(shape) == 2
                else (shape[2] * dtype.itemsize, dtype.itemsize)
            )
            views.append(np.ndarray(shape, dtype, self.data, offset, (stride, *inner)))
        return tuple(views)

    def compact(self) -> memoryview | bytes:
        """The bytes of all planes in order, without padding; a view where there is none."""
        if self._is_tight():
            first = self.plane_layout[0][0]
            return self.data[first : first + self._geometry.size_bytes]
        parts = []
        for layout, length, shape in zip(
            self.plane_layout, self._geometry.row_bytes, self._geometry.plane_shapes
        ):
            offset, stride, _ = layout
            starts = range(offset, offset + stride * shape[0], stride or 1)
            parts += [self.data[start : start + length] for start in starts]
        return b"".join(parts)

    def _is_tight(self) -> bool:
        expected = self._geometry.layout
        if self.plane_layout == expected:
            return True
        first = self.plane_layout[0][0]
        return all(
            offset - first == tight and stride == tight_stride
            for (offset, stride, _), (tight, tight_stride, _) in zip(self.plane_layout, expected)
        )

    def own(self) -> Frame:
        """A copy that may be kept and written to; its `data` is a bytearray's."""
        return self.like(bytearray(self.data), plane_layout=self.plane_layout, meta=dict(self.meta))

    def like(self, data: Any, **changes: Any) -> Frame:
        """A frame of new samples that keeps what is known of this one, but for the `changes`.

        `data` is a numpy array as `array` shapes it (its shape gives the new width and height), a
        list of arrays as `planes` has them, or bytes without padding.
        Raises ValueError when it does not fit the format, and says what would.
        """
        facts = {name: getattr(self, name) for name in _FACTS}
        facts.update(changes)
        if hasattr(data, "__array_interface__"):
            return Frame.from_array(data, **facts)
        if isinstance(data, (list, tuple)):
            data = b"".join(plane.tobytes() for plane in data)
        return Frame(data, **facts)

    @classmethod
    def from_array(cls, array: NDArray[Any], format: str | None = None, **facts: Any) -> Frame:  # noqa: A002
        """A frame of this array's samples; it is copied only if it is not C-contiguous.

        Without a format: HxW is gray, HxWx3 rgb24, HxWx4 rgba (uint16: their 16-bit kin).
        """
        import numpy as np

        if format is None:
            format = _guess(array)  # noqa: A001
        data = np.ascontiguousarray(array).reshape(-1).view("u1")
        if facts.get("kind") == "audio":
            return cls(data, format=format, **facts)
        size = size_of(format, array.shape)
        if size is None:
            raise ValueError(f"an array of shape {array.shape} is no {format} picture")
        expected = video_geometry(format, *size)
        if expected is not None and array.dtype != np.dtype(expected.dtype):
            raise ValueError(f"{format} holds {np.dtype(expected.dtype)}, not {array.dtype}")
        facts["width"], facts["height"] = size
        return cls(data, format=format, **facts)


def _guess(array: NDArray[Any]) -> str:
    depth = array.shape[2] if array.ndim == 3 else 0
    name = _GUESSES.get((array.ndim, depth, array.dtype.str))
    if name is None:
        raise ValueError(f"which format is {array.dtype} of shape {array.shape}? Give format=")
    return name
