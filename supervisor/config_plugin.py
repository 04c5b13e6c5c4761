"""One plugin out of its layers: `[defaults]`, its own table, `-o KEY=VALUE`.

Knows the rules that join several keys, and makes the paths absolute. Must not know which
file a layer came from: it is handed a function that says where a key was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from .config_mistakes import Mistakes, Where
from .config_supervisor import absolute
from .config_tables import PLUGIN_KEYS, PluginTable, plugin_fields
from .spec import PluginSpec

Values = Mapping[str, Any]

_PLUGIN = TypeAdapter(PluginTable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What surrounds a plugin's own table: `[defaults]` below, `-o KEY=VALUE` above."""

    below: Values = field(default_factory=dict)
    above: Values = field(default_factory=dict)

    def around(self, own: Values) -> dict[str, Any]:
        """The plugin's values, a higher layer before a lower one."""
        return {**self.below, **own, **self.above}


def check_plugin(
    values: Values, base: Path, where: Where, mistakes: Mistakes
) -> tuple[dict[str, Any], set[str]]:
    """One layer, its paths made absolute, and the keys that were meant but came to nothing."""
    checked, meant = mistakes.checked(_PLUGIN, values, PLUGIN_KEYS, where)
    if isinstance(source := checked.get("source"), str):
        checked["source"] = absolute(base, source)
    for key in ("command", "launcher"):
        program, *rest = checked.get(key) or [""]
        if "/" in program:
            checked[key] = [absolute(base, program), *rest]
    if (python := checked.get("python", "")).startswith((".", "~")) or "/" in python:
        checked["python"] = absolute(base, python)  # any other is a name for PATH
    return checked, meant


def check_whole(values: Values, meant: set[str], where: str, mistakes: Mistakes) -> None:
    """The rules that join several keys; `meant` keys were reported already."""
    for is_broken, keys, what in _RULES:
        if not meant & keys and is_broken(values):
            mistakes.add(where, what)


def make_spec(name: str, values: Values) -> PluginSpec:
    """The record that the core reads."""
    fields: dict[str, Any] = {}
    for key, value in values.items():
        fields |= plugin_fields(key, value)
    return PluginSpec(name=name, **fields)


def _is_killed_first(values: Values) -> bool:
    soft, hard = values.get("max_rss"), values.get("memory")
    return soft is not None and hard is not None and soft >= hard


def _runs_a_callable(values: Values) -> bool:
    return isinstance(values.get("source"), bytes)


_RULES: tuple[tuple[Callable[[Values], bool], set[str], str], ...] = (
    (
        lambda v: not v.get("source") and not v.get("command"),
        {"source", "command"},
        'needs a source, such as source = "plugins/denoise.py", or a command',
    ),
    (
        lambda v: _runs_a_callable(v) and bool(v.get("command")),
        {"source", "command"},
        "has a callable as its source and a command: one of the two",
    ),
    (
        lambda v: not v.get("source") and any("{source}" in part for part in v.get("command", [])),
        {"source", "command"},
        "has {source} in its command but no source",
    ),
    (
        lambda v: bool(v.get("object") and v.get("command")),
        {"object", "command"},
        "has an object, which is looked for in a Python source, and a command",
    ),
    (
        lambda v: bool(v.get("python") and v.get("command")),
        {"python", "command"},
        "has a python, which runs a Python source, and a command: one of the two",
    ),
    (
        lambda v: bool(v.get("python")) and _runs_a_callable(v),
        {"python", "source"},
        "has a python, but a callable runs on the one that it comes from: put it in a file",
    ),
    (
        lambda v: bool(v.get("python")) and v.get("start") in {"spawn", "forkserver"},
        {"python", "start"},
        'has a python, which is executed: leave start away or make it "exec"',
    ),
    (
        lambda v: bool(v.get("python")) and v.get("isolation", "trusted") != "trusted",
        {"python", "isolation"},
        "has a python, which is not contained yet: only the supervisor's own can be",
    ),
    (
        lambda v: bool(v.get("include")) and _runs_a_callable(v),
        {"include", "source"},
        "includes files, but a callable has none beside it",
    ),
    (
        lambda v: v.get("start") in {"spawn", "forkserver"} and bool(v.get("command")),
        {"start", "command"},
        'has a command, which is always executed: leave start away or make it "exec"',
    ),
    (
        lambda v: bool(v.get("preload")) and v.get("start") != "forkserver",
        {"preload", "start"},
        'has modules to preload, which takes start = "forkserver"',
    ),
    (
        lambda v: v.get("isolation", "trusted") != "trusted" and v.get("start") == "forkserver",
        {"isolation", "start"},
        'has an isolation, which takes start = "exec" or "spawn": a fork server shares its memory',
    ),
    (
        lambda v: bool(v.get("launcher")) and v.get("start") == "forkserver",
        {"launcher", "start"},
        'has a launcher, which takes start = "exec" or "spawn": a fork server has no command line',
    ),
    (
        lambda v: (
            v.get("isolation", "trusted") == "trusted"
            and bool(v.get("env_pass") or v.get("network"))
        ),
        {"isolation", "env_pass", "network"},
        'has env_pass or network, which take isolation = "limited" or "sandboxed": trusted has all',
    ),
    (
        lambda v: v.get("swap") == "handoff" and v.get("workers", 1) > 1,
        {"swap", "workers"},
        'has swap = "handoff", which takes workers = 1: one worker owns the state',
    ),
    (
        _is_killed_first,
        {"max_rss", "memory"},
        "has a max_rss that is not below its memory: a worker would be killed, never recycled",
    ),
)
