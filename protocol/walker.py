"""`msgpack.Unpacker` in Python, as much of it as the wire uses.

msgpack's own is recursive: Python's limit ends it before the wire's does, and after the half of a
message it begins again at the front. This one keeps its place, and the bodies it passes over are
not copied. Which value is which is its only knowledge.
"""

from __future__ import annotations

from typing import Any

from . import limits
from .codec import msgpack


def _heads() -> list[tuple[int, int, int] | None]:
    """By first byte: bytes of a length, the length that is added to it, values an item.

    No value an item: it is a length in bytes. One: of an array, two: of a map.
    """
    table: list[tuple[int, int, int] | None] = [(0, 0, 0)] * 256
    table[0x80:0x90] = [(0, count, 2) for count in range(16)]
    table[0x90:0xA0] = [(0, count, 1) for count in range(16)]
    table[0xA0:0xC0] = [(0, size, 0) for size in range(32)]
    table[0xC1] = None
    table[0xC4:0xC7] = [(1, 0, 0), (2, 0, 0), (4, 0, 0)]  # bin
    table[0xC7:0xCA] = [(1, 1, 0), (2, 1, 0), (4, 1, 0)]  # ext, and its type
    table[0xCA:0xD4] = [(0, size, 0) for size in (4, 8, 1, 2, 4, 8, 1, 2, 4, 8)]  # numbers
    table[0xD4:0xD9] = [(0, size, 0) for size in (2, 3, 5, 9, 17)]  # fixext
    table[0xD9:0xDC] = [(1, 0, 0), (2, 0, 0), (4, 0, 0)]  # str
    table[0xDC:0xE0] = [(2, 0, 1), (4, 0, 1), (2, 0, 2), (4, 0, 2)]
    return table


_HEADS = _heads()


class Walker:
    """Walks over values, as if the first were inside so many containers already.

    Raises what msgpack's does: OutOfData before the end of a value, StackError beyond 1024
    containers, ValueError for what is no MessagePack.
    """

    def __init__(self, inside: int = 0) -> None:
        self._buffer: bytes | bytearray = b""
        self._at = 0
        self._base = 0  # stream offset of _buffer[0]
        self._open = [1] * inside  # values still to come in each container around

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take more bytes."""
        rest = self._buffer
        if self._at == len(rest):
            self._buffer = bytes(data)
        else:
            if not isinstance(rest, bytearray):
                self._buffer = rest = bytearray(rest)
            del rest[: self._at]
            rest += data
        self._base += self._at
        self._at = 0

    def tell(self) -> int:
        """Bytes walked over so far."""
        return self._base + self._at

    def skip(self) -> None:
        """Pass over one value; after OutOfData go on where it ended."""
        opened = self._open
        while True:
            at, count, per_item = self._head()
            if per_item:
                if len(opened) == limits.NESTING_FATAL:
                    raise msgpack.StackError
                if count:
                    opened.append(count * per_item)
            elif at + count <= len(self._buffer):
                at += count
            else:
                raise msgpack.OutOfData
            self._at = at
            if per_item and count:
                continue
            while opened:
                opened[-1] -= 1
                if opened[-1]:
                    break
                opened.pop()
            if not opened:
                return

    def unpack(self) -> Any:
        """One value, decoded."""
        start = self._at
        self.skip()
        part = bytes(memoryview(self._buffer)[start : self._at])
        return msgpack.unpackb(part, strict_map_key=False)

    def read_array_header(self) -> int:
        """The count of the array that comes now. ValueError if none does."""
        return self._header(1)

    def read_map_header(self) -> int:
        """The count of the map that comes now. ValueError if none does."""
        return self._header(2)

    def _header(self, wanted: int) -> int:
        at, count, per_item = self._head()
        if per_item != wanted:
            raise ValueError("Unexpected type header on stream")
        self._at = at
        return count

    def _head(self) -> tuple[int, int, int]:
        """Where the body of the next value begins, its length or count, values an item."""
        at, buffer = self._at, self._buffer
        if at >= len(buffer):
            raise msgpack.OutOfData
        head = _HEADS[buffer[at]]
        if head is None:
            raise msgpack.FormatError
        size_bytes, count, per_item = head
        body = at + 1 + size_bytes
        if size_bytes:
            if body > len(buffer):
                raise msgpack.OutOfData
            count += int.from_bytes(buffer[at + 1 : body], "big")
        return body, count, per_item
