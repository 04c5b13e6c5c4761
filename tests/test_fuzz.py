"""The fuzzer, for a few seconds, and what it calls growth."""

from __future__ import annotations

import json

import pytest

from .fuzz import SLACK_BYTES, Bytes, is_grown, main


def test_a_few_seconds_find_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--minutes", "0.05"])
    lines = capsys.readouterr().out.splitlines()
    report = json.loads(lines[-1])
    assert report["schema"] == "changeover.fuzz/1"
    assert (code, report["findings"]) == (0, []), lines
    assert report["connections"] == report["streams"] >= 50
    assert report["bystander_calls"] >= 1


def test_a_seed_gives_the_same_again() -> None:
    first, again, other = ([each.stream() for _ in range(50)] for each in map(Bytes, (7, 7, 8)))
    assert first == again != other


def test_growth_is_that_of_the_end_over_the_middle() -> None:
    flat = [50 << 20] * 30
    warm = [*range(20 << 20, 50 << 20, 3 << 20), *flat[10:]]
    leaks = [(50 << 20) + n * SLACK_BYTES // 5 for n in range(30)]
    assert (is_grown(flat), is_grown(warm), is_grown(leaks)) == (False, False, True)
