"""Raw video: frames one after the other without any header, as `ffmpeg -f rawvideo` gives them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..protocol.formats import VIDEO
from ..protocol.frame import Frame
from ..protocol.geometry import video_geometry

_SHAPE = re.compile(r"([0-9]{1,5})x([0-9]{1,5}):([a-z0-9]+)@([0-9]{1,9})(?:[/:]([0-9]{1,9}))?")


class RawError(ValueError):
    """A description that is none, or a stream that ends inside a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFormat:
    """What has to be known of a raw stream: `1920x1080:rgb24@25` or `...@30000/1001`."""

    width: int
    height: int
    format: str
    rate: tuple[int, int]

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Read `WxH:FMT@FPS`. Raises RawError."""
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise RawError(f"{text!r} is not WxH:FMT@FPS, as in 1920x1080:rgb24@25")
        width, height, rate, per = (int(match[n] or 1) for n in (1, 2, 4, 5))
        if not all(0 < side < 65_536 for side in (width, height)) or not rate or not per:
            raise RawError(f"{text!r}: sides are 1 to 65535, the rate is above 0")
        if match[3] not in VIDEO:
            raise RawError(f"{text!r}: the pixel format {match[3]} is not known here")
        return cls(width=width, height=height, format=match[3], rate=(rate, per))


class RawReader:
    """The frames of a raw stream. One that ends inside a frame raises RawError after it."""

    def __init__(self, stream: BinaryIO, shape: RawFormat) -> None:
        self._stream = stream
        self._shape = shape

    def __iter__(self) -> Iterator[Frame]:
        shape, number = self._shape, 0
        geometry = video_geometry(shape.format, shape.width, shape.height)
        assert geometry is not None  # RawFormat knows only formats of the table
        while data := self._stream.read(geometry.size_bytes):
            if len(data) < geometry.size_bytes:
                missing = geometry.size_bytes - len(data)
                raise RawError(
                    f"the stream ends in frame {number}: {missing} of its "
                    f"{geometry.size_bytes} bytes are missing"
                )
            yield Frame(
                data,
                format=shape.format,
                width=shape.width,
                height=shape.height,
                pts=number,
                duration=1,
                time_base=(shape.rate[1], shape.rate[0]),
            )
            number += 1


class RawWriter:
    """Writes frames without a header. Their size and format may not change: nobody would see."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._settled: tuple[int, int, str] | None = None

    def write(self, frame: Frame) -> None:
        """One more frame, down to the stream (its buffer is flushed)."""
        kind = (frame.width, frame.height, frame.format)
        if self._settled not in {None, kind}:
            raise RawError(f"{frame!r} after frames of another size or format")
        self._settled = kind
        self._stream.write(frame.compact())
        self._stream.flush()
