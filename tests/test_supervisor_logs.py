"""What a worker writes to stderr becomes lines, whatever it writes."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from collections.abc import Iterator

import pytest

from changeover.supervisor.logs import LINE_BYTES, LINES_PER_S, StderrPump, WorkerLog


@pytest.fixture
def log() -> WorkerLog:
    return WorkerLog()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, write
    for fd in (read, write):
        try:
            os.close(fd)
        except OSError:  # the test closed it
            continue


def test_a_line_may_come_in_any_pieces(log: WorkerLog) -> None:
    text = "one\ntwo € é\n\nthree\n".encode()
    for split in range(len(text)):
        lines = log.feed(text[:split], split) + log.feed(text[split:], split)
        assert lines == ["one", "two € é", "", "three"]


def test_the_unfinished_line_is_shown_at_the_end(log: WorkerLog) -> None:
    assert log.feed(b"no newline", 0) == []
    assert log.end() == ["no newline"]
    assert log.end() == []


def test_a_long_line_is_cut_and_says_by_how_much(log: WorkerLog) -> None:
    [line] = log.feed(b"x" * (LINE_BYTES + 100) + b"\n", 0)

    assert line == "x" * LINE_BYTES + " … (100 bytes cut)"


def test_a_gigabyte_without_a_newline_takes_no_memory(log: WorkerLog) -> None:
    chunk = b"x" * 65536
    tracemalloc.start()
    for _ in range(2**30 // len(chunk)):
        log.feed(chunk, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1_000_000
    assert log.end()[0].endswith(f"({2**30 - LINE_BYTES} bytes cut)")


def test_lines_beyond_the_rate_are_counted_and_reported_in_one_line(log: WorkerLog) -> None:
    shown = log.feed(b"line\n" * 1000, 0.0)
    assert shown == ["line"] * LINES_PER_S

    report, line = log.feed(b"later\n", 1.0)
    assert report == f"(800 lines suppressed: more than {LINES_PER_S} a second)"
    assert line == "later"


def test_a_steady_flood_is_reported_once_a_second(log: WorkerLog) -> None:
    shown = [line for ms in range(10_000) for line in log.feed(b"line\n" * 100, ms / 1000)]

    reports = [line for line in shown if "suppressed" in line]
    assert len(shown) - len(reports) == pytest.approx(LINES_PER_S * 11, abs=2)
    assert len(reports) == pytest.approx(10, abs=1)


def test_every_line_is_either_shown_or_counted(log: WorkerLog) -> None:
    shown = [line for n in range(50) for line in log.feed(b"a\nb\nc\nd\ne", n / 100)] + log.end()

    reports = [line for line in shown if "suppressed" in line]
    counted = sum(int(line[1:].split()[0]) for line in reports)
    assert len(shown) - len(reports) + counted == 50 * 4 + 1


def test_the_tail_has_the_last_lines_even_of_a_flood(log: WorkerLog) -> None:
    log.feed(b"unfinished", 0)
    log.feed(b"".join(b"%d\n" % n for n in range(5000)) + b"Traceback", 0)

    assert log.tail.split("\n") == [str(n) for n in range(4980, 5000)] + ["Traceback"]


def test_a_few_suppressed_lines_keep_their_beginning(log: WorkerLog) -> None:
    log.feed(b"x\n" * LINES_PER_S + b"half", 0)
    log.feed(b"-line\nlast\n", 0)

    assert log.tail.split("\n")[-2:] == ["half-line", "last"]


def test_the_tail_is_bounded(log: WorkerLog) -> None:
    log.feed((b"y" * LINE_BYTES + b"\n") * 20, 0)

    assert len(log.tail) == 4096


@pytest.mark.parametrize(
    "pieces",
    [
        [b"10%\r20%\r100%\n"],
        [b"10%\r", b"20%", b"\r", b"100%\n"],
        [b"10%", b"\r100%\r", b"\n"],
        [b"\r10%\r\r100%\r\r\n"],
    ],
)
def test_a_progress_bar_shows_what_a_terminal_would(log: WorkerLog, pieces: list[bytes]) -> None:
    assert [line for piece in pieces for line in log.feed(piece, 0)] == ["100%"]


def test_a_progress_bar_that_goes_on_for_ever_shows_its_last_state(log: WorkerLog) -> None:
    for n in range(100_000):
        log.feed(b"\rframe=%d" % n, 0)

    assert log.end() == ["frame=99999"]


def test_a_line_end_of_two_characters_is_one(log: WorkerLog) -> None:
    assert log.feed(b"one\r\ntwo\r", 0) + log.feed(b"\nthree\n", 0) == ["one", "two", "three"]


def test_bytes_that_are_no_text_are_shown(log: WorkerLog) -> None:
    assert log.feed(b"\xff\xfe caf\xc3\xa9\n", 0) == [r"\xff\xfe café"]


def test_a_terminal_is_not_given_orders(log: WorkerLog) -> None:
    assert log.feed(b"\x1b[2Jgone\x07\tbut\x7f\xc2\x9b\n", 0) == [
        "\\x1b[2Jgone\\x07\tbut\\x7f\\x9b"
    ]


def test_a_log_message_is_under_the_same_limits(log: WorkerLog) -> None:
    assert log.admit("x" * (LINE_BYTES + 1), 0) == ["x" * LINE_BYTES + " … (1 bytes cut)"]
    log.feed(b"line\n" * 500, 0)
    assert log.admit("one too many", 0) == []


def test_the_pump_reads_as_it_comes_and_ends_with_the_pipe(pipe: tuple[int, int]) -> None:
    async def pump() -> list[str]:
        lines: asyncio.Queue[str] = asyncio.Queue()
        StderrPump(pipe[0], lines.put_nowait)
        os.write(pipe[1], b"first\nsec")
        got = [await asyncio.wait_for(lines.get(), 5)]
        os.write(pipe[1], b"ond\nthird")
        os.close(pipe[1])
        return got + [await asyncio.wait_for(lines.get(), 5) for _ in range(2)]

    assert asyncio.run(pump()) == ["first", "second", "third"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe[0])


def test_closing_the_pump_takes_what_is_still_in_the_pipe(pipe: tuple[int, int]) -> None:
    async def close() -> StderrPump:
        pump = StderrPump(pipe[0], lines.append)
        os.write(pipe[1], b"last words\nand")
        pump.close()
        pump.close()
        return pump

    lines: list[str] = []
    pump = asyncio.run(close())

    assert lines == ["last words", "and"]
    assert pump.stderr_tail == "last words\nand"


def test_suppressed_lines_are_reported_when_nothing_follows(pipe: tuple[int, int]) -> None:
    async def flood() -> str:
        lines: asyncio.Queue[str] = asyncio.Queue()
        pump = StderrPump(pipe[0], lines.put_nowait)
        os.write(pipe[1], b"x\n" * 1000)
        while (line := await asyncio.wait_for(lines.get(), 5)) == "x":
            pass
        pump.close()
        return line

    assert asyncio.run(flood()).startswith("(800 lines suppressed")
