"""A callable as bytes: what the supervisor stores and a worker on this Python unpickles.

What lives in the caller's own files travels by value, so that the release is the code that was
given, not whatever a module of that name holds later (or not at all: a worker does not see the
caller's folder). What is installed travels by name. dill is imported when a callable is given.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import msgpack


def is_callable_source(value: Any) -> bool:
    """Can this be a plugin given from code: a function, a class, an object that is called?"""
    return callable(value)


def pickled(plugin: Callable[..., Any]) -> bytes:
    """`{"python": [major, minor], "pickle": bytes}`. Raises TypeError when it cannot be pickled."""
    import dill

    buffer = io.BytesIO()
    try:
        _by_value(dill.Pickler)(buffer, recurse=True).dump(plugin)
    except (TypeError, ValueError, RecursionError, dill.PickleError) as err:
        name = getattr(plugin, "__qualname__", None) or repr(plugin)
        raise TypeError(
            f"{name} cannot be pickled: {err}\n"
            "  nothing was started; give what it needs as arguments, or make a file of it"
        ) from err
    return bytes(msgpack.packb({"python": list(sys.version_info[:2]), "pickle": buffer.getvalue()}))


@functools.cache
def _by_value(pickler: type[Any]) -> type[Any]:
    """dill's pickler, which takes the functions and classes of the caller's files along.

    dill itself does so for `__main__` only, so that is what they say they are meanwhile.
    """

    class ByValue(pickler):  # type: ignore[misc]
        def save(self, obj: Any, save_persistent_id: bool = True) -> None:
            with _from_main(obj) if _is_users(obj) else contextlib.nullcontext():
                super().save(obj, save_persistent_id)

    return ByValue


def _is_users(obj: Any) -> bool:
    if not isinstance(obj, (types.FunctionType, type)):
        return False
    name = obj.__module__ or ""
    if name == "__main__" or name.startswith("changeover."):
        return False  # dill takes the first along by itself, the worker has the second
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and not _is_installed(file)


@contextlib.contextmanager
def _from_main(obj: Any) -> Iterator[None]:
    home = obj.__module__
    obj.__module__ = "__main__"
    try:
        yield
    finally:
        obj.__module__ = home


@functools.cache
def _is_installed(file: str) -> bool:
    return any(_lies_in(file, folder) for folder in _installed_folders())


@functools.cache
def _installed_folders() -> frozenset[str]:
    import sysconfig

    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return frozenset(os.path.realpath(paths[name]) for name in names)


def _lies_in(file: str, folder: str) -> bool:
    path = os.path.realpath(file)
    return path.startswith(folder + os.sep)
