"""The raw wire: MessagePack over two descriptors, with none of our client.

Every read and every write has a deadline, and a write reads meanwhile, as clients must. Each
answer is checked as it comes: to something that was asked, and once (R3).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import msgpack

PATIENCE_S = 30.0
SERVE = [sys.executable, "-P", "-m", "changeover.supervisor", "serve"]
FAST = ["-o", "settle=50ms", "-o", "log.format=text"]
REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2


class End(Exception):
    """The other side has closed."""


class Answer(NamedTuple):
    """One response."""

    error: Any
    result: Any


class Wire:
    """One client of a supervisor, by hand."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd, self.write_fd = read_fd, write_fd
        for fd in {read_fd, write_fd}:
            os.set_blocking(fd, False)
        self._unpacker = msgpack.Unpacker(
            strict_map_key=False, max_buffer_size=2**31 - 1, unicode_errors="surrogateescape"
        )
        self._msgid = 0
        self._asked: set[int] = set()
        self._answers: dict[int, Answer] = {}
        self.notes: list[tuple[str, list[Any]]] = []
        self.seen: list[list[Any]] = []  # every message, in the order of arrival
        self.has_ended = False
        self.is_fuzzing = False  # then nobody can say what was asked

    # -- writing

    def write(self, data: bytes, *, reads: bool = True) -> int:
        """Write, and meanwhile take what comes; how many bytes could be written before the end."""
        view = memoryview(data)
        deadline = time.monotonic() + PATIENCE_S
        while view:
            wanted = [self.read_fd] if reads and not self.has_ended else []
            left = deadline - time.monotonic()
            readable, writable, _ = select.select(wanted, [self.write_fd], [], max(0.0, left))
            assert readable or writable, f"nobody took {len(view)} bytes"
            if readable:
                self._read()
            try:
                view = view[os.write(self.write_fd, view[: 1 << 20]) :] if writable else view
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
        return len(data) - len(view)

    def send(self, *message: Any) -> None:
        """One message as it is given."""
        self.write(msgpack.packb(message))

    def ask(self, method: str | bytes, *params: Any) -> int:
        """Send a request; its msgid."""
        self._msgid += 1
        self._asked.add(self._msgid)
        self.send(REQUEST, self._msgid, method, params)
        return self._msgid

    def expect(self, *msgids: int) -> None:
        """Answers to these, which were written by hand, are expected."""
        self._asked.update(msgids)

    def tell(self, method: str, *params: Any) -> None:
        """Send a notification."""
        self.send(NOTIFICATION, method, params)

    # -- reading

    def answer(self, msgid: int) -> Answer:
        """The response to a request; what comes before it is kept."""
        while msgid not in self._answers:
            self.next()
        return self._answers.pop(msgid)

    def result(self, msgid: int) -> Any:
        """The response, which must be a result."""
        answer = self.answer(msgid)
        assert answer.error is None, answer.error
        return answer.result

    def fault(self, msgid: int) -> tuple[int, str, dict[str, Any]]:
        """The response, which must be an error of ours."""
        error, result = self.answer(msgid)
        assert error is not None, result
        assert result is None
        code, message, data = error
        assert data["retryable"] in (True, False), data
        assert data["executed"] in ("no", "maybe", "yes"), data
        return code, message, data

    def call(self, method: str | bytes, *params: Any) -> Any:
        """Ask, and wait for the result."""
        return self.result(self.ask(method, *params))

    def refused(self, method: str | bytes, *params: Any) -> tuple[int, str, dict[str, Any]]:
        """Ask, and wait for the error."""
        return self.fault(self.ask(method, *params))

    def note(self, method: str) -> list[Any]:
        """The params of the next notification of this name."""
        while True:
            for index, (name, params) in enumerate(self.notes):
                if name == method:
                    del self.notes[index]
                    return params
            self.next()

    def next(self) -> list[Any]:
        """The next message, whatever it is. Raises End."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for message in self._unpacker:
                return self._take(message)
            if self.has_ended:
                raise End
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self.read_fd], [], [], left)[0], f"silence after {self.seen[-3:]}"
            self._read()

    def rest(self) -> list[list[Any]]:
        """All messages up to the end of the stream."""
        messages = []
        try:
            while True:
                messages.append(self.next())
        except End:
            return messages

    def read_exactly(self, size: int) -> bytes:
        """So many bytes, as they came."""
        data = b""
        deadline = time.monotonic() + PATIENCE_S
        while len(data) < size:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self.read_fd], [], [], left)[0], f"silence after {data!r:.200}"
            more = os.read(self.read_fd, size - len(data))
            assert more, f"the end after {data!r:.200}"
            data += more
        return data

    def goaway(self) -> tuple[int, str]:
        """What the supervisor said last, before it closed."""
        last = self.rest()[-1]
        assert last[:2] == [NOTIFICATION, "goaway"], last
        code, message, facts = last[2]
        assert isinstance(facts, dict)
        return code, message

    def _read(self) -> None:
        try:
            data = os.read(self.read_fd, 1 << 18)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        self.has_ended = not data
        self._unpacker.feed(data)

    def _take(self, message: list[Any]) -> list[Any]:
        self.seen.append(message)
        if message[0] == RESPONSE:
            _, msgid, error, result = message
            assert msgid in self._asked or self.is_fuzzing, f"nobody asked for {message!r:.200}"
            self._asked.discard(msgid)
            self._answers[msgid] = Answer(error, result)
        else:
            assert message[0] == NOTIFICATION, f"a client is never asked (R11): {message!r:.200}"
            _, method, params = message
            self.notes.append((method, params))
        return message

    # -- ending

    def end_input(self) -> None:
        """No more requests; answers may still come."""
        if self.write_fd == self.read_fd:
            with socket.socket(fileno=os.dup(self.write_fd)) as made:
                made.shutdown(socket.SHUT_WR)
        elif self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def close(self) -> None:
        """Leave, without a word."""
        for fd in {self.read_fd, self.write_fd} - {-1}:
            os.close(fd)
        self.read_fd = self.write_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Supervisor:
    """`serve` as a process: on a socket, or with `--stdio` and then `wire` is its one client."""

    def __init__(
        self, folder: Path, *options: str, stdio: bool = False, wrapper: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.path = str(folder / "s")
        self.log: list[str] = []
        place = ["--stdio"] if stdio else ["-s", self.path, "-o", f"state_dir={folder / 'state'}"]
        pipe = subprocess.PIPE if stdio else subprocess.DEVNULL
        self.process = subprocess.Popen(
            [*wrapper, *SERVE, *place, *FAST, *options], stdin=pipe, stdout=pipe,
            stderr=subprocess.PIPE, cwd=folder,
        )  # fmt: skip
        self._said = threading.Condition()
        self._has_ended = False
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        if stdio:
            self.wire = Wire(_taken(self.process.stdout), _taken(self.process.stdin))
            return
        try:
            self.await_line("listening on")
        except AssertionError:
            self.kill()
            raise

    def await_line(self, words: str, count: int = 1) -> None:
        """Until it has said so, so many times."""

        def is_over() -> bool:
            return self._has_ended or self._is_said(words, count)

        with self._said:
            self._said.wait_for(is_over, PATIENCE_S)
            assert self._is_said(words, count), "\n".join(self.log)

    def _is_said(self, words: str, count: int) -> bool:
        return sum(words in line for line in self.log) >= count

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                with self._said:
                    self.log.append(line.decode(errors="replace").rstrip("\n"))
                    self._said.notify_all()
        with self._said:
            self._has_ended = True
            self._said.notify_all()

    def connect(self) -> Wire:
        """One more client."""
        with socket.socket(socket.AF_UNIX) as made:
            made.settimeout(PATIENCE_S)
            made.connect(self.path)
            fd = os.dup(made.fileno())
        return Wire(fd, fd)

    def wait(self) -> int:
        """Its exit code; it must leave by itself."""
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)  # it dumps its stacks to the log
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            self.kill()
            raise AssertionError("it does not leave:\n" + "\n".join(self.log)) from None
        finally:
            self.kill()
        bugs = [line for line in self.log if "Traceback" in line or "never retrieved" in line]
        assert not bugs, "\n".join(self.log)
        return code

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It does nothing meanwhile; what is sent to it now is there when it goes on."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it as an operator does, and look for bugs in what it said."""
        self.process.send_signal(signal.SIGTERM)
        assert self.wait() == 0, "\n".join(self.log)

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        if hasattr(self, "wire"):
            self.wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.process.returncode is None:
            self.stop()
        self.kill()


def _taken(file: IO[bytes] | None) -> int:
    """The descriptor of a file that is closed."""
    assert file is not None
    with file:
        return os.dup(file.fileno())


PLUGINS = Path(__file__).parent / "plugins"
EXAMPLES = Path(__file__).parent.parent / "examples"


def raw_worker(name: str, *args: str) -> dict[str, Any]:
    """The plugin keys that run a program of `tests/plugins/` as a worker."""
    command = [sys.executable, "{source}", *args]
    return {"source": str(PLUGINS / name), "command": command}


def packed(*values: Any) -> bytes:
    """MessagePack, one value behind the other."""
    return b"".join(map(msgpack.packb, values))


def ids(records: Sequence[dict[str, Any]]) -> list[str]:
    """The jobs of some records."""
    return [record["job"] for record in records]
