"""The decorator `plugin`: it marks a function or class, and says what cannot be read off it.

Only marks; finding and running what is marked is done elsewhere, so a marked function stays an
ordinary function that a test can call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

Target = TypeVar("Target", bound=Callable[..., Any])

FRAMES = ("independent", "ordered")
UNVERSIONED = "0.0.0"
MARK = "__changeover_plugin__"
METHOD_MARK = "__changeover_method__"


class Mark:
    """What `@plugin(...)` said; None is "not said"."""

    __slots__ = ("frames", "name", "pure", "version")

    def __init__(
        self, name: str | None, version: str | None, pure: bool | None, frames: str | None
    ) -> None:
        self.name = _str(name, "name")
        self.version = _str(version, "version")
        self.pure = pure
        if frames is not None and frames not in FRAMES:
            raise ValueError(f"frames must be one of {', '.join(FRAMES)}, not {frames!r}")
        self.frames = frames


class _Decorator:
    """`@plugin`, `@plugin(version="1.2.0", pure=True)`, `@plugin.method`."""

    @overload
    def __call__(self, target: Target, /) -> Target: ...
    @overload
    def __call__(
        self,
        target: None = None,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        pure: bool | None = None,
        frames: str | None = None,
    ) -> Callable[[Target], Target]: ...
    def __call__(
        self,
        target: Any = None,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        pure: bool | None = None,
        frames: str | None = None,
    ) -> Any:
        """Mark a function or class as a plugin.

        Raises ValueError or TypeError for a value that can mean nothing.
        """
        mark = Mark(name, version, pure, frames)
        if target is None:
            return lambda given: _marked(given, MARK, mark)
        return _marked(target, MARK, mark)

    @overload
    def method(self, target: Target, /) -> Target: ...
    @overload
    def method(
        self, target: None = None, /, *, pure: bool | None = None
    ) -> Callable[[Target], Target]: ...
    def method(self, target: Any = None, /, *, pure: bool | None = None) -> Any:
        """Mark a method of a class as public; `pure` overrules what the plugin says."""
        mark = Mark(None, None, pure, None)
        if target is None:
            return lambda given: _marked(given, METHOD_MARK, mark)
        return _marked(target, METHOD_MARK, mark)


plugin = _Decorator()


def _marked(target: Target, name: str, mark: Mark) -> Target:
    if not callable(target):
        raise TypeError(f"@plugin marks a function or a class, not {target!r:.60}")
    setattr(target, name, mark)
    return target


def _str(value: Any, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {value!r:.60}")
    return value
