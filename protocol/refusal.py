"""Which part of a value cannot be sent: found only after packing has failed, so it may be slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .frame import Frame
from .limits import NESTING_DEPTH

PACK_ERRORS = (TypeError, ValueError, OverflowError, RecursionError)


def refusal(named: dict[str, Any], err: Exception, pack: Callable[[Any], bytes]) -> Exception:
    """The error to raise for `err`: which of the named values, and where inside it.

    TypeError for what is of a wrong type, else ValueError.
    """
    for what, value in named.items():
        reason = _failure(value, pack)
        if reason is not None:
            return _told(*_culprit(value, what, reason, pack))
    return _told("the value", err)


def _told(place: str, reason: Exception) -> Exception:
    if _is_too_deep(reason):
        return ValueError(f"{place} is nested deeper than {NESTING_DEPTH} containers")
    if isinstance(reason, UnicodeError):
        return ValueError(f"{place} is a str that is not valid UTF-8")
    kind = TypeError if isinstance(reason, TypeError) else ValueError
    return kind(f"{place} {reason}")


def _is_too_deep(reason: Exception) -> bool:
    return isinstance(reason, RecursionError) or "recursion limit" in str(reason)


def _failure(value: Any, pack: Callable[[Any], bytes]) -> Exception | None:
    try:
        pack(value)
    except PACK_ERRORS as err:
        return err
    return None


def _culprit(
    value: Any, place: str, err: Exception, pack: Callable[[Any], bytes]
) -> tuple[str, Exception]:
    if _is_too_deep(err):
        return place, err
    for where, child in _children(value, place):
        reason = _failure(child, pack)
        if reason is not None:
            return _culprit(child, where, reason, pack)
    return place, err


def _children(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"a key of {place}", key
            yield f"{place}[{key!r:.40}]", item
    elif isinstance(value, Frame):
        yield f"{place}.meta", value.meta
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"{place}[{index}]", item
