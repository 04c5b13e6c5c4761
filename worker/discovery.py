"""Finds the one plugin in a module: what is marked with @plugin or derives from Plugin."""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

from .blame import LoadError, NoPlugin
from .plugin_base import Plugin
from .plugin_mark import MARK


def find_plugin(module: ModuleType, wanted: str, where: str) -> Any:
    """The plugin called `wanted`, or the only one. Raises LoadError, naming what there is.

    `where` is what people call the source.
    """
    if wanted:
        return _named(module, wanted, where)
    found = _candidates(module)
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        names = sorted(found)
        raise LoadError(
            f"several plugins in the source: {', '.join(names)} ({where}); "
            f'name one: object = "{names[0]}"'
        )
    raise NoPlugin(f"no plugin in the source: {where} has {_missing(module)}")


def _named(module: ModuleType, wanted: str, where: str) -> Any:
    found: Any = module
    for part in wanted.split("."):
        if not hasattr(found, part):
            raise NoPlugin(f"no {wanted} in {where}{_did_you_mean(wanted, module)}")
        found = getattr(found, part)
    if isinstance(found, ModuleType) or not (callable(found) or hasattr(found, "run")):
        raise LoadError(f"{wanted} in {where} is no function or class: {type(found).__name__}")
    return found


def _candidates(module: ModuleType) -> dict[str, Any]:
    """By name. What is defined here hides what was imported; a base class is no plugin."""
    found: dict[int, tuple[str, Any]] = {}
    for name, value in vars(module).items():
        if _is_marked(value):
            found.setdefault(id(value), (name, value))
    plugins = dict(found.values())
    here = {name: value for name, value in plugins.items() if _is_from(value, module)}
    plugins = here or plugins
    return {name: value for name, value in plugins.items() if not _is_base(value, plugins)}


def _is_marked(value: Any) -> bool:
    if isinstance(value, type):
        return value is not Plugin and (issubclass(value, Plugin) or MARK in vars(value))
    # Not hasattr: a module-level object may answer to any name.
    return isinstance(value, FunctionType) and MARK in vars(value)


def _is_from(value: Any, module: ModuleType) -> bool:
    """Defined in this module; for a package, anywhere below it."""
    name: str = getattr(value, "__module__", None) or ""
    return name == module.__name__ or name.startswith(module.__name__ + ".")


def _is_base(value: Any, plugins: dict[str, Any]) -> bool:
    return isinstance(value, type) and any(
        other is not value and isinstance(other, type) and issubclass(other, value)
        for other in plugins.values()
    )


def _missing(module: ModuleType) -> str:
    nothing = "no function or class marked with @plugin and no class that derives from Plugin"
    public = [
        name
        for name, value in vars(module).items()
        if isinstance(value, (FunctionType, type))
        and not name.startswith("_")
        and _is_from(value, module)
    ]
    if not public:
        return nothing
    return f'{nothing}; mark {public[-1]}, or name it: object = "{public[-1]}"'


def _did_you_mean(wanted: str, module: ModuleType) -> str:
    import difflib

    names = [name for name in vars(module) if not name.startswith("_")]
    close = difflib.get_close_matches(wanted, names, 1)
    return f"; did you mean {close[0]}?" if close else ""
