"""Envelopes: what is packed is opened again, and payloads stay the bytes they were."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from changeover.protocol import messages
from changeover.protocol.errors import Code, Fatal, FatalCode, Fault
from changeover.protocol.messages import (
    NOTIFICATION,
    REQUEST,
    RESPONSE,
    Packed,
    open_message,
    pack,
    unpack_options,
)
from changeover.protocol.plugin_version import PluginVersion
from changeover.protocol.versions import negotiate


def test_a_request_opens_into_packed_params() -> None:
    raw = messages.request(7, "run", ["denoise", "run", [1], {"id": "a"}])
    opened = open_message(raw)
    assert (opened.kind, opened.msgid, opened.method) == (REQUEST, 7, "run")
    assert [msgpack.unpackb(param) for param in opened.params] == [
        "denoise",
        "run",
        [1],
        {"id": "a"},
    ]


def test_raw_parts_are_joined_as_they_are() -> None:
    odd = b"\xa1\xff"  # not UTF-8: opaque to us
    opened = open_message(messages.request_raw(1, "job", [pack("id"), odd]))
    assert opened.params[1] == odd
    assert open_message(messages.response_raw(1, odd)).result == odd
    assert open_message(messages.notification_raw("item", [odd])).params == [odd]


def test_a_failure_carries_code_message_and_data() -> None:
    fault = Fault.new(Code.BUSY, "full", plugin="denoise")
    opened = open_message(messages.failure(3, fault))
    assert opened.kind == RESPONSE
    again = Fault.of(opened.error)
    assert (again.code, again.message, again.data) == (
        1010, "full", {"retryable": True, "executed": "no", "plugin": "denoise"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [("boom", "boom"), (b"boom", "boom"), ([0, "Vim:boom"], "Vim:boom"), (17, "17")],
)
def test_any_other_error_becomes_1000(value: Any, text: str) -> None:
    fault = Fault.of(value)
    assert (fault.code, fault.message) == (1000, text)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x94\x05\x01\xa1r\x90",  # no such type
        b"\x94\x00\xa1x\xa1r\x90",  # msgid is text
        b"\x94\x00\xff\xa1r\x90",  # msgid is negative
        b"\x93\x00\x01\x90",  # a request of three
        b"\x94\x00\x01\x07\x90",  # the method is a number
        b"\x94\x00\x01\xa1r\x80",  # params are a map
    ],
)
def test_a_bad_envelope_is_fatal(raw: bytes) -> None:
    with pytest.raises(Fatal) as fatal:
        open_message(raw)
    assert fatal.value.code == FatalCode.BAD_ENVELOPE


def test_a_method_may_be_bytes() -> None:
    assert open_message(b"\x93\x02\xc4\x04exit\x90").method == "exit"
    assert open_message(b"\x93\x02\xa4exit\x90").kind == NOTIFICATION


def nested(depth: int) -> bytes:
    """A request of that many containers, counted from the message array."""
    return b"\x94\x00\x09\xa3run" + b"\x91" * (depth - 1) + b"\xd9\x40" + b"x" * 64


def test_sixty_four_levels_are_allowed_and_one_more_ends_the_call() -> None:
    assert open_message(nested(64)).msgid == 9
    with pytest.raises(Fault) as fault:
        open_message(nested(65))
    assert (fault.value.code, fault.value.msgid) == (Code.TOO_LARGE, 9)


def test_more_than_sixteen_params_end_the_call() -> None:
    with pytest.raises(Fault) as fault:
        open_message(messages.request(4, "run", list(range(17))))
    assert (fault.value.code, fault.value.msgid) == (Code.INVALID_PARAMS, 4)


@pytest.mark.parametrize(
    "options",
    [
        [1],
        {1: 2},
        {str(n): n for n in range(65)},
        {"a": "x" * 70_000},
        {"a": 2**53},
        {"a": msgpack.ExtType(5, b"")},
    ],
)
def test_options_beyond_the_rules_are_refused(options: Any) -> None:
    with pytest.raises(Fault) as fault:
        unpack_options(pack(options))
    assert fault.value.code == Code.INVALID_PARAMS


def test_a_packed_value_is_spliced_into_a_map() -> None:
    raw = messages.pack_map({"version": 1, "state": Packed(pack({"n": 5}))})
    assert msgpack.unpackb(raw) == {"version": 1, "state": {"n": 5}}


def test_the_highest_common_protocol_is_answered() -> None:
    assert negotiate(None) == negotiate([1]) == negotiate([3, 1]) == 1
    with pytest.raises(Fault) as fault:
        negotiate([2])
    assert fault.value.code == Code.NO_COMMON_PROTOCOL


def test_a_plugin_version_travels_with_a_hash_of_sixteen_digits() -> None:
    wire = {"id": "d", "version": "1.2.0", "hash": "00000000000000ff",
            "loaded_at": "2026-01-02T03:04:05+00:00"}  # fmt: skip
    version = PluginVersion.of(wire)
    assert version.hash == 255
    assert version.wire() == wire
