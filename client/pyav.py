"""PyAV's frames as Frames and back. Imports nothing of PyAV until a frame has to be made.

What goes in comes out the same: samples, pts, time base, duration and colour.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..protocol.frame import Frame
from ..protocol.geometry import video_geometry

if TYPE_CHECKING:
    import av

_COLOR = ("color_range", "colorspace", "color_primaries", "color_trc")
_UNSPECIFIED = (0, 2, 2, 2)  # ffmpeg's numbers for a range, space, primaries, transfer not told


def is_av_frame(value: object) -> bool:
    """A VideoFrame or AudioFrame of PyAV; who never imported it has none."""
    av_frame = sys.modules.get("av.frame")
    return av_frame is not None and isinstance(value, av_frame.Frame)


def of_av(source: Any) -> Frame:
    """The Frame of a PyAV frame; its samples are copied once, padding is left out."""
    facts = {
        "pts": source.pts,
        "duration": getattr(source, "duration", None) or None,
        "time_base": source.time_base,
    }
    if hasattr(source, "sample_rate"):
        return _of_audio(source, facts)
    return _of_video(source, facts)


def to_av(frame: Frame) -> Any:
    """The PyAV frame of a Frame. Raises ValueError for a format that PyAV does not have."""
    result: Any = _to_audio(frame) if frame.kind == "audio" else _to_video(frame)
    result.pts = frame.pts
    if frame.time_base is not None:
        result.time_base = frame.time_base
    if frame.duration is not None:
        result.duration = frame.duration
    return result


def _of_video(source: av.VideoFrame, facts: dict[str, Any]) -> Frame:
    color = tuple(getattr(source, name, none) for name, none in zip(_COLOR, _UNSPECIFIED))  # noqa: B905
    geometry = video_geometry(source.format.name, source.width, source.height)
    parts: list[Any] = []
    layout, offset = [], 0
    for index, plane in enumerate(source.planes):
        row_bytes = plane.line_size if geometry is None else geometry.row_bytes[index]
        parts += _rows(memoryview(plane), plane.line_size, row_bytes, plane.height)
        layout.append((offset, row_bytes, plane.height))
        offset += row_bytes * plane.height
    return Frame(
        b"".join(parts),
        format=source.format.name,
        width=source.width,
        height=source.height,
        plane_layout=layout,
        color=None if color == _UNSPECIFIED else color,
        field=None if source.interlaced_frame else "progressive",
        **facts,
    )


def _rows(plane: memoryview, stride: int, row_bytes: int, rows: int) -> list[memoryview]:
    plane = plane.cast("B")
    if stride == row_bytes:
        return [plane[: stride * rows]]
    return [plane[start : start + row_bytes] for start in range(0, stride * rows, stride)]


def _of_audio(source: av.AudioFrame, facts: dict[str, Any]) -> Frame:
    row = source.samples * source.format.bytes
    if source.format.is_packed:
        row *= source.layout.nb_channels
    planes = [memoryview(plane).cast("B")[:row] for plane in source.planes]
    return Frame(
        b"".join(planes),
        kind="audio",
        format=source.format.name,
        plane_layout=[(row * index, row, 1) for index in range(len(planes))],
        samples=source.samples,
        rate=source.sample_rate,
        layout=source.layout.name,
        **facts,
    )


def _to_video(frame: Frame) -> av.VideoFrame:
    import av

    result = av.VideoFrame(frame.width, frame.height, frame.format)
    for plane, samples in zip(result.planes, frame.planes, strict=True):
        _fill(plane, plane.line_size, samples)
    for name, value in zip(_COLOR, frame.color or (), strict=False):
        if value is not None and hasattr(result, name):
            setattr(result, name, value)
    return result


def _to_audio(frame: Frame) -> av.AudioFrame:
    import av

    channels = frame.array.shape[0] if frame.format.endswith("p") else 0
    layout = frame.layout or {1: "mono", 2: "stereo"}.get(channels, f"{channels}c")
    result = av.AudioFrame(frame.format, layout, frame.samples)
    for plane, samples in zip(result.planes, frame.planes, strict=True):
        _fill(plane, plane.buffer_size, samples)
    if frame.rate is not None:
        result.sample_rate = frame.rate
    return result


def _fill(plane: Any, stride: int, samples: Any) -> None:
    """Copy the rows of one plane to where ffmpeg wants them, padding left as it is."""
    import numpy as np

    rows = np.ascontiguousarray(samples).reshape(samples.shape[0], -1).view("u1")
    target = np.frombuffer(plane, "u1")[: stride * rows.shape[0]].reshape(-1, stride)
    target[:, : rows.shape[1]] = rows
