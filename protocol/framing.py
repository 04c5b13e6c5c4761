"""Where one message ends and the next begins, without decoding what is in it.

The unpacker's `skip()` walks over a value and `tell()` says where it ended, so a message is
cut out of the stream as bytes: 1 MiB of empty maps costs 1 MiB, not 74. A splitter that has
reported a fault is out of step and must be thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import limits
from .codec import msgpack, new_unpacker
from .errors import Fatal, FatalCode

_FIRST = (0x94, 0x93)  # R1: fixarray of 4 (request, response) or of 3 (notification)
_QUOTED = 60


class Splitter:
    """Cuts a byte stream into whole messages.

    >>> splitter = Splitter()
    >>> splitter.feed(b"\\x93\\x02\\xa4exit\\x90")
    >>> list(splitter)
    [b'\\x93\\x02\\xa4exit\\x90']
    """

    def __init__(self, message_bytes: int = limits.MESSAGE_BYTES) -> None:
        self._limit = message_bytes
        self._unpacker = new_unpacker()
        self._buffer = bytearray()
        self._start = 0  # stream offset of _buffer[0]

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they were read. Whole messages come out by iterating."""
        self._buffer += data
        self._unpacker.feed(data)

    @property
    def pending(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._buffer)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the whole messages; raise Fatal at the first byte that breaks the protocol.

        What was whole before the fault has been yielded by then.
        """
        done = 0
        skip, tell, buffer = self._unpacker.skip, self._unpacker.tell, self._buffer
        try:
            while done < len(buffer):
                if buffer[done] not in _FIRST:
                    raise Fatal(FatalCode.NOT_A_MESSAGE, _not_a_message(bytes(buffer[done:])))
                try:
                    skip()
                except msgpack.OutOfData:
                    break
                except msgpack.StackError:
                    raise Fatal(
                        FatalCode.TOO_DEEP, f"nested deeper than {limits.NESTING_FATAL}"
                    ) from None
                except ValueError:
                    raise Fatal(FatalCode.BAD_ENVELOPE, "not MessagePack (byte c1)") from None
                end = tell() - self._start
                if end - done > self._limit:
                    raise Fatal(FatalCode.MESSAGE_TOO_LARGE, self._too_large(end - done))
                message = bytes(memoryview(buffer)[done:end])
                done = end
                yield message
            if len(buffer) - done > self._limit:
                raise Fatal(FatalCode.MESSAGE_TOO_LARGE, self._too_large(len(buffer) - done))
        finally:
            del buffer[:done]
            self._start += done

    def _too_large(self, size: int) -> str:
        return f"a message of {size} bytes or more, the limit is {self._limit}"


def _not_a_message(data: bytes) -> str:
    text = data[:_QUOTED].split(b"\n", 1)[0]
    try:
        return f"not a message: {text.decode()!r}"
    except UnicodeDecodeError:
        return f"not a message: {text!r}"
