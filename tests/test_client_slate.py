"""Numbers in pixels: written, mistreated, read back."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover.client.pyav import to_av
from changeover.client.slate import MOST, SlateError, read_number, slate, stamp
from changeover.protocol.frame import Frame


@given(st.integers(0, MOST))
def test_every_number_is_read_back(number: int) -> None:
    assert read_number(slate(number, 64, 36, "gray")) == number


@pytest.mark.parametrize("name", ["rgb24", "bgr24", "rgba", "gray", "yuv420p", "yuv444p", "nv12"])
def test_a_slate_has_its_number_and_pts_in_every_format(name: str) -> None:
    frame = slate(1234, 320, 180, name)
    assert (frame.format, frame.pts, read_number(frame)) == (name, 1234, 1234)


def blurred(pixels: Any) -> Any:
    return sum(np.roll(pixels.astype("f4"), n, axis) for n in (-1, 0, 1) for axis in (0, 1)) / 6


@pytest.mark.parametrize(
    "mistreated",
    [
        lambda pixels: 255 - pixels,
        lambda pixels: pixels // 2,
        lambda pixels: (pixels // 4 + 100).astype("u1"),
        lambda pixels: pixels[::2, ::2],
        lambda pixels: pixels.mean(axis=2).astype("u1"),
        lambda pixels: pixels[..., ::-1],
        lambda pixels: blurred(pixels).astype("u1"),
        lambda pixels: np.where(pixels > 100, 255, 0).astype("u1"),
        lambda pixels: np.stack([pixels[..., 0], pixels[..., 1] * 0, pixels[..., 2] * 0], axis=2),
    ],
    ids=["negative", "dark", "flat", "small", "grey", "bgr", "blurred", "threshold", "red"],
)
def test_the_number_survives_filters(mistreated: Any) -> None:
    for number in (0, 1, 0x555555, 0xAAAAAA, MOST):
        assert read_number(mistreated(slate(number, 320, 180).array)) == number


def test_the_number_survives_ffmpeg_and_other_formats() -> None:
    picture: av.VideoFrame = to_av(slate(77, 320, 180, "yuv420p"))
    assert read_number(picture) == 77
    assert read_number(picture.reformat(480, 270, "rgb24")) == 77
    assert read_number(picture.reformat(format="yuv420p10le")) == 77


def test_a_picture_without_a_number_says_so() -> None:
    with pytest.raises(SlateError, match="marks do not differ"):
        read_number(np.full((180, 320, 3), 128, np.uint8))


def test_a_damaged_number_does_not_pass_the_check() -> None:
    pixels = slate(5).array.copy()
    pixels[:40] = np.roll(pixels[:40], 30, axis=1)
    with pytest.raises(SlateError):
        read_number(pixels)


@pytest.mark.parametrize(
    ("number", "width", "height"), [(-1, 64, 36), (MOST + 1, 64, 36), (1, 63, 36)]
)
def test_what_does_not_fit_is_refused(number: int, width: int, height: int) -> None:
    with pytest.raises(SlateError):
        slate(number, width, height)


def test_deep_formats_are_not_made() -> None:
    with pytest.raises(SlateError, match="8-bit"):
        slate(1, 64, 36, "gray16le")


def test_stamp_leaves_the_rest_of_the_picture_alone() -> None:
    frame = Frame(bytearray(b"\x07" * 320 * 180), format="gray", width=320, height=180)
    stamp(frame, 3)
    assert (frame.array[40:] == 7).all()
    assert (frame.array[:, 80:] == 7).all()
