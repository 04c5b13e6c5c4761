"""Which files beside a Python source it imports, found without running or importing anything.

The stdlib's `modulefinder` follows every import into the standard library and stops at a syntax
error; this walks the syntax tree of the files of one folder only. A file that does not parse
imports nothing here: the worker is the one to report its syntax error.
"""

from __future__ import annotations

import ast
import gc
import os
import time
import warnings
from importlib.machinery import EXTENSION_SUFFIXES

from .digest import TICK_NS

# ast.parse holds the GIL: a megabyte takes about 0.2 s, in which the loop would stand still.
PARSE_BYTES = 1 << 20

_SUFFIXES = (".py", *EXTENSION_SUFFIXES)
_Import = tuple[int, str, tuple[str, ...]]  # dots in front, module, names taken from it
_Key = tuple[int, int, int, int]


class OwnImports:
    """The imports of Python files, remembered until `stat` says that a file has changed."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[_Key, tuple[_Import, ...]]] = {}
        self._stems: dict[str, tuple[int, frozenset[str]]] = {}

    def closure(self, folder: str, entry: str) -> set[str]:
        """Relative paths of the files in `folder` that the module at path `entry` imports."""
        found: set[str] = set()
        stems = self._stems_in(folder)
        waiting = [(entry, "")]
        while waiting:
            path, package = waiting.pop()
            new = self._direct(folder, path, package, stems) - found
            found |= new
            waiting += [
                (os.path.join(folder, file), os.path.dirname(file).replace("/", "."))
                for file in new
                if file.endswith(".py")
            ]
        return found

    def _direct(self, folder: str, path: str, package: str, stems: frozenset[str]) -> set[str]:
        found: set[str] = set()
        for dots, module, names in self._imports(path):
            prefix = _ancestor(package, dots)
            if prefix is None:
                continue
            whole = ".".join(part for part in (prefix, module) if part)
            for dotted in (whole, *(f"{whole}.{name}" if whole else name for name in names)):
                if dotted.partition(".")[0] in stems:
                    found |= _locate(folder, dotted)
            if whole and "*" in names:
                found |= _submodules(folder, whole)
        return found

    def _stems_in(self, folder: str) -> frozenset[str]:
        """What could be imported from the folder: most imports are of other things."""
        changed_ns = os.stat(folder).st_mtime_ns
        seen = self._stems.get(folder)
        if seen is not None and seen[0] == changed_ns:
            return seen[1]
        stems = frozenset(name.partition(".")[0] for name in os.listdir(folder))
        if abs(time.time_ns() - changed_ns) > TICK_NS:
            self._stems[folder] = (changed_ns, stems)
        return stems

    def _imports(self, path: str) -> tuple[_Import, ...]:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            key = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            seen = self._seen.get(path)
            if seen is not None and seen[0] == key:
                return seen[1]
            imports = _parse(file.read(PARSE_BYTES + 1))
        if abs(time.time_ns() - status.st_ctime_ns) > TICK_NS:
            self._seen[path] = (key, imports)
        return imports


def _parse(text: bytes) -> tuple[_Import, ...]:
    if len(text) > PARSE_BYTES:
        return ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape is the author's, not ours to print
            tree = _tree(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    return tuple({found for node in ast.walk(tree) for found in _of_node(node)})


def _tree(text: bytes) -> ast.AST:
    """No finalizer may run meanwhile: should it parse too, as a traceback that is formatted does,
    CPython 3.11 loses count of its depth and raises SystemError.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        if is_on:
            gc.enable()


def _of_node(node: ast.AST) -> list[_Import]:
    match node:
        case ast.Import(names=names):
            return [(0, alias.name, ()) for alias in names]
        case ast.ImportFrom(level=level, module=module, names=names):
            return [(level, module or "", tuple(alias.name for alias in names))]
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__")
            | ast.Attribute(attr="import_module" | "__import__"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            plain = name.lstrip(".")
            return [(len(name) - len(plain), plain, ())]
    return []


def _ancestor(package: str, dots: int) -> str | None:
    """The package that a relative import starts from; None when it leaves the folder."""
    if dots == 0:
        return ""
    parts = package.split(".") if package else []
    if dots - 1 > len(parts):
        return None
    return ".".join(parts[: len(parts) - (dots - 1)])


def _locate(folder: str, dotted: str) -> set[str]:
    """The files that `import dotted` runs, as far as they lie in `folder`."""
    found: set[str] = set()
    inside = ""
    for part in dotted.split("."):
        if not part.isidentifier():
            return found
        here = os.path.join(inside, part)
        package = os.path.join(here, "__init__.py")
        if os.path.isfile(os.path.join(folder, package)):
            found.add(package)
        else:
            modules = {here + suffix for suffix in _SUFFIXES}
            modules = {file for file in modules if os.path.isfile(os.path.join(folder, file))}
            if modules:
                return found | modules
        inside = here
    return found


def _submodules(folder: str, dotted: str) -> set[str]:
    """`from dotted import *` may mean any module of the package: `__all__` is known at run time."""
    inside = dotted.replace(".", "/")
    try:
        names = os.listdir(os.path.join(folder, inside))
    except (FileNotFoundError, NotADirectoryError):
        return set()
    return {os.path.join(inside, name) for name in names if name.endswith(".py")}
