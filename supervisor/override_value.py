"""The VALUE of `-o KEY=VALUE`: TOML if it is TOML, else the text.

For the config and for the commands that hand a value on. Must not know the keys' meaning.
"""

from __future__ import annotations

import tomllib
from typing import Any

TEXT_KEYS = frozenset({"name", "socket", "state_dir", "source", "object", "pin"})


def read_value(key: str, text: str) -> Any:
    """`3`, `true`, `["a"]` and `"b"` as TOML; `100ms`, `off` and all of a text key as they are."""
    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except tomllib.TOMLDecodeError:
        return text
    if isinstance(value, (bool, int, float, list, dict)) and key not in TEXT_KEYS:
        return value
    return value if isinstance(value, str) else text
