"""The supervisor's own words on stderr."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime

import pytest

from changeover.supervisor.narrator import Narrator


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    fds = os.pipe()
    yield fds
    for fd in fds:
        os.close(fd)


def said(pipe: tuple[int, int]) -> list[str]:
    return os.read(pipe[0], 1 << 20).decode().splitlines()


def test_people_get_text(pipe: tuple[int, int]) -> None:
    narrator = Narrator("text", fd=pipe[1])
    narrator.say("info", "2.2.0 @4 is live", plugin="denoise", lost=0)
    narrator.say("error", "denoise: worker 7 died\n  1 job re-run", plugin="denoise")

    first, second, third = said(pipe)
    assert first[8:] == " denoise: 2.2.0 @4 is live  lost=0"
    assert second[8:] == " error: denoise: worker 7 died"
    assert third == "  1 job re-run"


def test_machines_get_one_object_a_line(pipe: tuple[int, int]) -> None:
    Narrator("auto", fd=pipe[1]).say("warning", "two\nlines", plugin="p", generation=4)

    [entry] = (json.loads(line) for line in said(pipe))
    assert datetime.fromisoformat(entry.pop("time")).utcoffset() is not None
    assert entry == {"level": "warning", "plugin": "p", "message": "two\nlines", "generation": 4}


def test_what_is_below_the_level_is_not_said(pipe: tuple[int, int]) -> None:
    narrator = Narrator("json", level="warning", fd=pipe[1])
    narrator.say("info", "quiet")
    narrator.say("error", "loud")

    assert [json.loads(line)["message"] for line in said(pipe)] == ["loud"]


def test_nobody_reading_does_not_hold_it_up(pipe: tuple[int, int]) -> None:
    narrator = Narrator("json", fd=pipe[1])
    for n in range(2000):
        narrator.say("info", f"{n}")
    written = len(said(pipe))
    assert 0 < written < 2000

    narrator.say("info", "again")

    messages = [json.loads(line)["message"] for line in said(pipe)]
    assert messages == [f"{2000 - written} messages could not be written", "again"]


def test_a_closed_stderr_does_not_hurt() -> None:
    read, write = os.pipe()
    os.close(read)
    Narrator("json", fd=write).say("error", "to nobody")
    os.close(write)
