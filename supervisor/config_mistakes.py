"""Every mistake of a config at once, one line each: where, what, did you mean.

Turns pydantic's findings into sentences of ours and finds the line of a key in the file.
Must not know what the keys mean.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from .units import show

KeyPath = tuple[str, ...]
Where = Callable[[KeyPath], str]

_HEADER = re.compile(r"\s*\[[^\[\]]+\]\s*(#.*)?")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_.\-]|"[^"\\]*"|'[^']*')+)\s*=""")
_SENTENCES: dict[str, Callable[[dict[str, Any]], str]] = {
    "int_type": lambda _: "must be a whole number, such as 3",
    "int_from_float": lambda _: "must be a whole number, such as 3",
    "bool_type": lambda _: "must be true or false",
    "list_type": lambda _: 'must be a list, such as ["a", "b"]',
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']}",
    "too_long": lambda ctx: f"has more than {ctx['max_length']} entries",
    "literal_error": lambda ctx: "must be " + str(ctx["expected"]).replace("'", '"'),
}


class ConfigError(Exception):
    """The config was refused; `problems` has one line for each mistake."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Mistakes:
    """Collects what is wrong until somebody asks."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Note one mistake."""
        self.lines.append(f"{where}: {what}")

    def refuse(self) -> None:
        """Raise ConfigError if there was any."""
        if self.lines:
            raise ConfigError(self.lines)

    def checked(
        self, table: TypeAdapter[Any], values: Mapping[str, Any], keys: Iterable[str], where: Where
    ) -> tuple[dict[str, Any], set[str]]:
        """What is right in a table, and the keys that were meant but came to nothing."""
        try:
            return dict(table.validate_python(values)), set()
        except ValidationError as error:
            found = error.errors(include_url=False)
        meant: set[str] = set()
        order = list(values)
        for mistake in sorted(found, key=lambda mistake: order.index(str(mistake["loc"][0]))):
            path = tuple(str(step) for step in mistake["loc"])
            self.add(where(path), _sentence(mistake, keys))
            meant |= {path[0], *closest(path[0], keys)}
        bad = {mistake["loc"][0] for mistake in found}
        good = {key: value for key, value in values.items() if key not in bad}
        return dict(table.validate_python(good)), meant


def closest(word: str, words: Iterable[str]) -> list[str]:
    """The one word that was probably meant, if there is one."""
    return difflib.get_close_matches(word, list(words), n=1)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """ "; did you mean X?" or nothing."""
    return "".join(f'; did you mean "{near}"?' for near in closest(word, words))


def line_numbers(text: str) -> dict[KeyPath, int]:
    """The line of each table and key of a TOML text, as far as a line tells it."""
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if _HEADER.fullmatch(line):
            table = _path(line)
            for length in range(len(table)):
                found.setdefault(table[: length + 1], number)
        elif match := _KEY.match(line):
            found.setdefault((*table, *_path(f"{match[1]} = {{}}")), number)
    return found


def _path(line: str) -> KeyPath:
    """The names that lead to the one table of a line; () if it is not TOML after all."""
    try:
        level = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    path: KeyPath = ()
    while level:
        ((name, level),) = level.items()
        path = (*path, name)
    return path


def _sentence(mistake: ErrorDetails, keys: Iterable[str]) -> str:
    kind, value, context = mistake["type"], mistake["input"], mistake.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{did_you_mean(str(mistake['loc'][-1]), keys)}"
    if kind == "value_error":
        return str(context["error"])
    if kind not in _SENTENCES:
        return mistake["msg"]
    sentence = f"{_SENTENCES[kind](context)}, not {show(value)}"
    if kind == "literal_error" and isinstance(value, str):
        sentence += did_you_mean(value, re.findall(r"'([^']+)'", context["expected"]))
    return sentence
