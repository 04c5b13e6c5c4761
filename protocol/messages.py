"""The envelope: requests, responses, notifications, packed and opened.

Only the envelope is decoded; `args` and `result` stay the bytes they came as, so that a message
can be passed on by joining parts. Shapes: `[0, msgid, method, params]`,
`[1, msgid, error, result]`, `[2, method, params]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import limits
from .codec import array_header, map_header, msgpack, new_unpacker
from .errors import Code, Fatal, FatalCode, Fault

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2
NIL = b"\xc0"

_METHOD = re.compile(r"(?!nvim_)[a-z][a-z0-9_]*(?<!_event)")
_COURTESY = ("nvim_get_api_info", "nvim_set_client_info")
_UNREADABLE = (ValueError, TypeError, msgpack.UnpackException)  # TypeError: an array as a map's key
_BIN = frozenset(b"\xc4\xc5\xc6")
_STR = frozenset((*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB))


class Packed(bytes):
    """A value that is packed already; `pack_map` splices it in."""


class Message(NamedTuple):
    """An opened envelope. `params` and `result` are still packed, element by element."""

    kind: int
    msgid: int
    method: str
    params: list[bytes]
    error: Any
    result: bytes


def pack(value: Any) -> bytes:
    """Plain MessagePack, for envelopes and options."""
    return msgpack.packb(value)  # type: ignore[no-any-return]


def pack_map(values: dict[str, Any]) -> bytes:
    """A map whose values may be `Packed`."""
    parts = [map_header(len(values))]
    for key, value in values.items():
        parts.append(pack(key))
        parts.append(value if isinstance(value, Packed) else pack(value))
    return b"".join(parts)


def unpack(raw: bytes) -> Any:
    """Plain MessagePack of an envelope's part. Raises Fault INVALID_PARAMS when it is not."""
    try:
        value = msgpack.unpackb(raw, strict_map_key=False)
    except _UNREADABLE as err:
        raise Fault.new(Code.INVALID_PARAMS, f"not readable: {err}") from None
    return value


def unpack_options(raw: bytes, large: str = "") -> dict[str, Any]:
    """The options map of a call. Raises Fault INVALID_PARAMS beyond the limits of section 7.

    The option `large`, if it is bin, may have any size that a message has.
    """
    held: dict[str, Any] = {}
    if large and len(raw) > limits.OPTIONS_BYTES:
        raw, held = _without(raw, large)
    if len(raw) > limits.OPTIONS_BYTES:
        raise Fault.new(
            Code.INVALID_PARAMS, f"options of {len(raw)} bytes, the limit is {limits.OPTIONS_BYTES}"
        )
    options = unpack(raw)
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise Fault.new(Code.INVALID_PARAMS, f"options must be a map, not {_name(options)}")
    if len(options) > limits.OPTIONS_KEYS:
        raise Fault.new(
            Code.INVALID_PARAMS, f"{len(options)} options, the limit is {limits.OPTIONS_KEYS}"
        )
    for key in options:
        if not isinstance(key, str):
            raise Fault.new(Code.INVALID_PARAMS, f"option keys must be str, not {_name(key)}")
    check_plain(options)
    return {**options, **held}


def _without(raw: bytes, large: str) -> tuple[bytes, dict[str, Any]]:
    """The options without a large one, which is not walked over by whoever checks the others."""
    unpacker = new_unpacker()
    unpacker.feed(raw)
    name, parts, held = pack(large), [], {}
    try:
        count = unpacker.read_map_header()
        for _ in range(count):
            start = unpacker.tell()
            unpacker.skip()
            middle = unpacker.tell()
            unpacker.skip()
            end = unpacker.tell()
            if raw[start:middle] == name and raw[middle] in _BIN:
                held[large] = unpack(raw[middle:end])
            else:
                parts.append(raw[start:end])
    except _UNREADABLE:
        return raw, {}  # no map: whoever reads it says so
    return b"".join((map_header(len(parts)), *parts)), held


