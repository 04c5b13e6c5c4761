"""yuv4mpeg: what ffmpeg writes is read, and what was not touched comes out byte for byte."""

from __future__ import annotations

import io
import os
import subprocess
import threading

import pytest

from changeover.client.rawvideo import RawError, RawFormat, RawReader, RawWriter
from changeover.client.y4m import Y4mReader, Y4mWriter
from changeover.client.y4m_header import Header, Y4mError, header_for
from changeover.protocol.frame import Frame
from changeover.protocol.payload import pack_payload, unpack_payload

FORMATS = (
    *("yuv420p", "yuvj420p", "yuv411p", "yuv422p", "yuv444p", "yuva444p", "gray", "gray9le"),
    *("gray10le", "gray12le", "gray16le", "yuv420p9le", "yuv420p10le", "yuv422p10le"),
    *("yuv444p12le", "yuv420p14le", "yuv444p16le"),
)


def clip(pixel_format: str = "yuv420p", *options: str, frames: int = 3) -> bytes:
    command = f"ffmpeg -v error -f lavfi -i testsrc2=s=50x38:r=30000/1001 -frames:v {frames}"
    form = ("-pix_fmt", pixel_format, "-strict", "-1", "-f", "yuv4mpegpipe", "-")
    done = subprocess.run(
        [*command.split(), *options, *form], check=True, capture_output=True, timeout=30
    )
    return done.stdout


def copied(stream: bytes) -> bytes:
    reader, out = Y4mReader(io.BytesIO(stream)), io.BytesIO()
    writer = Y4mWriter(out, reader.header)
    for frame in reader:
        writer.write(unpack_payload(pack_payload(frame)))
    return out.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_what_ffmpeg_writes_comes_out_byte_for_byte(name: str) -> None:
    stream = clip(name)
    assert stream.count(b"FRAME\n") == 3
    assert copied(stream) == stream


@pytest.mark.parametrize("size", ["33x17", "2x2", "1x1"])
def test_odd_sizes_come_out_byte_for_byte(size: str) -> None:
    stream = clip("yuv420p", "-vf", f"scale={size}")
    assert copied(stream) == stream


def test_everything_a_header_and_a_frame_may_say_is_kept() -> None:
    header = b"YUV4MPEG2 W2 H2 F25:1 It A4:3 C420paldv Xa=b  XCOLORRANGE=FULL X\xe9\n"
    frame = b"FRAME Ixyz Xnote\n" + bytes(6)
    assert copied(header.replace(b"  ", b" ") + frame) == header.replace(b"  ", b" ") + frame


def test_the_facts_of_the_header_reach_the_frames() -> None:
    header = b"YUV4MPEG2 W2 H2 F30000:1001 Ib A4:3 C422 XCOLORRANGE=LIMITED\n"
    frames = list(Y4mReader(io.BytesIO(header + (b"FRAME\n" + bytes(8)) * 2)))
    last = frames[-1]
    assert (last.format, last.pts, last.sar, last.field) == ("yuv422p", 1, (4, 3), "bff")
    assert last.color == (1, 2, 2, 2)
    assert last.time_base is not None
    assert (last.time_base.numerator, last.time_base.denominator) == (1001, 30_000)


def test_without_chroma_it_is_420() -> None:
    assert Header.parse(b"YUV4MPEG2 W2 H2 F25:1").format == "yuv420p"


def test_unknown_rate_and_aspect_are_none() -> None:
    header = Header.parse(b"YUV4MPEG2 W2 H2 F0:0 A0:0")
    assert (header.rate, header.sar) == (None, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "the input is empty"),
        (b"RIFF....AVI \n", "begins with b'RIFF"),
        (b"\x1aE\xdf\xa3" + bytes(9000), "no yuv4mpeg stream"),
        (b"YUV4MPEG2 W2 H2", "cut off after 15 bytes"),
        (b"YUV4MPEG2 H2 F25:1\n", "W must be 1 to 65535, not None"),
        (b"YUV4MPEG2 W0 H2\n", "W must be"),
        (b"YUV4MPEG2 W-2 H2\n", "W must be"),
        (b"YUV4MPEG2 W99999999999999 H2\n", "W must be"),
        (b"YUV4MPEG2 W2 H70000\n", "H must be"),
        (b"YUV4MPEG2 W2 H2 F25\n", "F must be N:N"),
        (b"YUV4MPEG2 W2 H2 C999\n", "chroma C'999'"),
    ],
)
def test_a_header_that_is_none_says_so(line: bytes, message: str) -> None:
    with pytest.raises(Y4mError, match=message):
        Y4mReader(io.BytesIO(line))


HEADER = b"YUV4MPEG2 W4 H2 F25:1 Cmono\n"
FRAME = b"FRAME\n" + bytes(range(8))


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (FRAME[:-3], "ends in frame 2: 3 of its 8 bytes are missing"),
        (FRAME[:6], "ends in frame 2: 8 of its 8 bytes are missing"),
        (FRAME[:5], "ends in the first line of frame 2"),
        (b"F", "ends in the first line of frame 2"),
        (b"FRAME I", "ends in the first line of frame 2"),
        (b"FRAMES\n", r"frame 2 does not begin with FRAME, but with b'FRAMES"),
        (b"\x00\x00", "frame 2 does not begin with FRAME"),
        (b"FRAME \xff\n", "not ASCII"),
    ],
)
def test_a_truncated_stream_gives_all_whole_frames_and_then_an_error(
    rest: bytes, message: str
) -> None:
    frames = iter(Y4mReader(io.BytesIO(HEADER + FRAME * 2 + rest)))
    assert [next(frames).pts, next(frames).pts] == [0, 1]
    with pytest.raises(Y4mError, match=message):
        next(frames)


