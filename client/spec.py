"""How a plugin is named in code: a path, a callable, or a map of the config's keys."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from .pickled import is_callable_source, pickled

Source = str | os.PathLike[str] | Callable[..., Any]

_PACKAGE_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def plugin_options(plugin: Source | Mapping[str, Any]) -> dict[str, Any]:
    """The options of `add`: paths absolute against the caller's folder, a callable pickled.

    Which keys there are is the supervisor's to say.
    """
    options: dict[str, Any] = dict(plugin) if isinstance(plugin, Mapping) else {"source": plugin}
    if "source" in options:
        options["source"] = _source(options["source"])
    if isinstance(options.get("python"), (str, os.PathLike)):
        options["python"] = _interpreter(options["python"])
    command = options.get("command")
    if isinstance(command, (list, tuple)):
        options["command"] = [_program(str(command[0])), *map(str, command[1:])] if command else []
    return options


def _source(source: Any) -> str | bytes:
    if isinstance(source, (str, os.PathLike)):
        return _path(os.fspath(source))
    if isinstance(source, bytes):
        return source  # pickled already
    if is_callable_source(source):
        return pickled(source)
    raise TypeError(f"a plugin is a path, a callable or a map of its keys, not {source!r}")


def _path(path: str) -> str:
    if _PACKAGE_OBJECT.fullmatch(path) and not os.path.exists(path):
        return path  # "package:object"
    return os.path.abspath(os.path.expanduser(path))


def _interpreter(python: str | os.PathLike[str]) -> str:
    """A str without a slash is a name for PATH."""
    path = os.fspath(python)
    is_name = isinstance(python, str) and os.sep not in path and not path.startswith((".", "~"))
    return path if is_name else os.path.abspath(os.path.expanduser(path))


def _program(word: str) -> str:
    return os.path.abspath(word) if os.sep in word and "{" not in word else word
