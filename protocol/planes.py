"""Whether the size, the planes and the bytes of a frame fit together: strangers wrote them all."""

from __future__ import annotations

from collections.abc import Sequence

from .formats import AUDIO
from .geometry import (
    Geometry,
    PlaneLayout,
    audio_geometry,
    unknown_geometry,
    video_geometry,
)

MOST_PIXELS_A_SIDE = 65_535
MOST_SAMPLES = 1 << 26
MOST_PLANES = 256  # planar audio has one a channel


def placed(
    kind: str,
    name: str,
    size: tuple[int, ...],
    data_bytes: int,
    told: Sequence[Sequence[int]] | None,
) -> tuple[Geometry, PlaneLayout]:
    """How a frame of these facts lies in its data. Raises ValueError when it does not.

    `size` is the width and height of video, the samples of audio.
    """
    planes = None if told is None else checked_layout(told, data_bytes)
    if kind == "video":
        known = _video(name, size[0], size[1])
    elif kind == "audio":
        known = _audio(name, size[0], data_bytes, planes)
    else:
        raise ValueError(f"a frame is video or audio, not {kind!r}")
    if known is None:
        if planes is None:
            raise ValueError(f"unknown format {name!r}: give plane_layout")
        return unknown_geometry(planes), planes
    if planes is None:
        if known.size_bytes > data_bytes:
            raise ValueError(
                f"{name} of this size takes {known.size_bytes} bytes, not {data_bytes}"
            )
        return known, known.layout
    if planes != known.layout:
        check_fits(known, planes, name)
    return known, planes


def _video(name: str, width: int, height: int) -> Geometry | None:
    checked_int(width, "width", MOST_PIXELS_A_SIDE, 1)
    checked_int(height, "height", MOST_PIXELS_A_SIDE, 1)
    return video_geometry(name, width, height)


def _audio(name: str, samples: int, data_bytes: int, planes: PlaneLayout | None) -> Geometry | None:
    checked_int(samples, "samples", MOST_SAMPLES, 1)
    return audio_geometry(name, samples, audio_channels(name, data_bytes, samples, planes))


def audio_channels(
    name: str, data_bytes: int, samples: int, layout: PlaneLayout | None = None
) -> int:
    """How many channels these planes hold, or fill all the bytes. Raises ValueError if none."""
    form = AUDIO.get(name)
    if form is None:
        return 0
    if layout is not None and form.is_planar:
        return len(layout)
    if layout is not None:
        data_bytes = layout[0][1]
        return max(1, data_bytes // (form.sample_bytes * samples))
    channels, rest = divmod(data_bytes, form.sample_bytes * samples)
    if rest or not 0 < channels <= MOST_PLANES:
        raise ValueError(f"{data_bytes} bytes are no whole channels of {samples} {name} samples")
    return channels


def checked_layout(layout: Sequence[Sequence[int]], data_bytes: int) -> PlaneLayout:
    """The planes as they were told by a stranger. Raises ValueError if one leaves the data."""
    if not isinstance(layout, (list, tuple)) or not 0 < len(layout) <= MOST_PLANES:
        raise ValueError(f"planes must be 1 to {MOST_PLANES} of [offset, stride, rows]")
    planes = []
    for index, plane in enumerate(layout):
        if not isinstance(plane, (list, tuple)) or len(plane) != 3:
            raise ValueError(f"plane {index} must be [offset, stride, rows]")
        offset, stride, rows = (checked_int(part, f"plane {index}", 1 << 53) for part in plane)
        if offset + stride * rows > data_bytes:
            raise ValueError(
                f"plane {index} ends at byte {offset + stride * rows}, the data at {data_bytes}"
            )
        planes.append((offset, stride, rows))
    return tuple(planes)


def check_fits(geometry: Geometry, layout: PlaneLayout, name: str) -> None:
    """Raises ValueError if these planes are too few or too small for the format and size."""
    if len(layout) != len(geometry.layout):
        raise ValueError(f"{name} has {len(geometry.layout)} planes, not {len(layout)}")
    for index, (_, stride, rows) in enumerate(layout):
        _, least_stride, least_rows = geometry.layout[index]
        if stride < least_stride or rows < least_rows:
            raise ValueError(
                f"plane {index} of {name}: {rows} rows of {stride} bytes, "
                f"at least {least_rows} of {least_stride} are needed"
            )


def checked_int(value: object, what: str, most: int, least: int = 0) -> int:
    """An int within bounds, or ValueError. A bool is no number here."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{what} must be a whole number of {least} to {most}, not {value!r:.40}")
    return value
