"""The parameters of a plugin's function: their names in order, and which of them are ours to fill.

Reads code objects where it can: `inspect` takes a third of a bare interpreter's start, and is
only imported for what wraps another callable.
"""

from __future__ import annotations

import sys
from types import CodeType, FunctionType, MethodType
from typing import Any

_KINDS = {"generator": 0x20, "coroutine": 0x80, "async_generator": 0x200}


class Parameters:
    """`names` in order without the one that is bound; the first `positional` may be given so."""

    __slots__ = ("_annotations", "names", "positional")

    def __init__(self, function: Any) -> None:
        target = _inner(function)
        if type(target) is FunctionType and not hasattr(target, "__wrapped__"):
            code = target.__code__
            bound = 0 if target is function else 1
            count = code.co_argcount + code.co_kwonlyargcount
            self.names: tuple[str, ...] = code.co_varnames[bound:count]
            self.positional = code.co_argcount - bound
            self._annotations = _read(target)
        else:
            self.names, self.positional, self._annotations = _inspected(function)

    def annotated(self, kind: type) -> list[str]:
        """The names of the parameters annotated with this class, also as `kind | None`."""
        return [name for name in self.names if _means(self._annotations.get(name), kind)]


def is_kind(function: Any, kind: str) -> bool:
    """Is it a `generator`, `coroutine` or `async_generator` function, also below a wrapper?"""
    seen = function
    while seen is not None:
        code = getattr(_inner(seen), "__code__", None)
        if isinstance(code, CodeType) and code.co_flags & _KINDS[kind]:
            return True
        seen = getattr(seen, "__wrapped__", None) or getattr(seen, "func", None)
    return False


def _inner(function: Any) -> Any:
    """The plain function below a bound method; a callable object's `__call__`."""
    if isinstance(function, MethodType):
        return function.__func__
    if isinstance(function, (FunctionType, type)):
        return function
    call = getattr(type(function), "__call__", None)  # noqa: B004  the function is wanted
    return call if isinstance(call, FunctionType) else function


def _read(function: FunctionType) -> dict[str, Any]:
    return {name: _resolved(value, function) for name, value in _raw(function).items()}


def _inspected(function: Any) -> tuple[tuple[str, ...], int, dict[str, Any]]:
    import inspect

    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # something written in C
        return (), 0, {}
    below = inspect.unwrap(function)
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = sum(parameter.kind in by_place for parameter in parameters.values())
    annotations = {
        name: _resolved(parameter.annotation, below) for name, parameter in parameters.items()
    }
    return tuple(parameters), positional, annotations


def _raw(function: FunctionType) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF)
    return function.__annotations__


def _resolved(annotation: Any, function: Any) -> Any:
    """What a quoted annotation stands for; the text itself when that cannot be told."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, getattr(function, "__globals__", {}))  # noqa: S307  the plugin's own text
    except Exception:  # noqa: BLE001  a name that exists for type checkers only
        return annotation


def _means(annotation: Any, kind: type) -> bool:
    if isinstance(annotation, str):
        parts = annotation.replace("Optional[", "").strip("] ").split("|")
        return any(part.strip().rpartition(".")[2] == kind.__name__ for part in parts)
    if annotation is kind:
        return True
    is_union = type(annotation).__name__ in ("UnionType", "_UnionGenericAlias", "Union")
    return is_union and kind in annotation.__args__
