"""The far end of a client's connection, at the wire: a test reads requests and answers by hand."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from changeover.client.changeover import Changeover
from changeover.client.connection import Connection
from changeover.protocol import messages
from changeover.protocol.errors import Fault
from changeover.protocol.framing import Splitter
from changeover.protocol.messages import NOTIFICATION, Message
from changeover.protocol.payload import pack_payload, unpack_args

PATIENCE_S = 10.0
HELLO: dict[str, Any] = {"protocol": 1, "server": {"name": "peer"}, "limits": {}}


class PipeTransport:
    """Two pipes, as a private supervisor has them."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd, self.write_fd = read_fd, write_fd
        self.is_killed = False
        self._is_writing = True
        for fd in (read_fd, write_fd):
            os.set_blocking(fd, False)

    def end_input(self) -> None:
        if self._is_writing:
            self._is_writing = False
            os.close(self.write_fd)

    def kill(self) -> None:
        self.is_killed = True

    def close(self, timeout_s: float) -> None:
        self.end_input()
        os.close(self.read_fd)
        self.is_killed = self.is_killed or timeout_s <= 0

    def forget(self) -> None:
        self.close(1.0)

    def epitaph(self) -> str:
        return "the peer is gone"


class Peer:
    """Reads what the client sent, message by message, and writes what it is told to."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd, self.write_fd = read_fd, write_fd
        self.seen: list[Message] = []
        self._splitter = Splitter()
        self._whole: list[bytes] = []
        self._fds = {read_fd, write_fd}

    # -- reading

    def next(self, method: str = "") -> Message:
        """The next message; with `method` the next of that name (others are passed over)."""
        while True:
            message = self._next()
            assert message is not None, f"the client closed, {method or 'a message'} was expected"
            if method in ("", message.method):
                return message

    def drain(self) -> list[Message]:
        """Everything up to the end of input."""
        return list(iter(self._next, None))

    def has_input(self) -> bool:
        """Is there more to read at this moment?"""
        return bool(self._whole) or bool(select.select([self.read_fd], [], [], 0)[0])

    def _next(self) -> Message | None:
        deadline = time.monotonic() + PATIENCE_S
        while not self._whole:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self.read_fd], [], [], left)[0], "the client said nothing"
            data = os.read(self.read_fd, 65536)
            if not data:
                return None
            self._splitter.feed(data)
            self._whole += self._splitter
        message = messages.open_message(self._whole.pop(0))
        self.seen.append(message)
        return message

    # -- writing

    def hello(self, msgid: int = 0, **limits: int) -> None:
        """The answer to the first request of a client, sent ahead."""
        self.send(messages.response(msgid, {**HELLO, "limits": limits}))

    def answer(self, message: Message, result: Any = None) -> None:
        self.send(messages.response(message.msgid, result))

    def done(self, message: Message, result: Any = None, **facts: Any) -> None:
        """The record of a job that succeeded."""
        self.send(messages.response_raw(message.msgid, record(message, result, **facts)))

    def failed(self, message: Message, code: int, text: str = "it failed", **data: Any) -> None:
        """The record of a job that ended with an error."""
        state = {1001: "cancelled", 1003: "lost", 1005: "lost"}.get(code, "failed")
        error = Fault.new(code, text, **data).wire()
        self.send(
            messages.response_raw(message.msgid, record(message, None, state=state, error=error))
        )

    def refuse(self, message: Message, code: int, text: str = "no", **data: Any) -> None:
        self.send(messages.failure(message.msgid, Fault.new(code, text, **data)))

    def notify(self, method: str, *params: Any) -> None:
        self.send(messages.notification(method, params))

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.write_fd, view) :]

    # -- serving

    def serve(self, handle: Callable[[Message], None]) -> threading.Thread:
        """Handle every message in a thread, until the end of input; then leave."""

        def run() -> None:
            while (message := self._next()) is not None:
                handle(message)
            self.close()

        thread = threading.Thread(target=run, name="peer")
        thread.start()
        return thread

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


def record(message: Message, result: Any, **facts: Any) -> bytes:
    """A packed record for a `run` request."""
    base = {
        "job": job_of(message),
        "plugin": messages.unpack(message.params[0]),
        "release": {"number": 1, "version": "1.0.0", "digest": "ab" * 32, "hash": "0" * 16},
        "generation": 7,
        "worker": "w-3",
        "state": "done",
        "attempts": 1,
        "queued_ms": 0.25,
        "ran_ms": 1.5,
        "result": result,
        "error": None,
    }
    return pack_payload({**base, **facts})


def job_of(message: Message) -> str:
    """The job id that the client chose."""
    return str(options_of(message)["id"])


def options_of(message: Message) -> dict[str, Any]:
    """The options map of a request: its last parameter."""
    options = messages.unpack(message.params[-1])
    assert isinstance(options, dict)
    return options


def args_of(message: Message) -> tuple[list[Any], dict[str, Any]]:
    """What a `run` request calls the plugin with."""
    return unpack_args(message.params[2])


@contextlib.contextmanager
def piped(**limits: int) -> Iterator[tuple[Changeover, Peer]]:
    """A client over two pipes, past its hello, and the peer that plays the supervisor."""
    peer, transport = pipe_ends()
    peer.hello(**limits)
    connection = Connection(transport, is_private=True, stop_timeout_s=PATIENCE_S)
    connection.open()
    co = Changeover(connection)
    assert peer.next().method == "hello"
    try:
        yield co, peer
    finally:
        peer.close()
        co.close()


def pipe_ends() -> tuple[Peer, PipeTransport]:
    """The two ends, not connected to anything yet."""
    there_read, here_write = os.pipe()
    here_read, there_write = os.pipe()
    return Peer(there_read, there_write), PipeTransport(here_read, here_write)


class Listener:
    """A Unix socket that a client finds again: each `accept` is another peer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._socket.settimeout(PATIENCE_S)

    def accept(self) -> Peer:
        """The next connection, its hello read and answered."""
        accepted, _ = self._socket.accept()
        peer = Peer(os.dup(accepted.fileno()), accepted.detach())
        hello = peer.next("hello")
        peer.hello(hello.msgid)
        return peer

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


def is_notification(message: Message) -> bool:
    """Did the client expect no answer?"""
    return message.kind == NOTIFICATION
