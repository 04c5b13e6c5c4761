"""The soak: changeovers under load, with crashes, for as long as it is told to; is all flat?

`python -m tests.soak --minutes 10` saves a new release as soon as the last has taken over, while
numbered jobs flow through three workers; one job in a hundred kills its worker. Every few seconds
it looks at the supervisor: descriptors, threads, zombies, memory, store, CPU per job. The last line
is `{"schema": "changeover.soak/1", ...}`; exit 1 if a job was lost, or something has grown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from changeover.client import Changeover, Refused, launch

PLUGIN = """
import os, signal
from changeover.worker import plugin

@plugin(version="{number}.0.0", pure=True)
def job(n, crashed):
    if n % 100 == 99:  # once: the file tells the second attempt that there was a first
        try:
            os.close(os.open(crashed + str(n), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            os.unlink(crashed + str(n))
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return n
"""
KEYS = {"workers": 3, "reload": "on-signal", "probation": "100ms", "restart": "1ms..100ms",
        "crash_loop": "1000000 in 1s", "drain_timeout": "5s"}  # fmt: skip
SAMPLES = 30  # over the whole run
GROWTH = 1.2  # of a later median over an earlier one: more has grown


@dataclass(frozen=True, slots=True)
class Sample:
    """The supervisor at one moment."""

    changeovers: int
    jobs: int
    fds: int
    threads: int
    zombies: int
    rss_bytes: int
    store_bytes: int
    history_bytes: int
    cpu_us_per_job: float


class Soak:
    """One run."""

    def __init__(self, co: Changeover, folder: Path, state_dir: Path) -> None:
        self._co = co
        self._folder = folder
        self._state_dir = state_dir
        self._source = folder / "job.py"
        self._supervisor = psutil.Process(co.status()["pid"])
        self._is_over = threading.Event()
        self._before = (0, 0.0)
        self.changeovers = 0
        self.jobs = 0
        self.misplaced = 0
        self.error: BaseException | None = None

    def write(self) -> None:
        """Save another release."""
        self._source.write_text(PLUGIN.format(number=self.changeovers + 1))

    def run(self, seconds: float, say: Callable[[Sample], None]) -> list[Sample]:
        """Soak it."""
        self.write()
        self._co.add("job", {"source": str(self._source), **KEYS})
        load = threading.Thread(target=self._load)
        load.start()
        samples, begun = [], time.monotonic()
        try:
            for number in itertools.count(1):
                while time.monotonic() < begun + seconds * number / SAMPLES:
                    self._replace()
                samples.append(self._sample())
                say(samples[-1])
                if number == SAMPLES or self.error is not None:
                    return samples
        finally:
            self._is_over.set()
            load.join()
        return samples

    def _replace(self) -> None:
        self.write()
        try:
            self._co.reload("job")
        except Refused as refused:
            if refused.outcome != "rolled_back":  # rightly so: its first job killed its worker
                raise
        self.changeovers += 1

    def _load(self) -> None:
        crashed = self._folder / "crashed"
        crashed.mkdir()
        try:
            numbers = self._co["job"].map(self._numbers(), buffersize=12, crashed=f"{crashed}/")
            for expected, number in enumerate(numbers):
                self.misplaced += number != expected
                self.jobs += 1
        except BaseException as error:  # noqa: BLE001 - it is the verdict
            self.error = error

    def _numbers(self) -> Iterator[int]:
        for number in itertools.count():
            if self._is_over.is_set():
                return
            yield number

    def _sample(self) -> Sample:
        process, jobs = self._supervisor, self.jobs
        with process.oneshot():
            cpu_s = process.cpu_times().user + process.cpu_times().system
            rss_bytes, threads, fds = (
                process.memory_info().rss, process.num_threads(), process.num_fds(),
            )  # fmt: skip
        zombies = sum(_is_zombie(child) for child in process.children(recursive=True))
        jobs_before, cpu_before_s = self._before
        self._before = (jobs, cpu_s)
        return Sample(
            self.changeovers, jobs, fds, threads, zombies, rss_bytes,
            _size(self._state_dir / "store"), (self._state_dir / "history.jsonl").stat().st_size,
            round((cpu_s - cpu_before_s) / max(1, jobs - jobs_before) * 1e6, 1),
        )  # fmt: skip


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # it was just being deleted
            continue
    return total


def grown(samples: list[Sample]) -> list[str]:
    """What is larger in the last third than in the middle one; the first third warms up."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    found = []
    for name in ("fds", "threads", "zombies", "rss_bytes", "store_bytes", "cpu_us_per_job"):
        before = median(getattr(sample, name) for sample in middle)
        after = median(getattr(sample, name) for sample in last)
        if after > before * GROWTH:
            found.append(f"{name}: {before:g} → {after:g}")
    return found


def main(argv: list[str] | None = None) -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder, state_dir = Path(name), Path(name) / "state"
        quiet: dict[str, Any] = {"watch": "off", "log.level": "error", "log.format": "text"}
        with launch({}, state_dir=str(state_dir), **quiet) as co:
            soak = Soak(co, folder, state_dir)
            samples = soak.run(options.minutes * 60, lambda sample: print(_line(sample)))
            counts = co.status()["plugins"]["job"]["counts"]
    lost = counts["accepted"] - counts["done"]
    larger = grown(samples)
    if soak.error is not None:
        print(f"the load ended with {soak.error!r}")
    print(json.dumps({
        "schema": "changeover.soak/1", "minutes": options.minutes, "lost": lost,
        "misplaced": soak.misplaced, "rerun": counts["rerun"], "grown": larger,
        "first": asdict(samples[0]), "last": asdict(samples[-1]),
    }))  # fmt: skip
    return 1 if lost or soak.misplaced or soak.error is not None or larger else 0


def _line(sample: Sample) -> str:
    return (
        f"{sample.changeovers:5} changeovers  {sample.jobs:8} jobs  {sample.fds:3} fds  "
        f"{sample.threads} threads  {sample.zombies} zombies  {sample.rss_bytes >> 10:7} KiB  "
        f"store {sample.store_bytes >> 10:4} KiB  history {sample.history_bytes >> 10:5} KiB  "
        f"{sample.cpu_us_per_job:6.1f} µs/job"
    )


if __name__ == "__main__":
    sys.exit(main())
