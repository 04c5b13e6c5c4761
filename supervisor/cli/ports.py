"""stdin and stdout as media streams."""

from __future__ import annotations

import contextlib
import fcntl
import sys
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple, Protocol, cast

import click

from ...client.rawvideo import RawFormat, RawReader, RawWriter
from ...client.y4m import Y4mReader, Y4mWriter
from ...protocol.frame import Frame

_PIPE_BYTES = 1 << 20  # a frame in fewer pieces: four times as fast as with the usual 64 KiB
_BUFFER_BYTES = 1 << 16


class FrameWriter(Protocol):
    """Takes frames one by one."""

    def write(self, frame: Frame) -> None:
        """One more frame, down to the stream."""


class Ports(NamedTuple):
    """The frames that come in, and where they go out."""

    frames: Iterable[Frame]
    writer: FrameWriter


def open_ports(raw: RawFormat | None) -> Ports:
    """Frames of stdin, and a writer of the same format on stdout.

    Reads as far as the header. Raises UsageError on terminals, ValueError for another format.
    """
    if sys.stdin.isatty() or sys.stdout.isatty():
        raise click.UsageError(
            "stdin and stdout carry the stream: "
            "ffmpeg -i CLIP -f yuv4mpegpipe - | changeover pipe PLUGIN | ffplay -"
        )
    source, target = _open(0, "rb"), _open(1, "wb")
    if raw is not None:
        return Ports(RawReader(source, raw), RawWriter(target))
    reader = Y4mReader(source)
    return Ports(reader, Y4mWriter(target, reader.header))


def _open(fd: int, mode: str) -> BinaryIO:
    with contextlib.suppress(OSError):  # a file, or somebody who has used up his pipe memory
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return cast("BinaryIO", open(fd, mode, buffering=_BUFFER_BYTES, closefd=False))
