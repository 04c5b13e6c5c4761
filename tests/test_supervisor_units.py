"""Durations, sizes and rates: what is read, and what is said about the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from changeover.supervisor import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("2 m", 120.0),
        ("0s", 0.0),
        ("3d", 259200.0),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert units.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "count"),
    [("512MiB", 512 * 2**20), ("20GiB", 20 * 2**30), ("1kB", 1000), ("1.5KiB", 1536), ("7B", 7)],
)
def test_a_size_is_a_number_and_a_unit(text: str, count: int) -> None:
    assert units.size(text) == count


def test_a_backoff_is_two_durations() -> None:
    assert units.backoff("100ms..30s") == (0.1, 30.0)


def test_a_burst_is_a_number_within_a_duration() -> None:
    assert units.burst("5 in 60s") == (5, 60.0)


def test_an_error_limit_is_a_factor_or_a_rate() -> None:
    assert units.error_limit("2x") == (2.0, None)
    assert units.error_limit("5%") == (None, 0.05)


def test_off_is_no_timeout() -> None:
    assert units.duration_or_off("off") is None


@pytest.mark.parametrize(
    ("read", "value", "sentence"),
    [
        (units.duration, 30, 'needs a unit, such as "30s", not 30'),
        (units.duration, "30", 'needs a unit, such as "30s", not "30"'),
        (units.duration, "30sec", 'unknown unit "sec"'),
        (units.duration, "soon", 'must be a duration, such as "30s", not "soon"'),
        (units.duration, "-1s", 'must be a duration, such as "30s", not "-1s"'),
        (units.duration, True, 'must be a duration, such as "30s", not true'),
        (units.positive_duration, "0s", "must be longer than zero"),
        (units.duration_or_off, "0s", "must be longer than zero"),
        (units.size, 512, 'needs a unit, such as "512MiB", not 512'),
        (units.size, "512MX", 'unknown unit "MX"'),
        (units.size, "0B", "must be more than zero"),
        (units.backoff, "100ms", 'must be two durations, such as "100ms..30s"'),
        (units.backoff, "30s..100ms", "the shorter one comes first"),
        (units.backoff, 3, 'must be two durations, such as "100ms..30s", not 3'),
        (units.burst, "5", 'must be a number and a duration, such as "5 in 60s"'),
        (units.burst, "0 in 60s", 'such as "5 in 60s"'),
        (units.error_limit, "2", 'must be a factor, such as "2x", or a rate, such as "5%"'),
        (units.error_limit, "101%", "a rate is at most 100%"),
    ],
)
def test_a_wrong_value_is_told_with_one_that_is_right(
    read: Callable[[object], object], value: object, sentence: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the sentence is the test
        read(value)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0002, "0.2 ms"),
        (0.031, "31 ms"),
        (4.14, "4.1 s"),
        (75.0, "1m 15s"),
        (3 * 3600 + 240, "3h 4m"),
        (3 * 86400 + 4 * 3600, "3d 4h"),
    ],
)
def test_a_duration_is_shown_in_two_steps(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (512, "512B"),
        (412 * 2**20, "412M"),
        (int(2.1 * 2**30), "2.1G"),
        (2**50, "1024.0T"),
    ],
)
def test_a_size_is_shown_in_three_digits(count: int, text: str) -> None:
    assert units.format_size(count) == text
