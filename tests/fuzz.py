"""The fuzzer: mutated and random bytes against the splitter, and as clients of a real supervisor.

`python -m tests.fuzz --minutes 10` goes on with what a seed gives; `--seed N` gives the same again.
A bystander, another client, is served all the while. The last line is
`{"schema": "changeover.fuzz/1", ...}`; exit 1 on a crash, a hang, or memory that grows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

from changeover.protocol.errors import Fatal, Fault
from changeover.protocol.framing import Splitter
from changeover.protocol.messages import open_message

from .wire import PATIENCE_S, PLUGINS, Supervisor, packed

PING = packed([0, 1, "ping", [7]])
MESSAGES = [
    packed([0, 1, "run", ["echo", "run", [1, "x"], {"id": "f", "key": "k", "stream": 2}]]),
    packed([0, 1, "submit", ["echo", "run", {"a": 1}, {"notify": True, "timeout_ms": 5}]]),
    packed([0, 1, "wait", [["f", "g"], {"mode": "any", "timeout_ms": 1}]]),
    packed([0, 1, "watch", [["plugins", "log"], {"plugin": "echo", "min_level": "info"}]]),
    packed([0, 1, "status", [{"plugin": "echo", "job": "f"}]]),
    packed([0, 1, "logs", [{"limit": 2, "level": "info"}]]),
    packed([0, 1, "history", [{"limit": 2, "verify": True}]]),
    packed([0, 1, "reload", [["nobody"], {"wait": "cut", "source": b"x"}]]),
    packed([0, 1, "add", ["fuzz", {"source": "/x", "config": {"a": [1]}}]]),
    packed([0, 1, "hello", [{"protocol": [1], "name": "fuzz"}]]),
    packed([2, "more", ["f", 3]], [2, "cancel", ["f", {"mode": "kill"}]]),
    packed([0, 1, "ping", list(range(17))]),
    b"\x94\x00\x01\xa4ping" + b"\x91" * 64 + b"\xc0",
    packed([1, 7, None, {"a": [1]}], [1, 8, [1000, "no", {}], None]),
]
HEADS = (
    b"\x80\x81\x8f\x90\x91\x93\x94\xa0\xbf\xc0\xc1\xc4\xc6\xc7\xc9\xcb\xcf\xd3\xd8\xdb\xdd\xdf\xff"
)
ROUND = 50  # connections from one look at the supervisor to the next
SLACK_BYTES = 16 << 20  # it may grow so much until everything was used once
LEAST_SAMPLES = 9


@dataclass
class Report:
    """What was tried and what came of it."""

    seed: int
    streams: int = 0
    connections: int = 0
    sent_bytes: int = 0
    bystander_calls: int = 0
    rss_bytes: list[int] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def line(self) -> str:
        """For programs."""
        facts = {**vars(self), "rss_bytes": [*self.rss_bytes[:1], *self.rss_bytes[-1:]]}
        return json.dumps({"schema": "changeover.fuzz/1", **facts})


class Bytes:
    """Streams that are nearly right, or not at all."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def stream(self) -> bytes:
        """The next one."""
        if self._chance.random() < 0.1:
            return self._chance.randbytes(self._chance.randint(1, 200))
        parts = [self._mutated() for _ in range(self._chance.randint(1, 4))]
        return b"".join(parts)

    def pieces(self, stream: bytes) -> Iterator[bytes]:
        """Cut wherever it may be."""
        while stream:
            at = self._chance.randint(1, len(stream))
            yield stream[:at]
            stream = stream[at:]

    def is_rude(self) -> bool:
        """Does this client leave without listening?"""
        return self._chance.random() < 0.2

    def _mutated(self) -> bytes:
        data = bytearray(self._chance.choice(MESSAGES))
        for _ in range(self._chance.randint(0, 3)):
            self._mutate(data, self._chance.randrange(len(data)))
        return bytes(data)

    def _mutate(self, data: bytearray, at: int) -> None:
        match self._chance.randrange(5):
            case 0:
                data[at] = self._chance.randrange(256)
            case 1:
                data[at] = self._chance.choice(HEADS)
            case 2:
                data[at:at] = self._chance.randbytes(self._chance.randint(1, 8))
            case 3 if len(data) > 8:
                del data[at : at + self._chance.randint(1, 4)]
            case _:
                data[at:at] = data[at : at + self._chance.randint(1, 16)]


