"""Answers the bytes of its args as they came, undecoded."""

import os

import msgpack
from raw_worker import RawWorker


class EchoesRaw(RawWorker):
    """Cuts the args out of each message by `skip` and `tell`."""

    def serve(self) -> None:
        kept = b""
        while data := os.read(0, 65536):
            kept += data
            while size := _first(kept):
                self.take_raw(kept[:size])
                kept = kept[size:]

    def take_raw(self, raw: bytes) -> None:
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(raw)
        unpacker.read_array_header()
        if unpacker.unpack() != 0:
            return
        msgid, method = unpacker.unpack(), unpacker.unpack()
        if method == "hello":
            self.on_hello(msgid)
        elif method == "job":
            unpacker.read_array_header()
            unpacker.skip()
            unpacker.skip()
            start = unpacker.tell()
            unpacker.skip()
            self.write(b"\x94\x01" + msgpack.packb(msgid) + b"\xc0" + raw[start : unpacker.tell()])
        else:
            self.answer(msgid, None)


def _first(data: bytes) -> int:
    """Where the first whole message ends, or 0."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(data)
    try:
        unpacker.skip()
    except msgpack.OutOfData:
        return 0
    return int(unpacker.tell())


EchoesRaw().serve()
