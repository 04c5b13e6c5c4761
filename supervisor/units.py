"""Durations, sizes and rates as people write them, and as screens show them.

For the config and for the commands. Must not know any key: it only says what is wrong with
a value and shows one that would be right.
"""

from __future__ import annotations

import re

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-zµ%]*)\s*")
_BURST = re.compile(r"\s*(\d+)\s+in\s+(.+)")


def duration(value: object) -> float:
    """Seconds from "30s", "500ms", "1.5h"."""
    number, unit = _quantity(value, what="a duration", example="30s", bare="s")
    if unit not in SECONDS:
        raise ValueError(f'unknown unit "{unit}": one of {", ".join(SECONDS)}, such as "30s"')
    return number * SECONDS[unit]


def positive_duration(value: object) -> float:
    """A duration that must not be zero."""
    seconds = duration(value)
    if seconds == 0:
        raise ValueError(f"must be longer than zero, not {show(value)}")
    return seconds


def duration_or_off(value: object) -> float | None:
    """A positive duration, or None for "off"."""
    return None if value == "off" else positive_duration(value)


def size(value: object) -> int:
    """Bytes from "512MiB", "20GiB", "1.5MB"; more than zero."""
    number, unit = _quantity(value, what="a size", example="512MiB", bare="MiB")
    if unit not in BYTES:
        raise ValueError(f'unknown unit "{unit}": one of {", ".join(BYTES)}, such as "512MiB"')
    count = int(number * BYTES[unit])
    if count == 0:
        raise ValueError(f"must be more than zero, not {show(value)}")
    return count


def size_or_off(value: object) -> int | None:
    """A size, or None for "off"."""
    return None if value == "off" else size(value)


def backoff(value: object) -> tuple[float, float]:
    """Shortest and longest pause in seconds from "100ms..30s"."""
    shortest, dots, longest = value.partition("..") if isinstance(value, str) else ("", "", "")
    if not dots:
        raise ValueError(f'must be two durations, such as "100ms..30s", not {show(value)}')
    pause = positive_duration(shortest), positive_duration(longest)
    if pause[0] > pause[1]:
        raise ValueError(f'the shorter one comes first, such as "100ms..30s", not {show(value)}')
    return pause


def burst(value: object) -> tuple[int, float]:
    """How many within how many seconds, from "5 in 60s"."""
    match = _BURST.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError(f'must be a number and a duration, such as "5 in 60s", not {show(value)}')
    return int(match[1]), positive_duration(match[2])


def error_limit(value: object) -> tuple[float | None, float | None]:
    """(factor, None) from "2x", (None, rate) from "5%"."""
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in {"x", "%"} or float(match[1]) == 0:
        raise ValueError(
            f'must be a factor, such as "2x", or a rate, such as "5%", not {show(value)}'
        )
    number = float(match[1])
    if match[2] == "x":
        return number, None
    if number > 100:
        raise ValueError(f"a rate is at most 100%, not {show(value)}")
    return None, number / 100


def show(value: object) -> str:
    """A value as it would stand in the config."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def format_duration(seconds: float) -> str:
    """ "31ms", "4.1 s", "3d 4h": two steps of a scale, never more digits than matter."""
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if hours == 0:
        return f"{minutes}m {int(seconds % 60)}s"
    if days == 0:
        return f"{hours}h {minutes % 60}m"
    return f"{days}d {hours % 24}h"


def format_size(count: float) -> str:
    """ "96M", "2.1G": three digits and a letter, powers of 1024."""
    for letter in ("B", "K", "M", "G"):
        if count < 999.5:
            return (
                f"{count:.0f}{letter}" if count >= 10 or letter == "B" else f"{count:.1f}{letter}"
            )
        count /= 1024
    return f"{count:.1f}T"


def _quantity(value: object, *, what: str, example: str, bare: str) -> tuple[float, str]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f'needs a unit, such as "{value}{bare}", not {show(value)}')
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'must be {what}, such as "{example}", not {show(value)}')
    if not match[2]:
        raise ValueError(f'needs a unit, such as "{match[1]}{bare}", not {show(value)}')
    return float(match[1]), match[2].replace("µ", "u")
