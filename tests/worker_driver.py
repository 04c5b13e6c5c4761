"""Drives one real worker over its pipes, as a supervisor does. Every wait has a deadline."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from changeover.protocol import messages
from changeover.protocol.errors import Fault
from changeover.protocol.framing import Splitter
from changeover.protocol.messages import NOTIFICATION, Message
from changeover.protocol.payload import pack_payload, unpack_payload

WAIT_S = 20.0


class WorkerProcess:
    """A worker, its answers and notifications; `log` is what it wrote to stderr."""

    def __init__(
        self,
        *arguments: str | Path,
        env: dict[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-P", "-m", "changeover.worker"),
    ) -> None:
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "CHANGEOVER_PROTOCOLS": "1", **(env or {})},
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._in = self.process.stdin.fileno()
        self._out = self.process.stdout.fileno()
        self._err = self.process.stderr.fileno()
        self._splitter = Splitter()
        self._msgid = 0
        self.log = b""
        self.answers: dict[int, Message] = {}
        self.order: list[int] = []
        self.notifications: list[tuple[str, list[Any]]] = []
        self.is_over = False

    # -- to the worker

    def ask(self, method: str, *params: Any) -> int:
        """Send a request; its msgid."""
        self._msgid += 1
        parts = [pack_payload(param) for param in params]
        self.write(messages.request_raw(self._msgid, method, parts))
        return self._msgid

    def ask_job(
        self, job: str, *args: Any, method: str = "run", kwargs: Any = None, **options: Any
    ) -> int:
        """Send a job; its msgid."""
        return self.ask("job", job, method, list(args) if kwargs is None else kwargs, options)

    def tell(self, method: str, *params: Any) -> None:
        """Send a notification."""
        self.write(messages.notification(method, params))

    def write(self, data: bytes) -> None:
        """Send bytes, reading all the while: neither side may block the other."""
        view = memoryview(data)
        os.set_blocking(self._in, False)
        while view:
            readable, writable, _ = select.select([self._out, self._err], [self._in], [], WAIT_S)
            assert readable or writable, "the worker neither reads nor writes"
            self._drain(readable)
            if writable:
                view = view[os.write(self._in, view[:65536]) :]

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    # -- from the worker

    def answer(self, msgid: int) -> Any:
        """The result of a request. Raises Fault if it was answered with an error."""
        self.wait_until(lambda: msgid in self.answers)
        message = self.answers[msgid]
        if message.error is not None:
            raise Fault.of(message.error)
        return unpack_payload(message.result)

    def call(self, method: str, *params: Any) -> Any:
        return self.answer(self.ask(method, *params))

    def run(self, *args: Any, **options: Any) -> Any:
        """One job from beginning to end."""
        return self.answer(self.ask_job(f"job-{self._msgid}", *args, **options))

    def told(self, method: str) -> list[list[Any]]:
        """The params of all notifications of one kind, so far."""
        return [params for name, params in self.notifications if name == method]

    def wait_told(self, method: str, count: int = 1) -> list[list[Any]]:
        self.wait_until(lambda: len(self.told(method)) >= count)
        return self.told(method)

    def wait_logged(self, text: str) -> None:
        self.wait_until(lambda: text.encode() in self.log)

    def wait_until(self, is_so: Any) -> None:
        """Take what comes until it is so."""
        deadline = time.monotonic() + WAIT_S
        while not is_so():
            assert not self.is_over, f"the worker is gone; its log: {self.log.decode()}"
            left_s = deadline - time.monotonic()
            readable = select.select([self._out, self._err], [], [], max(0.0, left_s))[0]
            assert readable, f"nothing came in {WAIT_S} s; log: {self.log.decode()}"
            self._drain(readable)

    def wait_exit(self) -> int:
        """Its exit status, with all that it wrote taken in."""
        deadline = time.monotonic() + WAIT_S
        while not self.is_over:
            left_s = max(0.0, deadline - time.monotonic())
            readable = select.select([self._out, self._err], [], [], left_s)[0]
            assert readable, f"still there after {WAIT_S} s; log: {self.log.decode()}"
            self._drain(readable)
        status = self.process.wait(max(0.1, deadline - time.monotonic()))
        # Its log may be held open by what it left behind.
        while select.select([self._err], [], [], 0)[0] and self._drain([self._err]):
            pass
        return status

    def _drain(self, readable: list[int]) -> int:
        """Take in what is there; how many bytes it was."""
        count = 0
        for fd in readable:
            data = os.read(fd, 65536)
            count += len(data)
            if fd == self._err:
                self.log += data
            elif not data:
                self.is_over = True
            else:
                self._splitter.feed(data)
                for raw in self._splitter:
                    self._take(raw)
        return count

    def _take(self, raw: bytes) -> None:
        message = messages.open_message(raw)
        if message.kind == NOTIFICATION:
            params = [unpack_payload(part) for part in message.params]
            self.notifications.append((message.method, params))
        else:
            assert message.msgid not in self.answers, "a second answer"
            self.answers[message.msgid] = message
            self.order.append(message.msgid)

    # -- both

    def boot(self, **options: Any) -> dict[str, Any]:
        """hello and load; what load answered."""
        assert self.call("hello", {"protocol": [1]}) == {"protocol": 1}
        loaded = self.call("load", options)
        assert isinstance(loaded, dict)
        return loaded

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Whatever state it is in: gone, and its pipes closed."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(WAIT_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
