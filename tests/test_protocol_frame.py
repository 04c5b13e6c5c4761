"""Frame: shapes, views, copies, and the distrust of what others say about it."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from changeover.protocol.formats import AUDIO, VIDEO
from changeover.protocol.frame import Frame
from changeover.protocol.frame_wire import of_wire, to_wire
from changeover.protocol.payload import pack_payload, unpack_payload

PAIRED = ("yuyv422", "uyvy422", "yvyu422")  # PyAV counts their pixels, the table their places
AS_PYAV = (
    *("gray", "gray16le", "rgb24", "bgr24", "rgba", "bgra", "argb", "abgr", "rgb48le"),
    *("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12"),
)


def test_every_format_of_the_table_has_the_planes_that_ffmpeg_gives_odd_sizes() -> None:
    for name in VIDEO.keys() - set(PAIRED):
        planes = av.VideoFrame(33, 17, name).planes
        frame = Frame(bytes(33 * 17 * 16), format=name, width=33, height=17)
        assert [plane.shape[1::-1] for plane in frame.planes] == [
            (plane.width, plane.height) for plane in planes
        ], name


def test_two_pixels_that_share_chroma_take_four_bytes() -> None:
    frame = Frame(bytes(17 * 4 * 2), format="yuyv422", width=33, height=2)
    assert frame.plane_layout == ((0, 68, 2),)


def test_every_audio_format_takes_the_bytes_that_ffmpeg_gives_it() -> None:
    for name, form in AUDIO.items():
        assert av.AudioFormat(name).bytes == form.sample_bytes
        assert av.AudioFormat(name).is_planar == form.is_planar


@pytest.mark.parametrize("name", AS_PYAV)
def test_array_has_the_shape_and_the_samples_of_pyav(name: str) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (34, 64, 3), dtype=np.uint8)
    original = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=name)
    layout, data = [], b""
    for plane in original.planes:
        layout.append((len(data), plane.line_size, plane.height))
        data += bytes(plane)
    frame = Frame(data, format=name, width=64, height=34, plane_layout=layout)
    np.testing.assert_array_equal(frame.array, original.to_ndarray())


def test_an_array_of_planes_that_follow_one_another_is_a_view() -> None:
    data = bytearray(8 * 6 * 3 // 2)
    frame = Frame(data, format="yuv420p", width=8, height=6)
    data[0] = 9
    assert frame.array[0, 0] == 9
    assert frame.array.shape == (9, 8)


def test_a_packed_picture_with_padding_is_a_view() -> None:
    data = bytearray(32 * 4)
    frame = Frame(data, format="rgb24", width=5, height=4, plane_layout=[(0, 32, 4)])
    data[32 + 14] = 7
    assert frame.array.shape == (4, 5, 3)
    assert frame.array[1, 4, 2] == 7


def test_several_planes_with_padding_are_copied_and_the_copy_is_read_only() -> None:
    data = bytearray(range(64))
    layout = [(0, 8, 4), (32, 8, 2), (48, 8, 2)]
    frame = Frame(data, format="yuv420p", width=4, height=4, plane_layout=layout)
    assert frame.array.tolist()[-2:] == [[32, 33, 40, 41], [48, 49, 56, 57]]
    assert not frame.array.flags.writeable


def test_compact_leaves_the_padding_out() -> None:
    layout = [(0, 8, 4), (32, 8, 2), (48, 8, 2)]
    frame = Frame(bytes(range(64)), format="yuv420p", width=4, height=4, plane_layout=layout)
    assert bytes(frame.compact())[12:] == bytes([24, 25, 26, 27, 32, 33, 40, 41, 48, 49, 56, 57])


def test_compact_is_a_view_where_there_is_no_padding() -> None:
    data = bytearray(8 + 24)
    frame = Frame(data, format="gray", width=6, height=4, plane_layout=[(8, 6, 4)])
    data[8] = 5
    assert frame.compact()[0] == 5
    assert len(frame.compact()) == 24


@pytest.mark.parametrize(("name", "size"), [("gbrp", (4, 4)), ("yuv420p", (5, 4))])
def test_a_format_or_size_without_one_array_names_planes(name: str, size: tuple[int, int]) -> None:
    frame = Frame(bytes(100), format=name, width=size[0], height=size[1])
    with pytest.raises(ValueError, match=r"use frame\.planes"):
        _ = frame.array
    assert len(frame.planes) == 3


def test_a_format_that_is_not_in_the_table_still_carries_its_planes() -> None:
    frame = Frame(bytes(12), format="xyz", width=4, height=3, plane_layout=[(0, 4, 3)])
    assert frame.planes[0].shape == (3, 4)
    with pytest.raises(ValueError, match="give plane_layout"):
        Frame(bytes(12), format="xyz", width=4, height=3)


def test_what_arrived_is_read_only_and_own_is_a_copy_that_is_not() -> None:
    sent = Frame.from_array(np.zeros((2, 2, 3), np.uint8))
    frame = unpack_payload(pack_payload(sent))
    assert not frame.array.flags.writeable
    assert frame.data.readonly
    mine = frame.own()
    mine.array[0, 0] = 255
    assert frame.array.max() == 0


def test_like_keeps_what_is_known() -> None:
    frame = Frame(
        bytes(12), format="rgb24", width=2, height=2, pts=7, time_base=(1, 25), meta={"cam": 1}
    )
    result = frame.like(255 - frame.array)
    assert (result.pts, result.time_base, result.meta) == (7, Fraction(1, 25), {"cam": 1})
    assert result.array.min() == 255


def test_like_takes_the_size_of_the_array() -> None:
    frame = Frame(bytes(8 * 6 * 3 // 2), format="yuv420p", width=8, height=6, pts=1)
    assert repr(frame.like(np.zeros((6, 4), np.uint8))) == "<Frame 4x4 yuv420p pts=1>"
    assert repr(frame.like(np.zeros((3, 5), np.uint8), format="gray")) == "<Frame 5x3 gray pts=1>"


def test_like_takes_planes() -> None:
    frame = Frame(bytes(range(27)), format="gbrp", width=3, height=3)
    assert frame.like(frame.planes).data == frame.data


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 3)), "rgb24 holds uint8, not float64"),
        (np.zeros((2, 2), np.uint8), r"an array of shape \(2, 2\) is no rgb24 picture"),
    ],
)
def test_like_says_what_does_not_fit(array: Any, message: str) -> None:
    frame = Frame(bytes(12), format="rgb24", width=2, height=2)
    with pytest.raises(ValueError, match=message):
        frame.like(array)


def test_an_array_that_is_not_contiguous_is_taken_as_it_looks() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)[::-1, ::2]
    np.testing.assert_array_equal(Frame.from_array(array).array, array)


def test_big_endian_samples_keep_their_order() -> None:
    array = np.array([[1, 2]], dtype=">u2")
    assert bytes(Frame.from_array(array, "gray16be").data) == b"\x00\x01\x00\x02"


def test_an_array_of_no_known_kind_asks_for_the_format() -> None:
    with pytest.raises(ValueError, match="Give format="):
        Frame.from_array(np.zeros((2, 2, 5), np.uint8))


def test_audio_is_channels_by_samples() -> None:
    planar = Frame(bytes(4 * 2 * 10), kind="audio", format="fltp", samples=10, rate=48_000)
    packed = Frame(bytes(2 * 2 * 10), kind="audio", format="s16", samples=10, layout="stereo")
    assert (planar.array.shape, packed.array.shape) == ((2, 10), (1, 20))
    assert planar.like(planar.array).samples == 10


def test_every_fact_survives_the_wire() -> None:
    frame = Frame(
        bytes(64),
        format="gray",
        width=4,
        height=4,
        plane_layout=[(8, 8, 4)],
        pts=-3,
        duration=2,
        time_base=(1001, 30_000),
        sar=(4, 3),
        color=(1, 2, 3, 4),
        field="tff",
        meta={"a": [1, {"b": None}]},
    )
    back = unpack_payload(pack_payload(frame))
    for name in (*("kind", "format", "width", "height", "plane_layout", "pts", "duration"),):
        assert getattr(back, name) == getattr(frame, name)
    for name in ("time_base", "sar", "color", "field", "meta"):
        assert getattr(back, name) == getattr(frame, name)
    assert back.data == frame.data


def test_audio_survives_the_wire() -> None:
    frame = Frame(bytes(80), kind="audio", format="fltp", samples=10, rate=48_000, layout="stereo")
    back = unpack_payload(pack_payload(frame))
    assert (back.kind, back.samples, back.rate, back.layout) == ("audio", 10, 48_000, "stereo")
    assert back.plane_layout == ((0, 40, 1), (40, 40, 1))


GOOD: dict[str, Any] = {"kind": "video", "fmt": "gray", "w": 4, "h": 4, "planes": [[0, 4, 4]]}


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"planes": [[1, 4, 4]]}, "plane 0 ends at byte 17, the data at 16"),
        ({"planes": [[0, -4, 4]]}, "plane 0 must be a whole number"),
        ({"planes": [[0, 2, 4]]}, "at least 4 of 4"),
        ({"planes": [[0, 4, 2]]}, "at least 4 of 4"),
        ({"planes": [[0, 4, 2], [8, 4, 2]]}, "gray has 1 planes, not 2"),
        ({"planes": []}, "planes must be"),
        ({"planes": [[0, 4]]}, r"plane 0 must be \[offset, stride, rows\]"),
        ({"planes": [[0, 4, True]]}, "plane 0 must be a whole number"),
        ({"planes": [[2**60, 4, 4]]}, "plane 0 must be a whole number"),
        ({"planes": "abc"}, "planes must be"),
        ({"w": 5}, "at least 4 of 5"),
        ({"w": 0}, "width must be"),
        ({"h": 2**40}, "h must be"),
        ({"w": "4"}, "w must be"),
        ({"kind": "smell"}, "video or audio"),
        ({"kind": "audio"}, "samples must be"),
        ({"fmt": None}, "fmt must be"),
        ({"fmt": "x" * 1000}, "fmt must be"),
        ({"pts": 1.5}, "pts must be"),
        ({"tb": [1, 0]}, "tb must be"),
        ({"tb": 25}, "tb must be"),
        ({"sar": [1]}, "sar must be"),
        ({"color": "red"}, "color must be"),
        ({"meta": []}, "meta must be"),
        ({"rate": 0}, "rate must be"),
    ],
)
def test_a_frame_that_lies_is_told_so(lie: dict[str, Any], message: str) -> None:
    assert of_wire({"$frame": GOOD, "data": bytes(16)}).width == 4
    with pytest.raises(ValueError, match=message):
        of_wire({"$frame": {**GOOD, **lie}, "data": bytes(16)})


@pytest.mark.parametrize("value", [{"$frame": GOOD}, {"$frame": 3, "data": b""}])
def test_a_frame_without_head_or_data_is_told_so(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"frame: "):
        of_wire(value)


@pytest.mark.parametrize("missing", ["kind", "fmt", "planes"])
def test_what_a_frame_must_have_is_named(missing: str) -> None:
    head = {key: value for key, value in GOOD.items() if key != missing}
    with pytest.raises(ValueError, match=f"without {missing}"):
        of_wire({"$frame": head, "data": bytes(16)})


def test_only_what_is_known_travels() -> None:
    assert to_wire(Frame(bytes(16), format="gray", width=4, height=4)) == {
        "$frame": {"kind": "video", "fmt": "gray", "w": 4, "h": 4, "planes": ((0, 4, 4),)},
        "data": bytes(16),
    }


def test_a_frame_needs_no_numpy_until_an_array_is_asked_for() -> None:
    script = (
        "import sys; from changeover.protocol.payload import pack_payload, unpack_payload\n"
        "from changeover.protocol.frame import Frame\n"
        "f = unpack_payload(pack_payload(Frame(bytes(16), format='gray', width=4, height=4)))\n"
        "f.compact(), f.own()\n"
        "assert 'numpy' not in sys.modules; f.array; assert 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
