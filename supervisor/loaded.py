"""Read what a worker says when it has loaded a release. The worker may be anybody's program."""

from __future__ import annotations

from typing import Any

from ..protocol.errors import Code, Fault
from .release import Loaded


def read_loaded(answer: Any, concurrency: int) -> Loaded:
    """The answer to `load` (or to `hello`) as a record; raises Fault INVALID_PARAMS."""
    if not isinstance(answer, dict):
        raise _bad(f"load was answered with {type(answer).__name__}, not a map")
    methods = answer.get("methods")
    if not isinstance(methods, dict) or not methods:
        raise _bad("the answer to load names no methods")
    state = _map(answer, "state")
    return Loaded(
        name=str(answer.get("name", "")),
        version=str(answer.get("version", "0.0.0")),
        methods={str(name): _traits(traits) for name, traits in methods.items()},
        concurrency=_concurrency(answer.get("concurrency", 1), concurrency),
        frames="ordered" if answer.get("frames") == "ordered" else "independent",
        capabilities=frozenset(_capabilities(answer.get("capabilities"))),
        state_format=str(state.get("format", "")),
        state_accepts=_names(state.get("accepts")),
    )


def _traits(traits: Any) -> tuple[bool, bool]:
    if not isinstance(traits, dict):
        return (False, False)
    return (traits.get("pure") is True, traits.get("stream") is True)


def _capabilities(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [str(name) for name, has in value.items() if has is True]
    return [str(name) for name in value] if isinstance(value, list) else []


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _concurrency(offered: Any, wanted: int) -> int:
    """At most what the config asks for, at least one."""
    return max(1, min(offered, wanted)) if type(offered) is int else 1


def _map(answer: dict[Any, Any], key: str) -> dict[Any, Any]:
    value = answer.get(key)
    return value if isinstance(value, dict) else {}


def _bad(message: str) -> Fault:
    return Fault.new(Code.INVALID_PARAMS, message)
