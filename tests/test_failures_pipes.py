"""What goes wrong on the pipes between supervisor and workers stays with that worker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from changeover.client import Changeover, WorkerLost, launch

from .conftest import PluginFile
from .pipes import Hold
from .serving import DEADLINE_S, added, worker_pid

PLUGINS = Path(__file__).parent / "plugins"
STARTS = ("exec", "spawn", "forkserver")
MIB = 1 << 20
BY_HAND = {"source": str(PLUGINS / "speaks_by_hand.py"), "command": [sys.executable, "{source}"]}


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({"neighbour": str(PLUGINS / "echoes.py")}, watch="off") as one:
        yield one


def rss_bytes(co: Changeover) -> int:
    """Of the supervisor."""
    return int(psutil.Process(co.status()["pid"]).memory_info().rss)


def test_a_death_in_mid_message_costs_its_own_job_alone(co: Changeover, hold: Hold) -> None:
    with added(co, "job", **BY_HAND, workers=2) as job:
        other = job.submit("hangs", hold.path)
        hold.wait_for(1)
        lost = job.submit("dies in the middle").exception(DEADLINE_S)
        assert isinstance(lost, WorkerLost)
        assert (lost.reason, lost.executed) == ("crashed", "maybe")
        assert job("here") == "here"
        assert not other.done()


@pytest.mark.parametrize("start", STARTS)
def test_a_worker_that_does_not_read_delays_nobody_else(co: Changeover, start: str) -> None:
    with added(co, "job", source=str(PLUGINS / "echoes.py"), start=start) as job:
        stopped = psutil.Process(worker_pid(co, "job"))
        stopped.suspend()
        big = job.submit(b"x" * (16 * MIB))
        assert [co["neighbour"](n) for n in range(200)] == list(range(200))
        assert co.status()["plugins"]["job"]["running"] == 1
        assert not big.done()
        stopped.resume()
        assert len(big.result(DEADLINE_S)) == 16 * MIB


@pytest.mark.parametrize("start", STARTS)
def test_noise_harms_no_answer_and_is_bounded_with_a_count(co: Changeover, start: str) -> None:
    with added(co, "job", source=str(PLUGINS / "makes_noise.py"), start=start) as job:
        before = rss_bytes(co)
        assert job(flood_bytes=32 * MIB, payload=b"ok") == b"ok"
        assert rss_bytes(co) < before + 8 * MIB
        lines = [line["message"] for line in co.logs("job")]
        assert {"a print", "a puts", "a write", "after the flood"} <= set(lines)
        assert any("bytes cut)" in line for line in lines)
        assert sum(map(len, lines)) < MIB


@pytest.mark.parametrize("start", STARTS)
def test_large_messages_both_ways_at_once_do_not_deadlock(co: Changeover, start: str) -> None:
    path = str(PLUGINS / "echoes.py")
    with added(co, "job", source=path, start=start, concurrency=4) as job:
        frames = [bytes([n]) * (2 * MIB) for n in range(8)]
        assert list(job.map(frames, buffersize=8)) == frames


ONE_THING_AT_A_TIME = f"""
import sys
sys.path.insert(0, {str(PLUGINS)!r})
from raw_worker import LOADED, RawWorker

RawWorker.loaded = LOADED | {{"concurrency": 4}}
RawWorker().serve()
"""


def test_a_worker_that_does_not_read_while_it_answers_is_no_deadlock(
    co: Changeover, plugin_file: PluginFile
) -> None:
    path = str(plugin_file("program.py", ONE_THING_AT_A_TIME))
    keys = {"source": path, "command": [sys.executable, "-P", "{source}"], "concurrency": 4}
    with added(co, "job", **keys) as job:
        frames = [bytes([n]) * (2 * MIB) for n in range(8)]
        assert [args[0] for args in job.map(frames, buffersize=8)] == frames
