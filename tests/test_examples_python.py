"""The example plugins, each as its own text says to use it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from changeover.client import Changeover, launch
from changeover.client.pyav import to_av
from changeover.client.slate import read_number, slate
from changeover.protocol.frame import Frame

EXAMPLES = Path(__file__).parent.parent / "examples"
FORMATS = ("rgb24", "yuv420p", "gray")


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Callable[[str], Changeover]]:
    """Launch a copy of an example, so that a test may save it anew."""
    open_ones: list[Changeover] = []

    def start(name: str) -> Changeover:
        source = shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
        quiet: dict[str, Any] = {"log.level": "error", "settle": "50ms"}
        open_ones.append(launch({name: source}, **quiet))
        return open_ones[-1]

    yield start
    for each in open_ones:
        each.close()


def test_identity_gives_back_what_it_was_given(launched: Callable[[str], Changeover]) -> None:
    identity = launched("identity")["identity"]
    for name in FORMATS:
        frame = slate(7, 64, 36, name)
        result = identity(frame)
        assert (result.data, result.format, result.pts) == (frame.data, name, 7)


def test_negative_is_the_negative_of_every_kind_of_picture(
    launched: Callable[[str], Changeover],
) -> None:
    negative = launched("negative")["negative"]
    pixels = slate(3).array
    np.testing.assert_array_equal(negative(pixels), 255 - pixels)
    picture = negative(to_av(slate(3, 64, 36, "yuv420p")))
    assert isinstance(picture, av.VideoFrame)
    assert (picture.pts, read_number(picture)) == (3, 3)


@pytest.mark.parametrize("name", FORMATS)
def test_denoise_softens_by_its_strength(launched: Callable[[str], Changeover], name: str) -> None:
    noise = np.random.default_rng(2).integers(0, 256, 64 * 36 * 3, dtype=np.uint8)
    frame = Frame(noise, format=name, width=64, height=36)
    denoise = launched("denoise")["denoise"]
    spreads = [
        float(result.planes[0].std())
        for result in (frame, *(denoise(frame, strength=each) for each in (0.3, 0.9)))
    ]
    assert spreads[0] > spreads[1] * 1.1 > spreads[2] * 1.5
    assert denoise(frame, strength=0.0).compact() == frame.compact()


def test_thumbnail_is_a_png_of_the_moment(
    launched: Callable[[str], Changeover], tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    make = f"ffmpeg -v error -f lavfi -i testsrc2=s=320x180:r=25 -t 2 {clip}"
    subprocess.run(make.split(), check=True, timeout=30)
    (tmp_path / "x.png").write_bytes(
        launched("thumbnail")["thumbnail"](str(clip), at=1.2, width=160)
    )
    with av.open(tmp_path / "x.png") as source:
        picture = next(source.decode(video=0))
    assert (picture.format.name, picture.width, picture.height) == ("rgb24", 160, 90)


def test_the_count_goes_on_in_the_next_release(
    launched: Callable[[str], Changeover], tmp_path: Path
) -> None:
    co = launched("counter")
    source = tmp_path / "counter.py"
    counts = [co["counter"](), co["counter"]()]
    for release in (2, 3):
        source.write_text(f"{source.read_text()}\n# release {release}\n")
        co.reload("counter")
        counts += [co["counter"](), co["counter"](step=2)]
    assert counts == [1, 2, 3, 5, 6, 8]


def test_steady_mixes_each_picture_with_its_neighbours(
    launched: Callable[[str], Changeover],
) -> None:
    co = launched("steady")
    frames = [
        Frame(bytes([level] * 64 * 36), format="gray", width=64, height=36, pts=pts)
        for pts, level in enumerate((0, 100, 20, 40))
    ]
    answers = list(co["steady"].map(frames))
    assert answers[0] is None
    assert [(answer.pts, answer.array[0, 0]) for answer in answers[1:]] == [
        (0, (2 * 0 + 100) // 3), (1, (2 * 100 + 0 + 20) // 4), (2, (2 * 20 + 100 + 40) // 4),
    ]  # fmt: skip
    assert len(co.request("flush", "steady")) == 1