def test_a_pipe_that_trickles_is_read_whole() -> None:
    stream = clip()
    ends = os.pipe()

    def trickle() -> None:
        with os.fdopen(ends[1], "wb", buffering=0) as pipe:
            for start in range(0, len(stream), 700):
                pipe.write(stream[start : start + 700])

    writer = threading.Thread(target=trickle)
    writer.start()
    with os.fdopen(ends[0], "rb") as pipe:
        frames = list(Y4mReader(pipe))
    writer.join(timeout=10)
    assert b"".join(bytes(frame.compact()) for frame in frames) == b"".join(
        stream.split(b"FRAME\n")[1:]
    )


def written(*frames: Frame) -> bytes:
    out = io.BytesIO()
    writer = Y4mWriter(
        out, Header.parse(b"YUV4MPEG2 W4 H2 F25:1 It A4:3 C420mpeg2 XCOLORRANGE=FULL Xk")
    )
    for frame in frames:
        writer.write(frame)
    return out.getvalue()


def test_a_new_size_is_written_and_the_rest_of_the_header_kept() -> None:
    line = written(Frame(bytes(6), format="yuv420p", width=2, height=2)).split(b"\n")[0]
    assert line == b"YUV4MPEG2 W2 H2 F25:1 It A4:3 C420mpeg2 XCOLORRANGE=FULL Xk"


def test_a_new_format_is_written_without_what_told_the_old_one() -> None:
    line = written(Frame(bytes(8), format="gray", width=4, height=2)).split(b"\n")[0]
    assert line == b"YUV4MPEG2 W4 H2 F25:1 It A4:3 Cmono Xk"


def test_a_header_without_chroma_gets_one_for_a_new_format() -> None:
    header = Header.parse(b"YUV4MPEG2 W4 H2 F25:1")
    frame = Frame(bytes(24), format="yuv444p", width=4, height=2)
    assert header.carrying(frame).line() == b"YUV4MPEG2 W4 H2 F25:1 C444\n"


def test_padding_is_not_written() -> None:
    layout = [(0, 8, 2), (16, 8, 1), (24, 8, 1)]
    frame = Frame(bytes(range(32)), format="yuv420p", width=4, height=2, plane_layout=layout)
    assert written(frame).split(b"FRAME\n")[1] == bytes([0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 24, 25])


@pytest.mark.parametrize(
    "other",
    [
        Frame(bytes(6), format="yuv420p", width=2, height=2),
        Frame(bytes(16), format="yuv422p", width=4, height=2),
    ],
    ids=repr,
)
def test_a_change_in_mid_stream_says_from_what_to_what(other: Frame) -> None:
    first = Frame(bytes(12), format="yuv420p", width=4, height=2)
    with pytest.raises(
        Y4mError, match=rf"{other.width}x2 {other.format} after frames of 4x2 yuv420p"
    ):
        written(first, other)


def test_a_format_that_yuv4mpeg_does_not_have_says_what_to_do() -> None:
    with pytest.raises(Y4mError, match="cannot carry rgb24: let the plugin answer"):
        written(Frame(bytes(24), format="rgb24", width=4, height=2))


@pytest.mark.parametrize("words", ["a\nb", 3, "é"])
def test_frame_parameters_cannot_break_the_stream(words: object) -> None:
    frame = Frame(bytes(12), format="yuv420p", width=4, height=2, meta={"y4m": words})
    with pytest.raises(Y4mError, match="must be the ASCII words"):
        written(frame)


def test_a_new_stream_has_a_header_of_its_frames() -> None:
    frame = Frame(bytes(8), format="gray", width=4, height=2)
    assert header_for(frame, (30, 1)).line() == b"YUV4MPEG2 W4 H2 F30:1 Ip A1:1 Cmono\n"


def test_raw_video_is_frames_and_nothing_else() -> None:
    shape = RawFormat.parse("4x2:rgb24@30000/1001")
    data = bytes(range(48))
    frames = list(RawReader(io.BytesIO(data), shape))
    out = io.BytesIO()
    writer = RawWriter(out)
    for frame in frames:
        writer.write(frame)
    assert [frame.pts for frame in frames] == [0, 1]
    assert out.getvalue() == data


def test_raw_video_that_ends_inside_a_frame_says_so() -> None:
    frames = iter(RawReader(io.BytesIO(bytes(40)), RawFormat.parse("4x2:rgb24@25")))
    assert next(frames).width == 4
    with pytest.raises(RawError, match="frame 1: 8 of its 24 bytes are missing"):
        next(frames)


def test_raw_frames_may_not_change() -> None:
    writer = RawWriter(io.BytesIO())
    writer.write(Frame(bytes(8), format="gray", width=4, height=2))
    with pytest.raises(RawError, match="after frames of another size"):
        writer.write(Frame(bytes(8), format="gray", width=2, height=4))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4x2",
        "4x2:rgb24",
        "0x2:gray@25",
        "4x2:gray@0",
        "4x2:no@25",
        "4x2:gray@25/0",
        "70000x2:gray@1",
    ],
)
def test_a_raw_format_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RawError):
        RawFormat.parse(text)
