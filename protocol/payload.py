"""Arguments and results, packed: MessagePack, and on top of it frames, arrays and times.

Plain data is one call into msgpack. What it does not know comes to a hook: `Frame`, numpy arrays
and numpy scalars travel as plain maps and values (protocol page, section 2). Everything that
cannot be sent raises TypeError (the type and the place are named) or ValueError (an int beyond
64 bit, too deep, not UTF-8); everything that cannot be read raises ValueError. The supervisor
never calls this: it passes payloads on as they are.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from . import array_wire, frame_wire
from .codec import msgpack
from .frame import Frame
from .refusal import PACK_ERRORS, refusal

_STAR = "*"
_ODD_KEYS = 4096  # keys other than str and bytes that one map may have
_EXT_REFUSED = range(3)  # Neovim clients rewrite ext types 0 to 2 (rule R8)
_UNPACK_ERRORS = (TypeError, ValueError, OverflowError, msgpack.UnpackException)


def pack_payload(value: Any, what: str = "value") -> bytes:
    """One argument or result, packed. `what` is how errors call it."""
    try:
        return _packed(value)
    except PACK_ERRORS as err:
        raise refusal({what: value}, err, _packed) from None


def unpack_payload(raw: bytes) -> Any:
    """What `pack_payload` packed; times come back as aware datetimes in UTC.

    Arrays and frames are read-only views of the received bytes.
    """
    # The marker of a frame or array is a str of 6 bytes that begins with a dollar sign.
    hook = _from_plain if b"\xa6$" in raw else None
    try:
        return msgpack.unpackb(raw, object_hook=hook, ext_hook=_ext, timestamp=3)
    except _UNPACK_ERRORS as err:
        if "map key" not in str(err):
            raise ValueError(f"not readable: {err or type(err).__name__}") from None
    return _unpack_odd_keys(raw)


def pack_args(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The arguments of a call: an array, a map, or a map with `*` for both."""
    value: Any = args
    if kwargs:
        value = {**kwargs, _STAR: args} if args else kwargs
        if _STAR in kwargs:
            raise TypeError("no keyword argument can be called *")
    try:
        return _packed(value)
    except PACK_ERRORS as err:
        named = {f"argument {index}": item for index, item in enumerate(args, 1)}
        named.update((f"argument {name}", item) for name, item in kwargs.items())
        raise refusal(named, err, _packed) from None


def unpack_args(raw: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of a call. Raises ValueError when they are not readable."""
    value = unpack_payload(raw)
    if isinstance(value, list):
        return value, {}
    if not isinstance(value, dict):
        return [value], {}
    args = value.pop(_STAR, [])
    if not isinstance(args, list):
        raise ValueError(f"the arguments under * must be an array, not {type(args).__name__}")
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"keyword arguments are named by str, not {name!r:.40}")
    return args, value


def _packed(value: Any) -> bytes:
    return msgpack.packb(value, default=_to_plain, datetime=True)  # type: ignore[no-any-return]


def _to_plain(value: Any) -> Any:
    if isinstance(value, Frame):
        return frame_wire.to_wire(value)
    if array_wire.is_numpy(value):
        return array_wire.to_wire(value)
    if isinstance(value, int):
        raise ValueError("is an int beyond 64 bits: send it as str")
    if isinstance(value, dt.datetime):
        raise TypeError("is a datetime without a time zone: give it one")
    kind = type(value)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    raise TypeError(
        f"is of type {name}: only what msgpack carries, Frame and numpy arrays can be sent"
    )


def _from_plain(value: dict[Any, Any]) -> Any:
    if frame_wire.KEY in value:
        return frame_wire.of_wire(value)
    if array_wire.KEY in value:
        return array_wire.of_wire(value)
    return value


def _ext(code: int, data: bytes) -> msgpack.ExtType:
    if code in _EXT_REFUSED:
        raise ValueError(f"ext type {code} is not used here (rule R8)")
    return msgpack.ExtType(code, data)


def _unpack_odd_keys(raw: bytes) -> Any:
    """Maps with int and such keys: rare, and anyone can choose them so that they all collide."""
    try:
        return msgpack.unpackb(
            raw,
            object_pairs_hook=_of_pairs,
            ext_hook=_ext,
            timestamp=3,
            strict_map_key=False,
        )
    except _UNPACK_ERRORS as err:
        raise ValueError(f"not readable: {err or type(err).__name__}") from None


def _of_pairs(pairs: list[tuple[Any, Any]]) -> Any:
    odd = sum(not isinstance(key, (str, bytes)) for key, _ in pairs)
    if odd > _ODD_KEYS:
        raise ValueError(f"a map with {odd} keys that are not str, the limit is {_ODD_KEYS}")
    return _from_plain(dict(pairs))
