"""A program that speaks the protocol by hand, and badly where it is told to: by HOW or by a job."""

import os
import select
import signal
import sys
from typing import Any

import msgpack

HOW = ""
CARD = {
    "protocol": 2 if HOW == "another protocol" else 1,
    "name": "by hand",
    "version": "1.0.0",
    "methods": {"run": {"pure": False}},
}


def write(data: bytes) -> None:
    os.write(1, data)


def answer(msgid: int, error: Any, result: Any) -> None:
    write(msgpack.packb([1, msgid, error, result]))


def say_so(*_: object) -> None:
    os.write(2, b"TERM\n")
    os._exit(7)


def job(msgid: int, how: str, hold: str = "", ms: float = 0.0) -> None:
    select.select([], [], [], ms / 1000)
    if how == "hangs":
        signal.signal(signal.SIGTERM, say_so)
        with open(hold + ".began", "wb", buffering=0) as began:
            began.write(b".")
        signal.pause()
    elif how == "dies in the middle":
        write(msgpack.packb([1, msgid, None, b"x" * 5000])[:2000])
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "answers and dies":  # much to read before the answer, and the exit is there
        write(msgpack.packb([2, "none", []]) * 6000 + msgpack.packb([1, msgid, None, how]))
        os.kill(os.getpid(), signal.SIGKILL)
    answer(msgid, None, how)


def main() -> None:
    if HOW == "garbage":
        write(b"Loading model...\n")
    unpacker = msgpack.Unpacker()
    while data := os.read(0, 1 << 16):
        unpacker.feed(data)
        for kind, *rest in unpacker:
            if kind != 0:
                continue
            msgid, method, params = rest
            if method == "hello":
                if HOW == "exits":
                    sys.exit(0)
                answer(msgid, None, CARD)
            elif method == "job":
                job(msgid, *params[2])
            else:
                answer(msgid, [-32601, "no", {}], None)


main()
