"""Memory and CPU of real process trees."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from changeover.supervisor.usage import UsageMeter, memory_of

Start = Callable[[str], "subprocess.Popen[bytes]"]
READY = "import sys; sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program, and wait until it has written a character."""
    running: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        running.append(process)
        assert process.stdout
        assert process.stdout.read(1) == b"."
        return process

    yield start
    for process in running:
        process.kill()
        process.__exit__(None, None, None)


def test_memory_is_that_of_the_whole_tree(start: Start) -> None:
    alone = start(READY)
    child = f"b = bytearray(80_000_000); {READY}"
    parent = start(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")

    usage = UsageMeter().read([alone.pid, parent.pid])

    assert 1_000_000 < usage[alone.pid].rss_bytes < 60_000_000
    assert usage[parent.pid].rss_bytes > 80_000_000


def test_cpu_is_that_since_the_last_time(start: Start) -> None:
    busy = start(
        "import sys, time\n"
        "sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read(1)\n"
        "end = time.process_time() + 0.3\n"
        "while time.process_time() < end: pass\n"
        "sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()\n"
    )
    idle = start(READY)
    meter = UsageMeter()
    first = meter.read([busy.pid, idle.pid])
    assert first[busy.pid].cpu_percent == 0.0
    assert busy.stdin
    assert busy.stdout
    busy.stdin.write(b".")
    busy.stdin.flush()
    busy.stdout.read(1)

    second = meter.read([busy.pid, idle.pid])

    assert second[busy.pid].cpu_percent > 10
    assert second[idle.pid].cpu_percent < 10


def test_what_has_gone_is_left_out(start: Start) -> None:
    gone, there = start(READY), start(READY)
    meter = UsageMeter()
    assert set(meter.read([gone.pid, there.pid])) == {gone.pid, there.pid}
    gone.kill()
    gone.wait()

    assert set(meter.read([gone.pid, there.pid])) == {there.pid}


def test_what_a_tree_shares_counts_once(start: Start) -> None:
    tree = start(
        "import mmap, os, sys\n"
        "shared, (r, w) = mmap.mmap(-1, 80_000_000), os.pipe()\n"
        "shared.write(b'x' * len(shared))\n"
        "if os.fork():\n"
        "    os.read(r, 1); sys.stdout.write('.'); sys.stdout.flush()\n"
        "elif shared[::4096]:\n"
        "    os.write(w, b'.')\n"
        "sys.stdin.read()\n"
    )

    assert 80_000_000 < memory_of([tree.pid])[tree.pid] < 150_000_000
    assert UsageMeter().read([tree.pid])[tree.pid].rss_bytes > 160_000_000


def test_a_worker_alone_takes_what_status_shows(start: Start) -> None:
    alone = start(f"kept = b'x' * 80_000_000; {READY}")

    assert memory_of([alone.pid]) == {
        alone.pid: UsageMeter().read([alone.pid])[alone.pid].rss_bytes
    }


def test_what_has_gone_takes_nothing(start: Start) -> None:
    gone = start(READY)
    gone.kill()
    gone.wait()

    assert memory_of([gone.pid]) == {gone.pid: 0}