def check_plain(value: Any) -> None:
    """No ext types and no integer beyond 2^53-1 in an envelope (R8, R9)."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int):
        if abs(value) > limits.ENVELOPE_INT:
            raise Fault.new(Code.INVALID_PARAMS, "an integer beyond 2^53-1 in the envelope")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_plain(key)
            check_plain(item)
    elif isinstance(value, (list, tuple)) and not isinstance(value, msgpack.ExtType):
        for item in value:
            check_plain(item)
    elif isinstance(value, (msgpack.ExtType, msgpack.Timestamp)):
        raise Fault.new(Code.INVALID_PARAMS, "an ext type in the envelope")


def request(msgid: int, method: str, params: Sequence[Any]) -> bytes:
    """`[0, msgid, method, params]`."""
    return pack((REQUEST, msgid, method, params))


def response(msgid: int, result: Any) -> bytes:
    """`[1, msgid, nil, result]`."""
    return pack((RESPONSE, msgid, None, result))


def failure(msgid: int, fault: Fault) -> bytes:
    """`[1, msgid, [code, message, data], nil]`."""
    return pack((RESPONSE, msgid, fault.wire(), None))


def notification(method: str, params: Sequence[Any]) -> bytes:
    """`[2, method, params]`."""
    return pack((NOTIFICATION, method, params))


def request_raw(msgid: int, method: str, parts: Sequence[bytes]) -> bytes:
    """A request whose params are packed already."""
    return b"".join((b"\x94\x00", pack(msgid), pack(method), array_header(len(parts)), *parts))


def response_raw(msgid: int, result: bytes) -> bytes:
    """A response whose result is packed already."""
    return b"".join((b"\x94\x01", pack(msgid), NIL, result))


def notification_raw(method: str, parts: Sequence[bytes]) -> bytes:
    """A notification whose params are packed already."""
    return b"".join((b"\x93\x02", pack(method), array_header(len(parts)), *parts))


def open_message(raw: bytes) -> Message:
    """Open the envelope of one whole message, as the splitter cut it.

    Raises Fatal BAD_ENVELOPE when it is none, Fault (with `msgid`) when the envelope is one but
    the call cannot be taken: too deep, too many params.
    """
    unpacker = new_unpacker()
    unpacker.feed(raw)
    try:
        message = _open(unpacker, raw)
    except _UNREADABLE as err:
        raise Fatal(FatalCode.BAD_ENVELOPE, f"bad envelope: {err or type(err).__name__}") from None
    if len(raw) > limits.NESTING_DEPTH and is_too_deep(raw):
        fault = Fault.new(Code.TOO_LARGE, f"nested deeper than {limits.NESTING_DEPTH}")
        fault.kind = message.kind
        fault.msgid = message.msgid if message.kind != NOTIFICATION else None
        raise fault
    return message


def _open(unpacker: Any, raw: bytes) -> Message:
    """Nothing is decoded before its first byte has said that it is small when decoded."""
    size = unpacker.read_array_header()
    kind = raw[1]
    if (size, kind) not in ((4, 0), (4, 1), (3, 2)):
        raise ValueError("not a request, response or notification")
    unpacker.skip()
    if kind == NOTIFICATION:
        method = _method(unpacker, raw)
        return Message(kind, 0, method, _params(unpacker, raw, None), None, NIL)
    msgid = _msgid(unpacker, raw)
    if kind == REQUEST:
        method = _method(unpacker, raw)
        return Message(kind, msgid, method, _params(unpacker, raw, msgid), None, NIL)
    error = _error(unpacker, raw)
    start = unpacker.tell()
    return Message(kind, msgid, "", [], error, raw[start:])


def _msgid(unpacker: Any, raw: bytes) -> int:
    first = raw[unpacker.tell()]
    if first > 0x7F and not 0xCC <= first <= 0xD3:
        raise ValueError("msgid is not an integer from 0 to 2^32-1")
    msgid: int = unpacker.unpack()
    if not 0 <= msgid <= limits.MSGID:
        raise ValueError("msgid is not an integer from 0 to 2^32-1")
    return msgid


def _error(unpacker: Any, raw: bytes) -> Any:
    """R7: whatever it is, it is an error; what cannot be decoded is told as text."""
    start = unpacker.tell()
    unpacker.skip()
    part = raw[start : unpacker.tell()]
    if part == NIL:
        return None
    if len(part) > limits.ERROR_BYTES:
        return f"an error of {len(part)} bytes"
    try:
        return msgpack.unpackb(part, strict_map_key=False, unicode_errors="replace")
    except _UNREADABLE:
        return f"an error that cannot be read: {part[:60]!r}"


def _params(unpacker: Any, raw: bytes, msgid: int | None) -> list[bytes]:
    count = unpacker.read_array_header()
    if count > limits.PARAMS:
        fault = Fault.new(Code.INVALID_PARAMS, f"{count} params, the limit is {limits.PARAMS}")
        fault.kind = NOTIFICATION if msgid is None else REQUEST
        fault.msgid = msgid
        raise fault
    start = unpacker.tell()
    parts = []
    for _ in range(count):
        unpacker.skip()
        end = unpacker.tell()
        parts.append(raw[start:end])
        start = end
    return parts


def _method(unpacker: Any, raw: bytes) -> str:
    """R5; a method that is no legal name is an unknown one, so it keeps its text."""
    first = raw[unpacker.tell()]
    if first not in _STR and first not in _BIN:
        raise ValueError("method is not a str")
    value = unpacker.unpack()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def is_method_name(name: str) -> bool:
    """R5: may a method be called this?"""
    return name in _COURTESY or (
        len(name) <= limits.METHOD_BYTES and _METHOD.fullmatch(name) is not None
    )


def is_too_deep(raw: bytes, around: int = 0) -> bool:
    """Is this packed value, inside so many containers, nested deeper than 64?

    Skip as if inside 1024-64 more: the unpacker's own stack then ends at 64 levels.
    """
    unpacker = new_unpacker(inside=limits.NESTING_FATAL - limits.NESTING_DEPTH + around)
    unpacker.feed(raw)
    try:
        unpacker.skip()
    except msgpack.StackError:
        return True
    return False


def _name(value: Any) -> str:
    return type(value).__name__
