"""The Python walker agrees with the compiled unpacker, whatever it is fed and in which pieces."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover.protocol.walker import Walker

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.builds(msgpack.ExtType, st.integers(3, 127), st.binary(max_size=40)),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=30,
)
DEEP = [b"\x91" * count + last for count in (1023, 1024, 1025) for last in (b"\xc0", b"\x90")]
LONG = [
    msgpack.packb(value)
    for size in (300, 70_000)
    for value in (
        *(b"x" * size, "x" * size, msgpack.ExtType(5, b"x" * size)),
        *([0] * size, dict.fromkeys(range(size))),
    )
]


def compiled(inside: int = 0) -> Any:
    unpacker = msgpack.Unpacker(max_buffer_size=0, strict_map_key=False)
    if inside:
        unpacker.feed(b"\x91" * inside)
    return unpacker


def outcome(unpacker: Any, method: str) -> Any:
    """What a call returns or raises, and where it ends."""
    try:
        value = getattr(unpacker, method)()
    except (msgpack.UnpackException, ValueError) as error:
        return type(error)
    return value, unpacker.tell()


def walked(unpacker: Any, pieces: list[bytes]) -> list[Any]:
    """Skip as far as it goes after each piece."""
    found = []
    for piece in pieces:
        unpacker.feed(piece)
        while isinstance(step := outcome(unpacker, "skip"), tuple):
            found.append(step)
        found.append(step)
        if step is not msgpack.OutOfData:
            break  # it is out of step
    return found


def cut(stream: bytes, step: int) -> list[bytes]:
    return [stream[start : start + step] for start in range(0, len(stream), step)]


@given(st.lists(PLAIN, max_size=4), st.integers(1, 50))
def test_values_end_where_they_end(values: list[Any], step: int) -> None:
    pieces = cut(b"".join(map(msgpack.packb, values)), step)
    assert walked(Walker(), pieces) == walked(compiled(), pieces)


@given(st.binary(max_size=60), st.integers(1, 7))
def test_garbage_ends_where_it_ends(stream: bytes, step: int) -> None:
    pieces = cut(stream, step)
    assert walked(Walker(), pieces) == walked(compiled(), pieces)


@pytest.mark.parametrize("stream", [*DEEP, *LONG])
def test_what_is_deep_or_long_ends_where_it_ends(stream: bytes) -> None:
    assert walked(Walker(), [stream]) == walked(compiled(), [stream])


@given(PLAIN, st.sampled_from(["unpack", "read_array_header", "read_map_header"]))
def test_values_are_read_alike(value: Any, method: str) -> None:
    walker, unpacker = Walker(), compiled()
    for each in (walker, unpacker):
        each.feed(msgpack.packb(value))
    assert outcome(walker, method) == outcome(unpacker, method)


@pytest.mark.parametrize("depth", [62, 63, 64])
def test_it_may_begin_inside_containers(depth: int) -> None:
    stream = b"\x91" * depth + b"\x90"
    walker, unpacker = Walker(inside=960), compiled(inside=960)
    for each in (walker, unpacker):
        each.feed(stream)
    results = [outcome(each, "skip") for each in (walker, unpacker)]
    failed = [result is msgpack.StackError for result in results]
    assert failed == [depth == 64] * 2


def test_half_a_message_is_not_walked_over_twice() -> None:
    walker = Walker()
    walker.feed(b"\xdc\x00\x05\x01\x02")
    assert outcome(walker, "skip") is msgpack.OutOfData
    assert walker.tell() == 5  # the head and two values are done
    walker.feed(b"\x03\x04\x05")
    assert outcome(walker, "skip") == (None, 8)
