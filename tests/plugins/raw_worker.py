"""A worker in plain MessagePack, without our runtime: each misbehaviour is a subclass elsewhere.

It knows its jobs by `job_…` methods: `job_echo` answers the bytes of its args.
"""

import os
from typing import Any

import msgpack

LOADED = {
    "protocol": 1, "name": "raw", "version": "0.1.0", "concurrency": 1, "capabilities": {},
    "methods": {"run": {"pure": False, "stream": False}},
}  # fmt: skip


class RawWorker:
    """Reads requests from stdin, answers on stdout; leaves at the end of input."""

    loaded: Any = LOADED

    def __init__(self) -> None:
        self.unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors="surrogateescape")

    def serve(self) -> None:
        """Until there is no more input."""
        while data := os.read(0, 65536):
            self.unpacker.feed(data)
            for message in self.unpacker:
                self.take(message)

    def take(self, message: list[Any]) -> None:
        """One message."""
        if message[0] == 0:
            _, msgid, method, params = message
            handler = getattr(self, f"on_{method}", None)
            if handler is None:
                self.send([1, msgid, [-32601, f"no method {method}", {}], None])
            else:
                handler(msgid, *params)

    def on_hello(self, msgid: int, *_: Any) -> None:
        """Answers what `load` would."""
        self.answer(msgid, self.loaded)

    def on_job(self, msgid: int, job: str, method: str, args: Any, *_: Any) -> None:
        """Run a job."""
        self.answer(msgid, args)

    def answer(self, msgid: int, result: Any) -> None:
        """The response."""
        self.send([1, msgid, None, result])

    def send(self, message: Any) -> None:
        """One message."""
        self.write(msgpack.packb(message, unicode_errors="surrogateescape"))

    def write(self, data: bytes) -> None:
        """Bytes, all of them."""
        while data:
            data = data[os.write(1, data) :]
