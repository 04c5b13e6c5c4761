"""`changeover demo`: frames that are counted by what is in their pixels."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from changeover.client.slate import read_number, slate
from changeover.supervisor.cli.contact import ContactSheet
from changeover.supervisor.cli.demo_filter import DemoFilter
from changeover.supervisor.cli.demo_frames import DemoFrames
from changeover.supervisor.cli.demo_run import Score
from changeover.supervisor.cli.lettering import lettering
from changeover.supervisor.cli.png import png

COMMAND = [sys.executable, "-P", "-m", "changeover.supervisor", "demo"]
DEADLINE_S = 50.0


def demo(*arguments: object) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def pictures(path: Path) -> list[Any]:
    with av.open(path) as source:
        return [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]


def test_nothing_is_lost_over_changeovers_and_a_kill_and_it_can_be_seen(tmp_path: Path) -> None:
    code, out, said = demo("--seconds", 4, "--rate", 20, "--json", "--save", tmp_path)
    report = json.loads(out)
    assert (code, said) == (0, "")
    assert report["schema"] == "changeover.demo/1"
    assert (report["lost"], report["out_of_order"]) == (0, 0)
    assert (report["killed"], report["rerun"]) == (1, 1)
    assert report["in"] == report["out"] == sum(report["releases"].values()) > 40
    assert report["changeovers"] >= 2
    assert set(report["releases"]) == {"1", "2"}
    assert 0 < report["longest_gap_s"] < 4
    film = pictures(tmp_path / "out.mp4")
    assert [read_number(picture) for picture in film] == list(range(report["out"]))
    sheet = pictures(tmp_path / "contact.png")[0]
    colors = {tuple(color) for color in sheet.reshape(-1, 3)}
    assert {(66, 165, 245), (255, 160, 30)} <= colors


def test_a_file_is_taken_from_its_beginning_again_until_the_time_is_over(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    make = f"ffmpeg -v error -f lavfi -i testsrc2=s=162x90:r=25 -frames:v 7 {clip}"
    subprocess.run(make.split(), check=True, timeout=DEADLINE_S)
    code, out, said = demo("--seconds", 1, "--input", clip)
    assert (code, said) == (0, "")
    assert "25 frames in, 25 out   lost 0   out of order 0" in out


class Terminal:
    """A demo whose stderr is a terminal."""

    def __init__(self, *arguments: str) -> None:
        self.shown = b""
        self._screen, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=theirs
        )
        os.close(theirs)

    def read_until(self, text: bytes = b"") -> None:
        """Until this was shown, or (without a text) to the end."""
        while not text or text not in self.shown:
            try:
                self.shown += os.read(self._screen, 4096)
            except OSError:  # the other end was closed
                assert not text, self.shown
                return

    def close(self) -> int:
        self.read_until()
        os.close(self._screen)
        return self.process.wait(DEADLINE_S)


def test_on_a_terminal_a_line_moves() -> None:
    terminal = Terminal("--seconds", "1")
    assert terminal.close() == 0
    assert b"frame 20 of 25   release @" in terminal.shown
    assert terminal.shown.endswith(b"\r\x1b[K")


def test_interrupted_it_leaves_nothing_behind() -> None:
    terminal = Terminal("--seconds", "60")
    terminal.read_until(b"frame 5 of 1500")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.close() == 130
    assert terminal.shown.endswith(b"changeover: interrupted\r\n")


def test_without_the_media_extra_it_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['av'] = None\n"
        "from changeover.supervisor.cli.main import main; sys.exit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == 2
    assert "the demo needs av, which is not installed here" in done.stderr
    assert "changeover[media]" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "there_is_none.mp4"], "there_is_none.mp4"),
        (["--input", __file__], "Invalid data"),
        (["--rate", "0"], "--rate"),
        (["--seconds", "0"], "--seconds"),
        (["-o", "workers=3"], "its own settings"),
    ],
)
def test_usage_errors_exit_2(arguments: list[str], message: str) -> None:
    code, out, said = demo(*arguments)
    assert (code, out) == (2, ""), said
    assert message in said


def test_a_missing_number_is_lost_and_one_that_comes_late_is_out_of_order() -> None:
    score = Score()
    for now, number in enumerate((0, 1, 3, 2, 5)):
        score.take(number, float(now))
    assert (score.lost(6), score.out_of_order, score.out) == (1, 1, 5)


def test_a_number_that_comes_twice_is_out_of_order() -> None:
    score = Score()
    for number in (0, 1, 1):
        score.take(number, 0.0)
    assert (score.lost(2), score.out_of_order) == (0, 1)


def test_the_longest_gap_is_between_two_outputs() -> None:
    score = Score()
    for number, now in enumerate((10.0, 10.5, 12.0, 12.1)):
        score.take(number, now)
    assert score.longest_gap_s == 1.5


def test_frames_carry_their_numbers_and_end_in_time() -> None:
    frames = list(DemoFrames(None, rate=50, seconds=0.2))
    assert [read_number(frame) for frame in frames] == list(range(10))
    assert [frame.pts for frame in frames] == list(range(10))


def test_both_releases_of_the_filter_keep_the_number_and_can_be_told_apart(
    tmp_path: Path,
) -> None:
    filter_file = DemoFilter(tmp_path)
    results = []
    for look in ("warm", "negative", "warm"):
        space: dict[str, Any] = {}
        exec(filter_file.path.read_text(), space)
        results.append(space[look](slate(77)))
        filter_file.swap()
    assert [read_number(result) for result in results] == [77, 77, 77]
    assert abs(results[0].array.astype(int) - results[1].array).mean() > 40
    assert results[0].data == results[2].data


def test_a_png_is_read_by_others_as_it_was_written(tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    (tmp_path / "x.png").write_bytes(png(pixels))
    np.testing.assert_array_equal(pictures(tmp_path / "x.png")[0], pixels)


def sheet(tmp_path: Path, contact: ContactSheet) -> Any:
    (tmp_path / "sheet.png").write_bytes(contact.png())
    return pictures(tmp_path / "sheet.png")[0]


def test_a_contact_sheet_shows_every_release_and_every_frame_done_again(tmp_path: Path) -> None:
    contact = ContactSheet(most=12)
    for number in range(5000):
        release = 2 if number == 3210 else 1
        contact.add(number, release, np.zeros((36, 64, 3), np.uint8), is_rerun=number == 777)
    pixels = sheet(tmp_path, contact)
    colors = {tuple(color) for color in pixels.reshape(-1, 3)}
    assert {(66, 165, 245), (255, 160, 30), (220, 30, 40)} <= colors
    assert pixels.size < 12 * 2 * 100 * 100 * 3


def test_a_contact_sheet_of_one_frame_is_one_picture(tmp_path: Path) -> None:
    contact = ContactSheet()
    contact.add(0, 1, np.full((36, 64, 3), 200, np.uint8), is_rerun=False)
    pixels = sheet(tmp_path, contact)
    assert (pixels == 200).all(axis=2).sum() == 36 * 64


def test_an_empty_contact_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a picture"):
        ContactSheet().png()


def test_letters_are_dots() -> None:
    assert lettering("1").shape == (10, 8)
    assert lettering("@12 34567890").any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--save", "/proc/nowhere"), "--save /proc/nowhere: No such file or directory"),
        (("--input", __file__), f"{__file__}: Invalid data found when processing input"),
    ],
)
def test_a_file_that_will_not_do_is_bad_usage(arguments: tuple[str, str], said: str) -> None:
    code, out, told = demo("--seconds", 1, *arguments)
    assert (code, out) == (2, "")
    assert f"changeover: {said}\n" in told
