"""yuv4mpeg, frame by frame: the uncompressed stream that ffmpeg and mjpegtools speak in pipes.

Reads and writes binary streams; holds one frame at a time. Constant rate, video only: `pts`
counts frames. Frame parameters travel in `meta["y4m"]`, so that what went in untouched comes out
byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ..protocol.frame import Frame
from ..protocol.geometry import video_geometry
from .y4m_header import Header, Y4mError

META = "y4m"
_LINE_BYTES = 4096
_FRAME = b"FRAME"


class Y4mReader:
    """The frames of a stream, and its header. Raises Y4mError at once if it is another format.

    Iterating gives every whole frame; a stream that ends inside one raises Y4mError after it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        line = stream.readline(_LINE_BYTES)
        if not line:
            raise Y4mError("no yuv4mpeg stream: the input is empty")
        if not line.endswith(b"\n") and line.startswith(b"YUV4MPEG2 "):
            raise Y4mError(f"the yuv4mpeg header is cut off after {len(line)} bytes")
        self.header = Header.parse(line.removesuffix(b"\n"))

    def __iter__(self) -> Iterator[Frame]:
        header = self.header
        geometry = video_geometry(header.format, header.width, header.height)
        assert geometry is not None  # every format of the header is in the table
        time_base = header.rate and (header.rate[1], header.rate[0])
        field, color = header.field, header.color
        number = 0
        while (parameters := self._next(number)) is not None:
            data = self._stream.read(geometry.size_bytes)
            if len(data) < geometry.size_bytes:
                raise _cut_off(number, len(data), geometry.size_bytes)
            yield Frame(
                data,
                format=header.format,
                width=header.width,
                height=header.height,
                pts=number,
                duration=1,
                time_base=time_base,
                sar=header.sar,
                field=field,
                color=color,
                meta={META: parameters} if parameters else None,
            )
            number += 1

    def _next(self, number: int) -> str | None:
        """The parameters of the next frame's line, None at the end of the stream."""
        line = self._stream.readline(_LINE_BYTES)
        if not line:
            return None
        if line == b"FRAME\n":
            return ""
        if not line.endswith(b"\n") and (line.startswith(_FRAME) or _FRAME.startswith(line)):
            raise Y4mError(f"the stream ends in the first line of frame {number}")
        if not line.startswith(b"FRAME "):
            raise Y4mError(f"frame {number} does not begin with FRAME, but with {line[:24]!r}")
        parameters = line[len(_FRAME) + 1 : -1]
        if not parameters.isascii():
            raise Y4mError(f"the parameters of frame {number} are not ASCII: {parameters[:24]!r}")
        return parameters.decode()


class Y4mWriter:
    """Writes frames; the first one settles size and format, a later change raises Y4mError."""

    def __init__(self, stream: BinaryIO, header: Header) -> None:
        self._stream = stream
        self._header = header
        self._settled: tuple[int, int, str] | None = None

    def write(self, frame: Frame) -> None:
        """One more frame, down to the stream (its buffer is flushed)."""
        kind = (frame.width, frame.height, frame.format)
        if kind != self._settled:
            self._settle(frame, kind)
        self._stream.write(_frame_line(frame))
        self._stream.write(frame.compact())
        self._stream.flush()

    def _settle(self, frame: Frame, kind: tuple[int, int, str]) -> None:
        if self._settled is not None:
            raise Y4mError(
                f"a frame of {_told(kind)} after frames of {_told(self._settled)}: "
                "a yuv4mpeg stream keeps one size and format"
            )
        self._stream.write(self._header.carrying(frame).line())
        self._settled = kind


def _frame_line(frame: Frame) -> bytes:
    parameters = frame.meta.get(META)
    if not parameters:
        return b"FRAME\n"
    if not isinstance(parameters, str) or "\n" in parameters or not parameters.isascii():
        raise Y4mError(f"meta[{META!r}] must be the ASCII words of a frame's line")
    return f"FRAME {parameters}\n".encode()


def _cut_off(number: int, got: int, size: int) -> Y4mError:
    return Y4mError(
        f"the stream ends in frame {number}: {size - got} of its {size} bytes are missing"
    )


def _told(kind: tuple[int, int, str]) -> str:
    return f"{kind[0]}x{kind[1]} {kind[2]}"
