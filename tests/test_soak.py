"""The soak, in small: it counts what is lost, and notices what grows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from .soak import Sample, grown, main

FLAT = Sample(
    changeovers=0, jobs=0, fds=30, threads=2, zombies=0, rss_bytes=50_000_000,
    store_bytes=20_000, history_bytes=0, cpu_us_per_job=100.0,
)  # fmt: skip


def test_a_flat_run_has_not_grown() -> None:
    samples = [replace(FLAT, changeovers=n, history_bytes=1000 * n) for n in range(30)]
    assert grown(samples) == []


@pytest.mark.parametrize("name", ["fds", "threads", "rss_bytes", "store_bytes", "cpu_us_per_job"])
def test_what_grows_with_the_changeovers_is_named(name: str) -> None:
    value = getattr(FLAT, name)
    samples = [replace(FLAT, **{name: value * (1 + n / 10)}) for n in range(30)]
    assert [line.partition(":")[0] for line in grown(samples)] == [name]


def test_a_zombie_that_stays_is_named() -> None:
    samples = [replace(FLAT, zombies=n // 20) for n in range(30)]
    assert grown(samples) == ["zombies: 0 → 1"]


@pytest.mark.long
def test_a_short_soak_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--minutes", "0.1"])  # too short to say what grows
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["schema"] == "changeover.soak/1"
    assert (report["lost"], report["misplaced"]) == (0, 0)
    assert report["last"]["changeovers"] >= 3
    assert report["rerun"] > 0
