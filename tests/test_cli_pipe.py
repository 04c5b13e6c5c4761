"""`changeover pipe` between real programs: what comes out, what is said, what it exits with."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from changeover.client.slate import read_number, slate
from changeover.client.y4m import Y4mReader, Y4mWriter
from changeover.client.y4m_header import header_for

COMMAND = [sys.executable, "-P", "-m", "changeover.supervisor", "pipe"]
DEADLINE_S = 50.0
HEADER = header_for(slate(0, 64, 36, "yuv420p"), (25, 1))

PluginFile = Callable[[str, str], Path]
IDENTITY = dedent("""
    from changeover.worker import Frame, plugin

    @plugin(version="1.0.0", pure=True)
    def identity(frame: Frame) -> Frame:
        return frame
""")
DELAY = dedent("""
    from changeover.worker import Frame, Plugin

    class Delay(Plugin):
        version, frames = "1.0.0", "ordered"

        def on_load(self, ctx):
            self.held = None

        def run(self, frame: Frame):
            held, self.held = self.held, frame
            return held

        def on_flush(self):
            held, self.held = self.held, None
            return [] if held is None else [held]

        def export_state(self):
            return {"held": self.held}

        def on_reload(self, old_version, state):
            assert state is None or state["held"] is None, "flushed before it was exported"
""")
ANSWERS = dedent("""
    import os
    from changeover.worker import Frame, plugin

    @plugin(version="1.0.0", pure=PURE)
    def answers(frame: Frame, at=(3,), what="raise"):
        if frame.pts not in at:
            return frame
        if what == "raise":
            raise ValueError("no good")
        if what == "die":
            os.kill(os.getpid(), 9)
        if what == "smaller":
            import numpy as np
            return frame.like(np.zeros((12, 8), "u1"))
        return {"int": 7, "none": None, "twice": [frame, frame], "array": 255 - frame.array}[what]
