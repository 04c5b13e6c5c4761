"""`-o KEY=VALUE`: any plugin or `[supervisor]` key, laid over the file.

`-o workers=3` is for every plugin, `-o denoise.workers=3` for one, `-o settle=100ms` and
`-o supervisor.settle=100ms` for the supervisor, `-o log.level=debug` for the log. Must not
check values: the tables do.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from .config_mistakes import Mistakes, did_you_mean
from .config_tables import LOG_KEYS, PLUGIN_KEYS, SUPERVISOR_KEYS
from .override_value import read_value

ONE_ONLY = frozenset({"source", "object", "command", "pin"})


@dataclass(frozen=True, slots=True)
class Value:
    """What one `-o` gave, and how it was written."""

    value: Any
    text: str


@dataclass(slots=True, kw_only=True)
class Overrides:
    """All of them, sorted by the table that they go to; a later one wins."""

    names: Collection[str]  # the plugins of the config
    supervisor: dict[str, Value] = field(default_factory=dict)
    log: dict[str, Value] = field(default_factory=dict)
    every_plugin: dict[str, Value] = field(default_factory=dict)
    plugins: dict[str, dict[str, Value]] = field(default_factory=dict)

    def add(self, text: str, mistakes: Mistakes) -> None:
        """Put one `KEY=VALUE` into its table."""
        key, equals, value = (part.strip() for part in text.partition("="))
        scope, _, name = key.removeprefix("plugins.").rpartition(".")
        table = self._table(scope, name)
        if not equals:
            mistakes.add(f"-o {text}", "must be KEY=VALUE, such as -o workers=3")
        elif table is None:
            mistakes.add(f"-o {text}", _unknown(scope, name, self.names))
        else:
            table[name] = Value(read_value(name, value), f"-o {text}")

    def _table(self, scope: str, name: str) -> dict[str, Value] | None:
        if scope in {"", "supervisor"} and name in SUPERVISOR_KEYS:
            return self.supervisor
        if scope == "log" and name in LOG_KEYS:
            return self.log
        if scope in self.names and name in PLUGIN_KEYS:
            return self.plugins.setdefault(scope, {})
        if not scope and name in PLUGIN_KEYS and name not in ONE_ONLY:
            return self.every_plugin
        return None


def _unknown(scope: str, name: str, plugins: Collection[str]) -> str:
    known = {"supervisor": SUPERVISOR_KEYS, "log": LOG_KEYS, "": (*PLUGIN_KEYS, *SUPERVISOR_KEYS)}
    known |= dict.fromkeys(plugins, PLUGIN_KEYS)
    if scope not in known:
        return f'no plugin "{scope}"{did_you_mean(scope, known)}'
    if not scope and name in ONE_ONLY:
        return f"belongs to one plugin: -o NAME.{name}=…"
    return f'unknown key "{name}"{did_you_mean(name, known[scope])}'
