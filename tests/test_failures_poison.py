"""A job that ends every worker that takes it: it alone is refused, and no release is blamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from changeover.client import Changeover, Poisoned, launch

from .conftest import PluginFile
from .pipes import Hold
from .serving import DEADLINE_S, added

STARTS = ("exec", "spawn", "forkserver")
KEYS = {"restart": "1ms..1ms", "crash_loop": "5 in 60s"}
JOB = """
import os
from changeover.worker import plugin

@plugin(version="1.0.0", pure=True)
def job(number, hold=None):
    if hold is not None:
        with open(hold + ".began", "wb", buffering=0) as began:
            began.write(b".")
        with open(hold, "rb", buffering=0) as held:
            held.read(1)
    if number < 0:
        os.abort()
    return number
"""


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, watch="off") as one:
        yield one


@pytest.mark.parametrize("start", STARTS)
def test_a_job_that_ends_three_workers_is_refused_and_its_release_serves_on(
    co: Changeover, plugin_file: PluginFile, start: str
) -> None:
    path = plugin_file("job.py", JOB)
    with added(co, "job", source=str(path), start=start, probation="1ms", **KEYS) as job:
        for count in range(1, 4):  # nine deaths: a crash loop, if they were the release's
            poisoned = job.submit(-count).exception(DEADLINE_S)
            assert isinstance(poisoned, Poisoned)
            assert (poisoned.signal, poisoned.retryable) == ("SIGABRT", False)
            assert job(count) == count
        plugin = co.status()["plugins"]["job"]
        assert plugin["state"] == "live"
        assert (plugin["counts"]["rerun"], plugin["counts"]["lost"]) == (6, 3)
        assert not co.reload_changed()[0].cause  # its content is not marked


@pytest.mark.parametrize("start", STARTS)
def test_the_neighbour_of_a_poison_job_is_run_again(
    co: Changeover, plugin_file: PluginFile, hold: Hold, tmp_path: Path, start: str
) -> None:
    path = plugin_file("job.py", JOB)
    keys = {"concurrency": 2, "poison": 2, "probation": "1ms", **KEYS}
    with (
        closing(Hold(tmp_path, "elsewhere")) as elsewhere,
        added(co, "job", source=str(path), start=start, **keys) as job,
    ):
        poison = job.submit(-1, hold=hold.path)
        hold.wait_for(1)
        hold.release(1)
        hold.wait_for(1)  # its second attempt
        neighbour = job.submit(7, hold=elsewhere.path)
        elsewhere.wait_for(1)
        hold.release(1)
        assert isinstance(poison.exception(DEADLINE_S), Poisoned)
        elsewhere.wait_for(1)
        elsewhere.release(1)
        assert neighbour.result(DEADLINE_S) == 7