""")


def stream(count: int) -> bytes:
    out = io.BytesIO()
    writer = Y4mWriter(out, HEADER)
    for number in range(count):
        writer.write(slate(number, 64, 36, "yuv420p"))
    return out.getvalue()


def piped(data: bytes, *arguments: object) -> tuple[int, bytes, str]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        check=False,
        input=data,
        capture_output=True,
        timeout=DEADLINE_S,
    )
    return done.returncode, done.stdout, done.stderr.decode()


def numbers(data: bytes) -> list[int]:
    return [read_number(frame) for frame in Y4mReader(io.BytesIO(data))]


class Live:
    """A `pipe` that is fed for as long as the test wants, and checked byte by byte."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.sent, self.received = hashlib.sha256(), hashlib.sha256()
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._enough = threading.Event()
        self._threads = [
            threading.Thread(target=each) for each in (self._feed, self._read, self._hear)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, pattern: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not re.search(pattern, self._next(deadline)):
            pass

    def workers(self) -> list[psutil.Process]:
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in family if _is_worker(each)]

    def finish(self) -> int:
        self._enough.set()
        code = self.process.wait(DEADLINE_S)
        for thread in self._threads:
            thread.join(DEADLINE_S)
        return code

    def _next(self, deadline: float) -> str:
        try:
            return self._lines.get(timeout=max(0.1, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError("\n".join(self.said)) from None

    def _feed(self) -> None:
        assert self.process.stdin
        with self.process.stdin as pipe:
            self._send(pipe.write, HEADER.line())
            for number in itertools.count():
                if self._enough.is_set():
                    return
                frame = slate(number, 64, 36, "yuv420p")
                self._send(pipe.write, b"FRAME\n" + bytes(frame.data))

    def _send(self, write: Callable[[bytes], int], data: bytes) -> None:
        self.sent.update(data)
        write(data)

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as pipe:
            while data := os.read(pipe.fileno(), 1 << 16):
                self.received.update(data)

    def _hear(self) -> None:
        assert self.process.stderr
        with self.process.stderr as pipe:
            for line in pipe:
                self.said.append(line.decode())
                self._lines.put(line.decode())


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "changeover.worker" in process.cmdline()
    except psutil.NoSuchProcess:  # it ends just now, or waits to be reaped
        return False


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    started: list[Live] = []

    def start(*arguments: object) -> Live:
        started.append(Live(*arguments))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.finish()


@pytest.mark.parametrize("workers", [1, 3])
def test_ten_new_releases_and_two_kills_change_no_byte(
    live: Callable[..., Live], plugin_file: PluginFile, workers: int
) -> None:
    # Not watched: a kill before its first success would rightly roll a release back.
    options = ("-o", f"workers={workers}", "-o", "probation=0s")
    pipe = live(plugin_file("identity.py", IDENTITY), *options)
    pipe.wait_for("@1 live")
    for release in range(2, 12):
        plugin_file("identity.py", f"{IDENTITY}\n# release {release}")
        pipe.wait_for(rf"→ 1\.0\.0 @{release} ")
        if release in (5, 9):
            victim = pipe.workers()[-1]
            victim.kill()
            pipe.wait_for(f"worker {victim.pid} died of SIGKILL")
    assert pipe.finish() == 0, pipe.said
    assert pipe.received.digest() == pipe.sent.digest()
    assert "10 changeovers" in pipe.said[-1], "".join(pipe.said)


def test_frames_held_by_a_filter_come_out_before_the_cut_and_at_the_end(
    live: Callable[..., Live], plugin_file: PluginFile
) -> None:
    pipe = live(plugin_file("delay.py", DELAY))
    pipe.wait_for("@1 live")
    for release in range(2, 5):
        plugin_file("delay.py", f"{DELAY}\n# release {release}")
        pipe.wait_for(rf"→ 1\.0\.0 @{release} ")
    assert pipe.finish() == 0, pipe.said
    assert pipe.received.digest() == pipe.sent.digest()


def test_ffmpeg_on_both_sides_sees_the_same_frames(tmp_path: Path, plugin_file: PluginFile) -> None:
    clip = tmp_path / "clip.mp4"
    made = f"ffmpeg -v error -f lavfi -i testsrc2=s=322x182:r=30000/1001 -frames:v 40 {clip}"
    subprocess.run(made.split(), check=True, timeout=DEADLINE_S)
    decode = f"ffmpeg -v error -i {clip} -f yuv4mpegpipe -"
    hashed = "ffmpeg -v error -i - -f framemd5 -"
    through = f"{' '.join(COMMAND)} -q {plugin_file('identity.py', IDENTITY)} -o workers=3"

    def shell(line: str) -> bytes:
        return subprocess.run(
            line, shell=True, check=True, capture_output=True, timeout=DEADLINE_S
        ).stdout

    assert shell(f"{decode} | {through} | {hashed}") == shell(f"{decode} | {hashed}")


def test_a_stream_that_breaks_off_gives_its_whole_frames_first(plugin_file: PluginFile) -> None:
    code, out, said = piped(stream(5)[:-100], plugin_file("identity.py", IDENTITY))
    assert (code, numbers(out)) == (1, [0, 1, 2, 3])
    assert "the stream ends in frame 4: 100 of its 3456 bytes are missing" in said
    assert "4 frames in, 4 out" in said


def test_what_is_no_yuv4mpeg_says_so_before_anything_is_started(plugin_file: PluginFile) -> None:
    code, out, said = piped(b"RIFF", plugin_file("identity.py", IDENTITY))
    assert (code, out) == (1, b"")
    assert said.startswith("changeover: no yuv4mpeg stream")
    assert "live" not in said


def test_raw_video_goes_through_as_it_is(plugin_file: PluginFile) -> None:
    data = bytes(range(240)) * 3
    plugin = plugin_file("identity.py", IDENTITY)
    code, out, _ = piped(data, plugin, "--raw", "10x8:rgb24@30000/1001")
    assert (code, out) == (0, data)


def test_a_stream_without_frames_is_no_error(plugin_file: PluginFile) -> None:
    code, out, said = piped(HEADER.line(), plugin_file("identity.py", IDENTITY))
    assert (code, out) == (0, b"")
    assert "0 frames in, 0 out" in said


@pytest.mark.parametrize(
    ("what", "expected"),
    [("none", [0, 1, 2, 4, 5]), ("twice", [0, 1, 2, 3, 3, 4, 5]), ("array", [0, 1, 2, 3, 4, 5])],
)
def test_a_plugin_may_answer_nothing_several_or_an_array(
    plugin_file: PluginFile, what: str, expected: list[int]
) -> None:
    plugin = plugin_file("answers.py", ANSWERS.replace("PURE", "True"))
    code, out, said = piped(stream(6), plugin, f"what={what}", "at=[3]")
    assert (code, numbers(out)) == (0, expected), said


@pytest.mark.parametrize(
    ("what", "on_error", "expected"),
    [
        ("raise", "skip", [1, 2, 4, 5]),
        ("raise", "passthrough", [0, 1, 2, 3, 4, 5]),
        ("raise", "repeat", [0, 1, 2, 2, 4, 5]),
        ("die", "passthrough", [0, 1, 2, 3, 4, 5]),
        ("int", "skip", [1, 2, 4, 5]),
    ],
)
def test_on_error_says_what_becomes_of_a_frame(
    plugin_file: PluginFile, what: str, on_error: str, expected: list[int]
) -> None:
    plugin = plugin_file("answers.py", ANSWERS.replace("PURE", "False"))
    code, out, said = piped(stream(6), plugin, f"what={what}", "at=[0,3]", "--on-error", on_error)
    assert (code, numbers(out)) == (0, expected), said
    assert "2 failed" in said


def test_a_frame_that_the_plugin_fails_on_ends_the_stream(plugin_file: PluginFile) -> None:
    plugin = plugin_file("answers.py", ANSWERS.replace("PURE", "True"))
    code, out, said = piped(stream(6), plugin, "at=[3]")
    assert (code, numbers(out)) == (1, [0, 1, 2])
    assert re.search(r"frame 3 failed: ValueError: no good \(answers\.py:\d+\)", said)


def test_a_frame_lost_with_its_worker_is_named_and_what_would_help(
    plugin_file: PluginFile,
) -> None:
    plugin = plugin_file("answers.py", ANSWERS.replace("PURE", "False"))
    code, out, said = piped(stream(6), plugin, "at=[3]", "what=die")
    assert (code, numbers(out)) == (1, [0, 1, 2])
    assert re.search(r"frame 3 was lost with its worker: .*SIGKILL", said)
    assert "@plugin(pure=True)" in said
    assert "--on-error" in said


def test_a_frame_that_kills_every_worker_ends_the_stream(plugin_file: PluginFile) -> None:
    plugin = plugin_file("answers.py", ANSWERS.replace("PURE", "True"))
    code, out, said = piped(stream(6), plugin, "at=[3]", "what=die", "-o", "restart=10ms..10ms")
    assert (code, numbers(out)) == (1, [0, 1, 2])
    assert "frame 3 failed" in said


def test_a_result_that_is_no_picture_ends_the_stream(plugin_file: PluginFile) -> None:
    plugin = plugin_file("answers.py", ANSWERS.replace("PURE", "True"))
    code, out, said = piped(stream(6), plugin, "at=[3]", "what=int")
    assert (code, numbers(out)) == (1, [0, 1, 2])
    assert "frame 3 failed: the plugin answered a int" in said


def test_a_picture_of_another_size_in_mid_stream_ends_it(plugin_file: PluginFile) -> None:
    plugin = plugin_file("answers.py", ANSWERS.replace("PURE", "True"))
    code, out, said = piped(stream(6), plugin, "at=[3]", "what=smaller")
    assert (code, numbers(out)) == (1, [0, 1, 2])
    assert "frame 3: a frame of 8x8 yuv420p after frames of 64x36 yuv420p" in said


def test_another_size_from_the_first_frame_on_makes_another_header(
    plugin_file: PluginFile,
) -> None:
    plugin = plugin_file("answers.py", ANSWERS.replace("PURE", "True"))
    code, out, _ = piped(stream(2), plugin, "at=[0,1]", "what=smaller")
    assert code == 0
    assert out.split(b"\n")[0] == b"YUV4MPEG2 W8 H8 F25:1 Ip A1:1 C420jpeg"


def test_a_reader_that_leaves_ends_it_quietly(plugin_file: PluginFile) -> None:
    process = subprocess.Popen(
        [*COMMAND, "-q", str(plugin_file("identity.py", IDENTITY))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    feeder = threading.Thread(target=_feed_until_it_breaks, args=(process.stdin,))
    feeder.start()
    process.stdout.read(1000)
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 141
    assert process.stderr.read() == b""
    feeder.join(DEADLINE_S)
    process.stderr.close()


def _feed_until_it_breaks(pipe: io.BufferedWriter) -> None:
    data = stream(50)
    with pytest.raises(BrokenPipeError):
        pipe.writelines(data for _ in range(10_000))
    with contextlib.suppress(BrokenPipeError):  # its buffer may hold something still
        pipe.close()


def test_a_release_that_does_not_load_is_told_with_file_and_line(plugin_file: PluginFile) -> None:
    code, out, said = piped(stream(2), plugin_file("broken.py", "import nonsense_of_a_name"))
    assert (code, out) == (1, b"")
    assert "broken.py:1" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["./there_is_none.py"], "no such file"),
        (["PLUGIN", "strength"], "must be KEY=VALUE"),
        (["PLUGIN", "--raw", "8x8"], "is not WxH:FMT@FPS"),
        (["PLUGIN", "--raw", "8x8:gray@25", "--format", "y4m"], "leave --format away"),
        (["PLUGIN", "--format", "nut"], "nut"),
        (["PLUGIN", "--ahead", "0"], "--ahead"),
        (["PLUGIN", "--json"], "stdout carries the stream"),
        (["PLUGIN", "-o", "strength=1"], "strength"),
    ],
)
def test_usage_errors_exit_2(plugin_file: PluginFile, arguments: list[str], message: str) -> None:
    plugin = str(plugin_file("identity.py", IDENTITY))
    code, out, said = piped(
        stream(1), *(plugin if each == "PLUGIN" else each for each in arguments)
    )
    assert (code, out) == (2, b""), said
    assert message in said


def test_an_argument_that_the_plugin_does_not_take_ends_the_stream(
    plugin_file: PluginFile,
) -> None:
    code, _, said = piped(stream(1), plugin_file("identity.py", IDENTITY), "strength=1")
    assert code == 1
    assert "unexpected keyword argument 'strength'" in said


def test_a_running_supervisor_serves_by_name_and_its_words_are_passed_on(
    tmp_path: Path, plugin_file: PluginFile
) -> None:
    plugin_file("identity.py", IDENTITY)
    config = tmp_path / "changeover.toml"
    config.write_text(
        '[supervisor]\nsocket = "s.sock"\nstate_dir = "state"\nsettle = "50ms"\n'
        '[plugins.identity]\nsource = "identity.py"\n'
    )
    serve = subprocess.Popen([*COMMAND[:-1], "serve", "-c", str(config)], stderr=subprocess.PIPE)
    assert serve.stderr
    try:
        while b"live" not in serve.stderr.readline():
            assert serve.poll() is None
        code, out, said = piped(stream(5), "identity", "-s", tmp_path / "s.sock")
        assert (code, numbers(out)) == (0, [0, 1, 2, 3, 4]), said
        code, _, said = piped(stream(5), "nobody", "-s", tmp_path / "s.sock")
        assert code == 4, said
    finally:
        serve.terminate()
        serve.wait(DEADLINE_S)
        serve.stderr.close()