def split(pieces: list[bytes]) -> tuple[list[bytes], int | None]:
    """The whole messages, and the code of the fault that ended them."""
    splitter, found = Splitter(), []
    for piece in pieces:
        splitter.feed(piece)
        try:
            for raw in splitter:
                found.append(raw)
                _open(raw)
        except Fatal as fatal:
            return found, int(fatal.code)
    return found, None


def listen(fd: int) -> None:
    """To the end: whole messages and nothing else, undecoded, for a ping may hold anything."""
    splitter = Splitter()
    while True:
        assert select.select([fd], [], [], PATIENCE_S)[0], "it neither answers nor closes"
        try:
            data = os.read(fd, 1 << 16)
        except ConnectionResetError:  # it closed with bytes of ours unread
            return
        if not data:
            break
        splitter.feed(data)
        for raw in splitter:
            _open(raw)
    assert not splitter.pending, "it closed in mid message"


def _open(raw: bytes) -> None:
    try:
        open_message(raw)
    except Fault:
        return


class Fuzz:
    """One run."""

    def __init__(self, supervisor: Supervisor, report: Report) -> None:
        self._supervisor = supervisor
        self._process = psutil.Process(supervisor.process.pid)
        self._bytes = Bytes(report.seed)
        self._bystander = supervisor.connect()
        self._bystander.call("add", "echo", {"source": str(PLUGINS / "echoes.py")})
        self.report = report

    def run(self, seconds: float) -> None:
        """Until the time is over or something was found."""
        over = time.monotonic() + seconds
        with self._bystander:
            while time.monotonic() < over and not self.report.findings:
                for _ in range(ROUND):
                    self._try(self._bytes.stream())
                self._look()
        if is_grown(self.report.rss_bytes):
            self.report.findings.append("the supervisor's memory has grown")

    def _try(self, stream: bytes) -> None:
        pieces = list(self._bytes.pieces(stream))
        self.report.streams += 1
        try:
            if split(pieces) != split([stream]):
                self._found("where it was cut makes a difference", stream)
            self._send(pieces)
        except Exception as error:  # noqa: BLE001 - a crash or a hang: what this looks for
            self._found(repr(error), stream)

    def _send(self, pieces: list[bytes]) -> None:
        with self._supervisor.connect() as wire:
            self.report.connections += 1
            for piece in pieces:
                self.report.sent_bytes += wire.write(piece, reads=False)
            if not self._bytes.is_rude():
                wire.write(PING, reads=False)
                wire.end_input()
                listen(wire.read_fd)

    def _look(self) -> None:
        """Is the other client served, and is the supervisor well?"""
        number = self.report.bystander_calls
        try:
            if self._bystander.call("run", "echo", "run", [number]) != number:
                self._found("the bystander got another answer", b"")
            self.report.bystander_calls += 1
            self.report.rss_bytes.append(self._process.memory_info().rss)
        except Exception as error:  # noqa: BLE001
            self._found(f"the bystander is not served: {error!r}", b"")
        bugs = [line for line in self._supervisor.log if "Traceback" in line or "fault of" in line]
        if bugs:
            self._found("\n".join(self._supervisor.log[-30:]), b"")
        self._supervisor.log.clear()  # each goaway is a line

    def _found(self, what: str, stream: bytes) -> None:
        self.report.findings.append(f"{what} {stream.hex()}".rstrip())


def is_grown(rss_bytes: list[int]) -> bool:
    """Is it more at the end than in the middle? The beginning warms up."""
    if len(rss_bytes) < LEAST_SAMPLES:
        return False
    third = len(rss_bytes) // 3
    middle, last = rss_bytes[third : 2 * third], rss_bytes[2 * third :]
    return median(last) > median(middle) + SLACK_BYTES


def main(argv: list[str] | None = None) -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(argv)
    seed = random.randrange(2**32) if options.seed is None else options.seed
    report = Report(seed)
    with tempfile.TemporaryDirectory() as folder:
        supervisor = Supervisor(Path(folder), "-o", "allow_add=true", "-o", "watch=off")
        try:
            Fuzz(supervisor, report).run(options.minutes * 60)
            if not report.findings:
                supervisor.stop()
        except AssertionError as error:
            report.findings.append(f"it does not end well: {error}")
        finally:
            supervisor.kill()
    for finding in report.findings:
        print(finding)
    print(report.line())
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
