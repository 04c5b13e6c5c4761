"""The plugin of this worker, function or class, behind one face."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .blame import LoadError
from .method import Method
from .plugin_base import Plugin
from .plugin_mark import FRAMES, MARK, METHOD_MARK, UNVERSIONED, Mark

RUN = "run"


class LoadedPlugin:
    """`name`, `version`, `frames`, `methods`, and `hook(name)` for what the author wrote.

    Raises LoadError for what cannot be a plugin; making an instance may raise anything.
    """

    def __init__(self, target: Any) -> None:
        self._mark = _own_mark(target)
        self._is_object = isinstance(target, (type, Plugin)) or not callable(target)
        self._instance = target() if isinstance(target, type) else target
        self.name: str = self._fact("name", "") or _name(target)
        self.version: str = self._fact("version", UNVERSIONED)
        self.frames: str = self._fact("frames", FRAMES[0])
        self.methods = self._find_methods(target)
        self._check(target)

    def hook(self, name: str) -> Callable[..., Any] | None:
        """The author's own hook, None where it would be the base class's."""
        found = getattr(self._instance, name, None)
        if not self._is_object or not callable(found):
            return None
        base = getattr(Plugin, name)
        return None if getattr(found, "__func__", None) is base else found

    @property
    def state_format(self) -> str:
        return str(getattr(self._instance, "state_format", Plugin.state_format))

    @property
    def state_accepts(self) -> tuple[str, ...]:
        """The formats that `on_reload` takes: those it names, by default its own."""
        if self.hook("on_reload") is None:
            return ()
        return tuple(getattr(self._instance, "state_accepts", ())) or (self.state_format,)

    def capabilities(self) -> dict[str, bool]:
        """What the supervisor may ask of this worker."""
        methods = self.methods.values()
        return {
            "check": self.hook("on_check") is not None,
            "cancel": any(method.can_cancel for method in methods),
            "progress": any(method.can_tell for method in methods),
            "stream": any(method.is_stream for method in methods),
            "state": self.hook("export_state") is not None,
            "flush": self.hook("on_flush") is not None,
        }

    def _fact(self, name: str, default: Any) -> Any:
        marked = None if self._mark is None else getattr(self._mark, name)
        if marked is not None:
            return marked
        return getattr(self._instance, name, default) if self._is_object else default

    def _find_methods(self, target: Any) -> dict[str, Method]:
        pure = bool(self._fact("pure", False))
        if not self._is_object:
            return {RUN: Method(RUN, target, pure)}
        names = [name for name in dir(type(self._instance)) if self._is_public(name)]
        if not names:
            kind = type(self._instance).__name__
            raise LoadError(
                f"{kind} has no method to call: name it run, or mark each with @plugin.method"
            )
        return {name: self._method(name, pure) for name in names}

    def _is_public(self, name: str) -> bool:
        found = getattr(type(self._instance), name, None)
        return callable(found) and (name == RUN or self._method_mark(name) is not None)

    def _method_mark(self, name: str) -> Mark | None:
        """An override need not be marked again."""
        for kind in type(self._instance).__mro__:
            mark = getattr(vars(kind).get(name), METHOD_MARK, None)
            if isinstance(mark, Mark):
                return mark
        return None

    def _method(self, name: str, pure: bool) -> Method:
        mark = self._method_mark(name)
        if mark is not None and mark.pure is not None:
            pure = mark.pure
        return Method(name, getattr(self._instance, name), pure)

    def _check(self, target: Any) -> None:
        for what, fact in (("name", self.name), ("version", self.version)):
            if not isinstance(fact, str):
                raise LoadError(f"the {what} of {_name(target)} must be a str, not {fact!r:.60}")
        if self.frames not in FRAMES:
            raise LoadError(f"frames must be one of {', '.join(FRAMES)}, not {self.frames!r:.60}")


def _own_mark(target: Any) -> Mark | None:
    """The mark on this very class or function; a base class's does not count."""
    mark = vars(target).get(MARK) if hasattr(target, "__dict__") else None
    return mark if isinstance(mark, Mark) else None


def _name(target: Any) -> str:
    found = getattr(target, "__name__", None) or type(target).__name__
    return str(found)
