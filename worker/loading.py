"""From a source to the function or class that is the plugin.

* a `.py` file: the module, under its own name
* a folder with `__init__.py`: that package; if it has no plugin, its module `plugin`
* a folder with `plugin.py`: that module; else the only `.py` file in it
* a zip or wheel: the module that its entry point (group `changeover.plugins`) names, else
  `plugin`, else the only package or module at its top

`object` names the plugin where there are several, `module:name` also the module to look in.
Raises LoadError, or whatever the source raises while it is imported.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from .blame import LoadError, NoPlugin
from .discovery import find_plugin
from .release import Release
from .staged_import import free_name, install, load_file


def load_source(release: Release, wanted: str) -> Any:
    """Import the release's source and find the plugin in it."""
    if not os.path.exists(release.entry):
        raise LoadError(f"no file or folder {release.shown}")
    install(release)
    module_name, _, name = wanted.rpartition(":")
    if module_name:
        return find_plugin(_imported(module_name), name, f"{_called(release)}: {module_name}")
    if release.is_archive:
        from .archive import load_archive

        return load_archive(release, wanted)
    if os.path.isdir(release.entry):
        return _load_folder(release, wanted)
    if not release.entry.endswith(".py"):
        raise LoadError(
            f"{_called(release)} is no Python source: give a .py file, a folder, a zip or a "
            f"wheel, or run a program with command = [...]"
        )
    module = load_file(free_name(_stem(release.shown)), release.entry)
    return find_plugin(module, wanted, _called(release))


def _load_folder(release: Release, wanted: str) -> Any:
    where = _called(release)
    init = os.path.join(release.entry, "__init__.py")
    if not os.path.exists(init):
        path = _only_file(release)
        module = load_file(free_name(_stem(path)), path)
        return find_plugin(module, wanted, f"{where}/{os.path.basename(path)}")
    package = load_file(free_name(_stem(release.shown)), init, release.entry)
    try:
        return find_plugin(package, wanted, where)
    except NoPlugin:
        if not os.path.exists(os.path.join(release.entry, "plugin.py")):
            raise
    return find_plugin(_imported(f"{package.__name__}.plugin"), wanted, f"{where}/plugin.py")


def _only_file(release: Release) -> str:
    preferred = os.path.join(release.entry, "plugin.py")
    if os.path.exists(preferred):
        return preferred
    files = sorted(name for name in os.listdir(release.entry) if name.endswith(".py"))
    if len(files) == 1:
        return os.path.join(release.entry, files[0])
    there = ", ".join(files) if files else "no .py file"
    raise LoadError(
        f"which file of {_called(release)} is the plugin? It has no __init__.py and no "
        f"plugin.py, but {there}; give the file itself as source"
    )


def _imported(name: str) -> ModuleType:
    from importlib import import_module

    return import_module(name)


def _called(release: Release) -> str:
    return os.path.basename(release.shown)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
