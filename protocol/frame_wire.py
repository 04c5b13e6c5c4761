"""The map a Frame travels as, and the distrust with which it is read (protocol page, section 2).

`{"$frame": {kind, fmt, w, h, planes, pts, ...}, "data": bin}`. Other processes fill it in:
every fact is checked before a Frame is made of it.
"""

from __future__ import annotations

from typing import Any

from .frame import Frame
from .planes import MOST_PIXELS_A_SIDE, MOST_SAMPLES, checked_int

KEY = "$frame"
_INT64 = (1 << 63) - 1
_OPTIONAL = ("pts", "sar", "color", "field", "rate", "layout")


def to_wire(frame: Frame) -> dict[str, Any]:
    """The frame as a map of plain data; facts that are not known are left out."""
    head: dict[str, Any] = {"kind": frame.kind, "fmt": frame.format}
    if frame.kind == "video":
        head["w"], head["h"] = frame.width, frame.height
    else:
        head["samples"] = frame.samples
    head["planes"] = frame.plane_layout
    for name in _OPTIONAL:
        value = getattr(frame, name)
        if value is not None:
            head[name] = value
    if frame.duration is not None:
        head["dur"] = frame.duration
    time_base = frame.time_base
    if time_base is not None:
        head["tb"] = (time_base.numerator, time_base.denominator)
    if frame.meta:
        head["meta"] = frame.meta
    return {KEY: head, "data": frame.data}


def of_wire(value: dict[Any, Any]) -> Frame:
    """The frame that a map tells of; its data is a view of the map's. ValueError if it lies."""
    head, data = value[KEY], value.get("data")
    if not isinstance(head, dict):
        raise ValueError(f"frame: {KEY} must be a map, not {head!r:.40}")
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ValueError("frame: without data")
    for name in ("kind", "fmt", "planes"):
        if name not in head:
            raise ValueError(f"frame: without {name}")
    try:
        return Frame(
            data,
            kind=_text(head["kind"], "kind"),
            format=_text(head["fmt"], "fmt"),
            plane_layout=head["planes"],
            width=checked_int(head.get("w", 0), "w", MOST_PIXELS_A_SIDE),
            height=checked_int(head.get("h", 0), "h", MOST_PIXELS_A_SIDE),
            samples=checked_int(head.get("samples", 0), "samples", MOST_SAMPLES),
            **_known(head),
        )
    except ValueError as err:
        raise ValueError(f"frame: {err}") from None


def _known(head: dict[Any, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for key, name, check in _CHECKS:
        value = head.get(key)
        if value is not None:
            facts[name] = check(value, key)
    return facts


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise ValueError(f"{what} must be a short text, not {value!r:.40}")
    return value


def _whole(value: object, what: str) -> int:
    return checked_int(value, what, _INT64, -_INT64)


def _rate(value: object, what: str) -> int:
    return checked_int(value, what, 1 << 31, 1)


def _ratio(value: object, what: str) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(f"{what} must be [numerator, denominator], not {value!r:.40}")
    return checked_int(value[0], what, _INT64), checked_int(value[1], what, _INT64, 1)


def _color(value: object, what: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or len(value) != 4:
        raise ValueError(f"{what} must be [range, space, primaries, transfer], not {value!r:.40}")
    return tuple(value)


def _meta(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a map, not {value!r:.40}")
    return value


_CHECKS = (
    ("pts", "pts", _whole),
    ("dur", "duration", _whole),
    ("tb", "time_base", _ratio),
    ("sar", "sar", _ratio),
    ("color", "color", _color),
    ("field", "field", _text),
    ("rate", "rate", _rate),
    ("layout", "layout", _text),
    ("meta", "meta", _meta),
)
