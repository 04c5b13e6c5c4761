"""The values of the config that are more than a number, a word or a list.

Each function takes what somebody wrote and returns what `spec.py` wants, or raises ValueError
with a sentence that goes on from the key. Must not know which key asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cronsim import CronSim, CronSimError

from . import units
from .registry import Cron, Disabled, Every, OnChange, OnSignal, ReloadPolicy
from .units import show

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MODE = re.compile(r"0?[67][0-7]{2}")
PIN = re.compile(r"sha256:([0-9a-f]{64})")
RELOAD_WORDS: dict[str, ReloadPolicy] = {
    "on-change": OnChange(),
    "on-signal": OnSignal(),
    "disabled": Disabled(),
}
RELOADS = '"on-change", "on-signal", "disabled", {every = "10m"} or {cron = "0 3 * * *"}'
MAX_COUNT = 2**31
SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)


def plugin_name(value: object) -> str:
    """A name that is safe in paths, on the command line and in a key of `-o`."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(
            f"a name is 1 to 64 letters, digits, dots, dashes and underscores and begins with a "
            f"letter or digit, not {show(value)}"
        )
    return value


def reload(value: object) -> ReloadPolicy:
    """A word, an interval or a cron expression."""
    if isinstance(value, str) and value in RELOAD_WORDS:
        return RELOAD_WORDS[value]
    if isinstance(value, Mapping) and set(value) == {"every"}:
        return Every(units.positive_duration(value["every"]))
    if isinstance(value, Mapping) and set(value) == {"cron"}:
        return Cron(_cron(value["cron"]))
    raise ValueError(f"must be {RELOADS}, not {show(value)}")


def _cron(value: object) -> str:
    example = 'five fields: minute hour day month weekday, such as "0 3 * * *"'
    if not isinstance(value, str):
        raise ValueError(f"cron is {example}, not {show(value)}")
    try:
        CronSim(value, SOME_DAY)
    except CronSimError as error:
        raise ValueError(f"cron {show(value)}: {error}; {example}") from None
    return value


def source(value: object) -> str | bytes:
    """A path, or a pickled callable."""
    if isinstance(value, bytes) and value:
        return value
    return text(value)


def text(value: object) -> str:
    """Text that can be a path, a name or an argument."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"must be text, not {show(value)}")
    return value


def argument(value: object) -> str:
    """Text that may be empty, as an argument of a program may."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"must be text, not {show(value)}")
    return value


def python(value: object) -> str:
    """An interpreter; "" is the supervisor's own."""
    return "" if value == "" else text(value)


def count_or_off(value: object) -> int | None:
    """A whole number from 1, or None for "off"."""
    if value == "off":
        return None
    if type(value) is not int or not 1 <= value <= MAX_COUNT:
        raise ValueError(
            f'must be a whole number from 1, such as 1000, or "off", not {show(value)}'
        )
    return value


def pin(value: object) -> str:
    """The 64 digits of a pin; "" is none."""
    if value == "":
        return ""
    match = PIN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'must be "sha256:" and 64 hex digits (sha256sum FILE), not {show(value)}')
    return match[1]


def mode(value: object) -> int:
    """Permissions as `chmod` takes them, ours to read and write at least."""
    if not isinstance(value, str) or not MODE.fullmatch(value):
        raise ValueError(
            f'must be octal permissions that leave the socket to us, such as "0600" or "0660", '
            f"not {show(value)}"
        )
    return int(value, 8)


def env(value: object) -> dict[str, str]:
    """Names and texts that a process can be started with."""
    if not isinstance(value, dict):
        raise ValueError(f'must be a table, such as {{LANG = "C"}}, not {show(value)}')
    for name, content in value.items():
        _check_variable(name)
        if not isinstance(content, str) or "\0" in content:
            raise ValueError(f"{name} must be text, not {show(content)}")
    return value


def variables(value: object) -> list[str]:
    """Names of environment variables."""
    if not isinstance(value, list):
        raise ValueError(f'must be a list of names, such as ["HTTP_PROXY"], not {show(value)}')
    for name in value:
        _check_variable(name)
        if "*" in name:
            raise ValueError(f"{name} is a pattern; name each variable")
    return value


def _check_variable(name: object) -> None:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise ValueError(f"{show(name)} cannot be the name of an environment variable")
    if name.startswith("CHANGEOVER_"):
        raise ValueError(f"{name} is set by changeover itself")


def carried(value: object) -> dict[str, Any]:
    """A map that can travel to the worker as plain MessagePack."""
    if not isinstance(value, dict):
        raise ValueError(f"must be a table, such as {{strength = 0.5}}, not {show(value)}")
    _check_carried(value, "")
    return value


def _check_carried(value: object, place: str) -> None:
    match value:
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise ValueError(f"{place or 'it'} has the key {show(key)}; keys are text")
                _check_carried(item, f"{place}.{key}" if place else key)
        case list() | tuple():
            for index, item in enumerate(value):
                _check_carried(item, f"{place}[{index}]")
        case int() if not -(2**63) <= value < 2**64:
            raise ValueError(f"{place} does not fit into 64 bits")
        case str() | bytes() | bool() | int() | float() | None:
            pass
        case _:
            raise ValueError(f"{place} is a {type(value).__name__}; write it as text")
