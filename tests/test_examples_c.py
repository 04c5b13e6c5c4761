"""The C plugin, compiled and driven over its pipes as a supervisor would."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from changeover.protocol.framing import Splitter
from changeover.protocol.messages import (
    Message,
    notification,
    open_message,
    pack,
    request,
    response,
)

SOURCE = Path(__file__).parent.parent / "examples" / "c" / "invert.c"
COMPILER = shutil.which("cc") or shutil.which("gcc")
DEADLINE_S = 10.0

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("c") / "invert"
    command = [str(COMPILER), "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(path), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    return path


class Worker:
    """Both ends of its pipes, always reading while a write waits."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.stdin, False)
        self._splitter = Splitter()
        self._messages: list[bytes] = []

    def send(self, data: bytes) -> None:
        deadline = time.monotonic() + DEADLINE_S
        rest = memoryview(data)
        while rest:
            readable, writable, _ = select.select(
                [self.stdout], [self.stdin], [], deadline - time.monotonic()
            )
            assert readable or writable, "the worker takes nothing and says nothing"
            if readable:
                self._read()
            if writable:
                rest = rest[os.write(self.stdin, rest) :]

    def receive(self) -> Message:
        deadline = time.monotonic() + DEADLINE_S
        while not self._messages:
            assert select.select([self.stdout], [], [], deadline - time.monotonic())[0]
            self._read()
        return open_message(self._messages.pop(0))

    def ask(self, method: str, *params: Any) -> Any:
        self.send(request(1, method, params))
        return msgpack.unpackb(self.receive().result)

    def end_input(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    def close(self) -> None:
        self.process.kill()
        self.process.__exit__(None, None, None)

    def _read(self) -> None:
        data = os.read(self.stdout, 1 << 20)
        assert data, "the worker closed its output"
        self._splitter.feed(data)
        self._messages += self._splitter


@pytest.fixture
def worker(program: Path) -> Iterator[Worker]:
    worker = Worker(program)
    yield worker
    worker.close()


def job(args: Any, method: str = "run") -> list[Any]:
    return ["8f3c", method, args, {"attempt": 1}]


def test_hello_says_what_load_would(worker: Worker) -> None:
    hello = worker.ask("hello", {"protocol": [1], "plugin": "invert", "limits": {"message": 1}})

    assert hello["protocol"] == 1
    assert hello["methods"] == {"run": {"pure": True}}
    assert hello["concurrency"] == 1
    assert (hello["name"], hello["version"]) == ("invert", "1.0.0")


def test_a_job_inverts_its_bytes(worker: Worker) -> None:
    assert worker.ask("job", *job([b"\x00\x01\xff"])) == b"\xff\xfe\x00"


def test_a_frame_keeps_everything_but_its_picture(worker: Worker) -> None:
    about = {"kind": "video", "fmt": "gray", "w": 2, "h": 1, "planes": [[0, 2, 1]], "pts": -7}

    result = worker.ask("job", *job([{"$frame": about, "data": b"\x10\x20"}, "more", 5]))

    assert result == {"$frame": about, "data": b"\xef\xdf"}


@pytest.mark.parametrize("value", [
    None, True, 0, -1, 127, 128, -33, 2**16, -(2**40), 2**63, 1.5, "", "é" * 40, "x" * 300,
    "x" * 70_000, [], [1] * 20, [[]] * 70_000, {}, {"a": {"b": [1, {"c": "d"}]}},
    {str(n): n for n in range(300)},
])  # fmt: skip
def test_every_other_value_comes_back_as_it_was(worker: Worker, value: Any) -> None:
    assert worker.ask("job", *job([value])) == value


def test_an_extension_comes_back_as_it_was(worker: Worker) -> None:
    for size in (1, 2, 3, 4, 8, 16, 300, 70_000):
        packed = pack([_ext(size)])
        worker.send(b"\x94\x00\x01\xa3job\x94\xa18\xa3run" + packed + b"\x80")
        assert worker.receive().result == packed[1:]


def test_args_that_are_no_array_are_one_argument(worker: Worker) -> None:
    assert worker.ask("job", *job({"data": b"\x0f"})) == {"data": b"\xf0"}
    assert worker.ask("job", *job(b"\x0f")) == b"\xf0"


def test_a_job_without_arguments_is_nil(worker: Worker) -> None:
    assert worker.ask("job", *job([])) is None


def test_an_unknown_request_is_refused_and_the_next_one_answered(worker: Worker) -> None:
    for method, params in (("load", [{}]), ("adopt", [{}]), ("job", job([1], "other"))):
        worker.send(request(7, method, params))
        refused = worker.receive()
        assert refused.msgid == 7
        assert refused.error[0] == -32601
    assert worker.ask("job", *job([b"\x00"])) == b"\xff"


def test_unknown_notifications_and_stray_responses_are_ignored(worker: Worker) -> None:
    worker.send(notification("more", ["8f3c", 4]) + response(9, {"a": 1}))

    assert worker.ask("job", *job([1])) == 1


def test_a_message_may_come_in_any_pieces(worker: Worker) -> None:
    whole = request(2**32 - 1, "job", job([b"\x00" * 300, "x"]))
    for split in range(1, len(whole)):
        worker.send(whole[:split])
        worker.send(whole[split:])
        answer = worker.receive()
        assert (answer.msgid, msgpack.unpackb(answer.result)) == (2**32 - 1, b"\xff" * 300)


def test_a_picture_of_6_megabytes(worker: Worker) -> None:
    picture = bytes(range(256)) * 24_300
    assert worker.ask("job", *job([picture])) == bytes(255 - byte for byte in picture)


def test_many_jobs_in_the_pipe_are_all_answered(worker: Worker) -> None:
    worker.send(b"".join(request(n, "job", job([n])) for n in range(5000)))

    assert [worker.receive().msgid for _ in range(5000)] == list(range(5000))


@pytest.mark.parametrize("last", [b"", b"\x94\x00\x01\xa3jo", notification("exit", [])])
def test_it_leaves_at_the_end_of_input(worker: Worker, last: bytes) -> None:
    worker.send(last)
    worker.end_input()

    assert worker.process.wait(DEADLINE_S) == 0


def _ext(size: int) -> Any:
    return msgpack.ExtType(5, bytes(range(256)) * (size // 256) + b"\x01" * (size % 256))
