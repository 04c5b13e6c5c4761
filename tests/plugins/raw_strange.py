"""A worker that breaks the protocol as its argument says, when it is given a job or before."""

import fcntl
import os
import random
import sys
import termios
from typing import Any, ClassVar

import msgpack
from raw_worker import LOADED, RawWorker


class Strange(RawWorker):
    """`strange.py HOW`; `how_…` is what it does with a job."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.msgids: list[int] = []

    def on_job(self, msgid: int, job: str, method: str, args: Any, *rest: Any) -> None:
        self.msgids.append(msgid)
        if args == ["behave"]:
            self.answer(msgid, "behaved")
        elif args:
            self.cut(msgid, job, *args)
        else:
            getattr(self, f"how_{self.how}")(msgid, job)

    def cut(self, msgid: int, job: str, at: int) -> None:
        """Does it in two pieces, or byte by byte at 0; each is read before the next is written."""
        whole = self.bytes_of(msgid, job)
        if at >= len(whole):
            self.answer(msgid, "nothing left to cut")
            return
        for piece in (whole[:at], whole[at:]) if at else (bytes([byte]) for byte in whole):
            self.write(piece)
            while fcntl.ioctl(1, termios.FIONREAD, bytes(4)) != bytes(4):
                pass

    def bytes_of(self, msgid: int, job: str) -> bytes:
        """What it would write."""
        pieces: list[bytes] = []
        self.write = pieces.append
        getattr(self, f"how_{self.how}")(msgid, job)
        del self.write
        return b"".join(pieces)

    def how_echo(self, msgid: int, _job: str) -> None:
        self.answer(msgid, "echo")

    def how_text(self, _msgid: int, _job: str) -> None:
        self.write(b"Loading model...\nall of it\n")

    def how_huge(self, msgid: int, _job: str) -> None:
        """Announces 2^31 bytes, sends a few and waits."""
        self.write(b"\x94\x01" + msgpack.packb(msgid) + b"\xc0\xc6\x80\x00\x00\x00" + b"few")

    def how_floods(self, msgid: int, _job: str) -> None:
        """Announces 2^31 bytes and sends them."""
        self.write(b"\x94\x01" + msgpack.packb(msgid) + b"\xc0\xc6\x80\x00\x00\x00")
        while True:
            self.write(bytes(1 << 20))

    def how_c1(self, _msgid: int, _job: str) -> None:
        self.write(b"\x94\x01\xc1")

    def how_bad_envelope(self, _msgid: int, _job: str) -> None:
        self.send([7, 1, None, None])

    def how_too_deep(self, msgid: int, _job: str) -> None:
        self.write(b"\x94\x01" + msgpack.packb(msgid) + b"\xc0" + b"\x91" * 64 + b"\xc0")

    def how_as_deep_as_may_be(self, msgid: int, _job: str) -> None:
        self.write(b"\x94\x01" + msgpack.packb(msgid) + b"\xc0" + b"\x91" * 63 + b"\xc0")

    def how_far_too_deep(self, msgid: int, _job: str) -> None:
        self.write(b"\x94\x01" + msgpack.packb(msgid) + b"\xc0" + b"\x91" * 1100 + b"\xc0")

    def how_strays(self, msgid: int, _job: str) -> None:
        for number in range(101):
            self.answer(1_000_000 + number, None)
        self.answer(msgid, "after 101")

    def how_few_strays(self, msgid: int, _job: str) -> None:
        for number in range(99):
            self.answer(1_000_000 + number, None)
        self.answer(msgid, "after 99")

    def how_twice(self, msgid: int, _job: str) -> None:
        self.answer(msgid, "first")
        self.answer(msgid, "second")

    def how_asks(self, msgid: int, _job: str) -> None:
        """Asks the supervisor; its answer is the result."""
        self.send([0, 77, "give_me_a_plugin", [1]])
        answer = next(self.unpacker, None)
        while answer is None:
            self.unpacker.feed(os.read(0, 65536))
            answer = next(self.unpacker, None)
        self.answer(msgid, answer)

    def how_closes_stdout(self, _msgid: int, _job: str) -> None:
        os.close(1)

    def how_items(self, msgid: int, job: str) -> None:
        """Items that nobody asked for."""
        self.send([2, "item", [job, 0, "unasked"]])
        self.answer(msgid, "done")

    def how_odd_notifications(self, msgid: int, job: str) -> None:
        odd: list[list[Any]] = [
            [], [job], [None, None], [[], {}], [job, float("inf"), 1], [{}, 1, 2],
        ]  # fmt: skip
        for params in odd:
            for method in ("progress", "item", "log", "extend", "no_such", "buf_hold"):
                self.send([2, method, params])
        self.answer(msgid, "still there")

    def how_bomb(self, msgid: int, _job: str) -> None:
        """An error of many empty maps, an option map of a hundred million levels less."""
        maps = b"\xdd\x00\x40\x00\x00" + b"\x80" * 0x400000
        self.write(b"\x94\x01" + msgpack.packb(msgid) + maps + b"\xc0")

    def how_text_error(self, msgid: int, _job: str) -> None:
        self.send([1, msgid, "just words", None])

    def how_nvim_error(self, msgid: int, _job: str) -> None:
        self.send([1, msgid, [0, "Vim says no"], None])

    def how_odd_error(self, msgid: int, _job: str) -> None:
        """Invalid UTF-8 in the message, odd keys in the data."""
        data = b"\x82\x07\x01\x91\x02\x03"
        self.write(b"\x94\x01" + msgpack.packb(msgid) + b"\x93\xcd\x03\xe8\xa2\xff\xfe" + data)
        self.write(b"\xc0")

    def how_own_code(self, msgid: int, _job: str) -> None:
        self.send([1, msgid, [12345, "mine", {"retryable": True, "detail": [1]}], None])

    def how_fuzzes(self, msgid: int, job: str) -> None:
        """Mutated messages, from a seed that the job's id ends with, then the answer."""
        chance = random.Random(int(job.rpartition("-")[2]))
        messages = [
            [1, msgid + 1, None, {"a": [1, b"x"]}],
            [1, msgid + 1, [1000, "no", {"retryable": True}], None],
            [2, "progress", [job, {"done": 1, "total": 2, "message": "x"}]],
            [2, "item", [job, 0, {"a": 1}]],
            [2, "log", ["info", "text", {"a": 1}]],
            [2, "extend", ["load", 5]],
            [0, 5, "status", [{}]],
        ]
        for _ in range(5):
            data = bytearray(msgpack.packb(chance.choice(messages)))
            data[chance.randrange(len(data))] = chance.randrange(256)
            self.write(bytes(data))
        self.answer(msgid, "survived")

    def how_big_answer(self, msgid: int, _job: str) -> None:
        """As large as a message may be: its record would be larger."""
        head = b"\x94\x01" + msgpack.packb(msgid) + b"\xc0\xc6"
        size = 64 * 1024 * 1024 - len(head) - 4
        self.write(head + size.to_bytes(4, "big") + bytes(size))


