"""Cutting messages out of a byte stream, wherever the reads end."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover.protocol.errors import Fatal, FatalCode
from changeover.protocol.framing import Splitter
from changeover.protocol.messages import notification, request, response

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.one_of(
    st.builds(lambda value: request(1, "run", [value]), PLAIN),
    st.builds(lambda value: response(2, value), PLAIN),
    st.builds(lambda value: notification("progress", [value]), PLAIN),
)


def split(splitter: Splitter, data: bytes) -> list[bytes]:
    splitter.feed(data)
    return list(splitter)


@given(st.lists(MESSAGES, max_size=5), st.integers(1, 7))
def test_messages_come_out_as_they_went_in_wherever_they_are_split(
    messages: list[bytes], step: int
) -> None:
    stream = b"".join(messages)
    splitter = Splitter()
    found = [
        raw
        for start in range(0, len(stream), step)
        for raw in split(splitter, stream[start : start + step])
    ]
    assert found == messages
    assert splitter.pending == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"Loading model\n", FatalCode.NOT_A_MESSAGE),
        (b"\x95\x00", FatalCode.NOT_A_MESSAGE),
        (b"\x94\x00\x01\xa1r\xc1", FatalCode.BAD_ENVELOPE),
        (b"\x94\x00\x01\xa3run" + b"\x91" * 1030 + b"\x00", FatalCode.TOO_DEEP),
    ],
)
def test_what_is_no_message_is_fatal(data: bytes, code: FatalCode) -> None:
    with pytest.raises(Fatal) as fatal:
        split(Splitter(), data)
    assert fatal.value.code == code


def test_what_was_whole_before_the_fault_comes_out_first() -> None:
    splitter = Splitter()
    splitter.feed(notification("exit", []) + b"oops")
    found = iter(splitter)
    assert next(found) == notification("exit", [])
    with pytest.raises(Fatal, match="oops"):
        next(found)


def test_text_on_the_stream_is_quoted() -> None:
    with pytest.raises(Fatal, match="'Loading model'"):
        split(Splitter(), b"Loading model\nmore")


def test_a_message_beyond_the_limit_is_fatal_even_unfinished() -> None:
    splitter = Splitter(message_bytes=100)
    assert split(splitter, request(1, "run", [b"x" * 50]))
    with pytest.raises(Fatal) as fatal:
        split(splitter, request(1, "run", [b"x" * 200])[:150])
    assert fatal.value.code == FatalCode.MESSAGE_TOO_LARGE


def test_nothing_is_decoded_while_splitting() -> None:
    maps = b"\x94\x00\x01\xa3run\x91" + msgpack.Packer().pack_array_header(1000) + b"\x80" * 1000
    assert split(Splitter(), maps) == [maps]
