"""The `[supervisor]` and `[log]` tables, one layer at a time.

Makes the paths absolute. Must not know which file a layer came from: it is handed a function
that says where a key was written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from .config_mistakes import Mistakes, Where
from .config_tables import (
    LOG_KEYS,
    SUPERVISOR_FIELDS,
    SUPERVISOR_KEYS,
    LogTable,
    SupervisorTable,
)
from .spec import SupervisorSpec

Values = Mapping[str, Any]
Checked = tuple[dict[str, Any], set[str]]

SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less the final zero

_SUPERVISOR = TypeAdapter(SupervisorTable)
_LOG = TypeAdapter(LogTable)


def check_supervisor(values: Values, base: Path, where: Where, mistakes: Mistakes) -> Checked:
    """What is right in `[supervisor]`, and the keys that were meant but came to nothing."""
    checked, meant = mistakes.checked(_SUPERVISOR, values, SUPERVISOR_KEYS, where)
    for key in {"socket", "state_dir"} & set(checked):
        if checked[key] != "auto":
            checked[key] = absolute(base, checked[key])
    if len(os.fsencode(checked.get("socket", ""))) > SOCKET_PATH_BYTES:
        what = (
            f"{checked['socket']} is longer than the {SOCKET_PATH_BYTES} bytes of a socket's path"
        )
        mistakes.add(where(("socket",)), what)
    return checked, meant


def check_log(values: Values, _base: Path, where: Where, mistakes: Mistakes) -> Checked:
    """What is right in `[log]`, and the keys that were meant but came to nothing."""
    return mistakes.checked(_LOG, values, LOG_KEYS, where)


def make_supervisor(supervisor: Values, log: Values) -> SupervisorSpec:
    """The record that the core reads."""
    fields: dict[str, Any] = {
        SUPERVISOR_FIELDS.get(key, key): tuple(value) if isinstance(value, list) else value
        for key, value in supervisor.items()
    }
    return SupervisorSpec(**fields, **{f"log_{key}": value for key, value in log.items()})


def absolute(base: Path, path: str) -> str:
    """A path as it is meant in a file of the folder `base`; links are kept."""
    return os.path.abspath(base / Path(path).expanduser())
