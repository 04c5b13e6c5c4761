"""PyAV's frames and numpy arrays in, the same kind out."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from changeover.client.media import for_sending, like_input, to_frame
from changeover.client.pyav import of_av, to_av
from changeover.protocol.frame import Frame


def picture(name: str = "yuv420p", width: int = 46, height: int = 34) -> av.VideoFrame:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=name)
    frame.pts, frame.time_base = 42, Fraction(1, 25)
    return frame


@pytest.mark.parametrize("name", ["yuv420p", "rgb24", "gray", "yuv422p10le", "nv12", "gbrp"])
def test_a_picture_goes_there_and_back(name: str) -> None:
    original = picture(name)
    frame = of_av(original)
    back = to_av(frame)
    assert (frame.pts, frame.time_base, frame.format) == (42, Fraction(1, 25), name)
    assert (back.pts, back.time_base, back.format.name) == (42, Fraction(1, 25), name)
    assert of_av(back).data == frame.data


@pytest.mark.parametrize("name", ["yuv420p", "rgb24", "nv12", "gray"])
def test_the_samples_are_those_of_pyav(name: str) -> None:
    original = picture(name)
    np.testing.assert_array_equal(of_av(original).array, original.to_ndarray())
    np.testing.assert_array_equal(to_av(of_av(original)).to_ndarray(), original.to_ndarray())


def test_colour_goes_there_and_back() -> None:
    original = picture()
    original.color_range, original.colorspace = 2, 1
    frame = of_av(original)
    assert frame.color is not None
    assert frame.color[:2] == (2, 1)
    back: Any = to_av(frame)
    assert (int(back.color_range), int(back.colorspace)) == (2, 1)


@pytest.mark.parametrize("name", ["fltp", "s16"])
def test_sound_goes_there_and_back(name: str) -> None:
    original = av.AudioFrame(name, "stereo", 100)
    samples = (np.arange(200) / 200).reshape(2, 100)
    original = av.AudioFrame.from_ndarray(
        samples.astype("f4") if name == "fltp" else (samples * 1000).astype("i2").reshape(1, 200),
        name,
        "stereo",
    )
    original.sample_rate, original.pts = 48_000, 9
    frame = of_av(original)
    back = to_av(frame)
    assert (frame.samples, frame.rate, frame.layout, frame.pts) == (100, 48_000, "stereo", 9)
    np.testing.assert_array_equal(frame.array, original.to_ndarray())
    np.testing.assert_array_equal(back.to_ndarray(), original.to_ndarray())
    assert (back.sample_rate, back.layout.name, back.pts) == (48_000, "stereo", 9)


def test_only_pyav_is_changed_for_sending() -> None:
    array, other = np.zeros((2, 2), np.uint8), {"a": 1}
    assert for_sending(array) is array
    assert for_sending(other) is other
    assert for_sending(picture()).width == 46


def test_anything_that_is_a_picture_becomes_a_frame() -> None:
    assert to_frame(np.zeros((4, 6, 3), np.uint8)).format == "rgb24"
    assert to_frame(picture()).format == "yuv420p"
    frame = Frame(bytes(4), format="gray", width=2, height=2)
    assert to_frame(frame) is frame
    with pytest.raises(TypeError, match="a str is no frame"):
        to_frame("x")


def test_a_picture_of_pyav_gets_a_picture_of_pyav_back() -> None:
    original = picture()
    sent = of_av(original)
    result = like_input(sent.like(255 - sent.array), original)
    assert isinstance(result, av.VideoFrame)
    assert (result.pts, result.time_base, result.format.name) == (42, Fraction(1, 25), "yuv420p")


def test_an_array_for_a_picture_becomes_a_picture() -> None:
    original = picture("rgb24")
    result = like_input(255 - original.to_ndarray(), original)
    assert isinstance(result, av.VideoFrame)
    np.testing.assert_array_equal(result.to_ndarray(), 255 - original.to_ndarray())


def test_a_frame_without_time_takes_that_of_its_input() -> None:
    original = picture("rgb24")
    result = like_input(Frame.from_array(np.zeros((4, 4, 3), np.uint8)), original)
    assert (result.pts, result.time_base, result.width) == (42, Fraction(1, 25), 4)


def test_a_frame_for_an_array_becomes_an_array() -> None:
    array = np.zeros((4, 4, 3), np.uint8)
    assert like_input(Frame.from_array(array), array).shape == (4, 4, 3)


def test_boxes_found_in_a_picture_stay_boxes() -> None:
    boxes = np.zeros((5, 4), np.float32)
    assert like_input(boxes, picture()) is boxes
    assert like_input(boxes, to_frame(picture("gbrp"))) is boxes
    assert like_input({"n": 1}, picture()) == {"n": 1}
    assert like_input(None, picture()) is None


def test_lists_are_gone_through() -> None:
    original = np.zeros((4, 4, 3), np.uint8)
    result = like_input([Frame.from_array(original), 3], original)
    assert (result[0].shape, result[1]) == ((4, 4, 3), 3)


def test_plain_values_are_never_touched() -> None:
    value = np.zeros(3)
    assert like_input(value, 7) is value
