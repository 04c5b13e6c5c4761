"""Imports modules of the release from its staged folder under the paths that people know.

The code runs from the store, but its tracebacks, warnings and stack dumps name the file that the
author edits. Nothing is written beside the staged files.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from types import CodeType, ModuleType

from .blame import LoadError
from .release import Release


class StagedLoader(SourceFileLoader):
    """Compiles a staged file under its original's path."""

    release = Release("")

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), self.release.show(path))
        return code


def install(release: Release) -> None:
    """Let the release's folder, or its archive, take part in imports.

    It comes after the standard library, so that a plugin called wave.py can import wave, and
    before installed packages, so that the modules beside the plugin win.
    """
    StagedLoader.release = release
    if release.is_archive:
        sys.path.insert(_place(), release.entry)
        return
    sys.path_hooks.insert(0, _finder)
    sys.path_importer_cache.pop(release.root, None)
    sys.path.insert(_place(), release.root)


def load_file(name: str, path: str, package: str = "") -> ModuleType:
    """Import one file as module `name`; with `package`, as the package in that folder."""
    loader = StagedLoader(name, path)
    spec = ModuleSpec(name, loader, origin=path, is_package=bool(package))
    spec.has_location = True
    if package:
        spec.submodule_search_locations = [package]
    return _run(spec)


def free_name(stem: str) -> str:
    """A module name for a file: its stem, unless that is taken or no name."""
    name = "".join(letter if letter.isalnum() else "_" for letter in stem)
    is_taken = name in sys.modules or _is_standard(name)
    return f"plugin_{name}" if is_taken or not name.isidentifier() else name


def _is_standard(name: str) -> bool:
    names: frozenset[str] | None = getattr(sys, "stdlib_module_names", None)
    if names is not None:
        return name in names
    library = os.path.dirname(os.__file__)  # Python 3.9 has no list of them
    folders = [library, os.path.join(library, "lib-dynload")]
    return name in sys.builtin_module_names or PathFinder.find_spec(name, folders) is not None


def _run(spec: ModuleSpec) -> ModuleType:
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    if spec.loader is None:
        raise LoadError(f"{spec.name} cannot be imported")
    spec.loader.exec_module(module)
    return module


def _finder(path: str) -> FileFinder:
    root = StagedLoader.release.root
    if not root or not (path + os.sep).startswith(root + os.sep):
        raise ImportError("not part of the release")
    return FileFinder(
        path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (StagedLoader, SOURCE_SUFFIXES)
    )


def _place() -> int:
    for place, path in enumerate(sys.path):
        if os.path.basename(path) in ("site-packages", "dist-packages"):
            return place
    return len(sys.path)
