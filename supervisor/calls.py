"""Reading the params of a request: by position, options last, errors that say what is wrong."""

from __future__ import annotations

from typing import Any

from ..protocol import limits
from ..protocol.errors import Code, Fault
from ..protocol.messages import Message, unpack, unpack_options

NAMES_BYTES = 1024 * 1024
LONGEST_S = 1e9  # a wait of thirty years: what is longer overflows somebody's clock


def invalid(message: str) -> Fault:
    """INVALID_PARAMS."""
    return Fault.new(Code.INVALID_PARAMS, message)


def _value(message: Message, index: int, what: str, limit: int) -> Any:
    """Decode one parameter. Its size is known before: a MiB of empty maps is 74 MB decoded."""
    raw = message.params[index]
    if len(raw) > limit:
        raise invalid(f"{message.method}: {what} of {len(raw)} bytes, the limit is {limit}")
    return unpack(raw)


def text(message: Message, index: int, what: str) -> str:
    """A str parameter that must be there."""
    if len(message.params) <= index:
        raise invalid(f"{message.method}: {what} is missing")
    value = _value(message, index, what, limits.OPTIONS_BYTES)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise invalid(f"{message.method}: {what} must be a str, not {type(value).__name__}")
    return value


def names(message: Message, index: int, what: str) -> list[str]:
    """An array of str; left out, it is empty."""
    if len(message.params) <= index:
        return []
    value = _value(message, index, what, NAMES_BYTES)
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise invalid(f"{message.method}: {what} must be an array of str")
    return value


def number(message: Message, index: int, what: str) -> int:
    """An integer parameter from 0 that must be there."""
    if len(message.params) <= index:
        raise invalid(f"{message.method}: {what} is missing")
    value = _value(message, index, what, limits.OPTIONS_BYTES)
    if type(value) is not int or not 0 <= value <= limits.ENVELOPE_INT:
        raise invalid(f"{message.method}: {what} must be an integer from 0, not {value!r:.40}")
    return value


def options(message: Message, index: int, large: str = "") -> dict[str, Any]:
    """The options map; left out, it is empty (R6). `large` may be a bin of any size."""
    return unpack_options(message.params[index], large) if len(message.params) > index else {}


def word(given: dict[str, Any], key: str) -> str | None:
    """An option that is a str; absent is None."""
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise invalid(f"{key} must be a str, not {value!r:.40}")
    return value


def words(given: dict[str, Any], key: str) -> list[str]:
    """An option that is an array of str; absent is empty."""
    value = given.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise invalid(f"{key} must be an array of str")
    return value


def flag(given: dict[str, Any], key: str) -> bool:
    """An option that is true or false; absent is false."""
    value = given.get(key, False)
    if value is not None and not isinstance(value, bool):
        raise invalid(f"{key} must be true or false, not {value!r:.40}")
    return bool(value)


def choice(given: dict[str, Any], key: str, known: tuple[str, ...]) -> str:
    """An option that is one of a few words; absent is the first."""
    value = given.get(key)
    if value is None:
        return known[0]
    if value not in known:
        raise invalid(f"{key} must be one of {', '.join(known)}, not {value!r:.40}")
    return str(value)


def whole(given: dict[str, Any], key: str, *, least: int = 0) -> int | None:
    """An option that is an integer; absent is None."""
    value = given.get(key)
    if value is None:
        return None
    if type(value) is not int or value < least:
        raise invalid(f"{key} must be an integer from {least}, not {value!r:.40}")
    return value


def seconds(given: dict[str, Any], key: str) -> float | None:
    """An option in integer milliseconds, as seconds; absent is None."""
    value = whole(given, key)
    return None if value is None else min(value / 1000, LONGEST_S)