class BadHello(RawWorker):
    """Answers hello, or load, in a wrong way."""

    ANSWERS: ClassVar[dict[str, Any]] = {
        "nothing": None,
        "a_list": [1, 2],
        "protocol_2": {"protocol": 2},
        "no_methods": {**LOADED, "methods": {}},
        "odd_methods": {**LOADED, "methods": [1, 2]},
        "odd_state": {**LOADED, "state": {"format": 1, "accepts": 5}},
        "odd_capabilities": {**LOADED, "capabilities": 7, "concurrency": "many"},
        "odd_version": {**LOADED, "version": {"major": 1}, "name": None},
    }

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def on_hello(self, msgid: int, *_: Any) -> None:
        self.answer(msgid, self.ANSWERS[self.how])


class BadLoad(BadHello):
    def on_hello(self, msgid: int, *_: Any) -> None:
        self.answer(msgid, {"protocol": 1})

    def on_load(self, msgid: int, *_: Any) -> None:
        if self.how == "error":
            self.send([1, msgid, [1000, "the model is gone", {}], None])
        elif self.how == "text":
            self.write(b"weights: 12 MB\n")
        else:
            self.answer(msgid, self.ANSWERS[self.how])


if __name__ == "__main__":
    kinds = {"hello": BadHello, "load": BadLoad}
    kinds.get(sys.argv[1], Strange)(sys.argv[-1]).serve()
