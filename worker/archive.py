"""Plugins in a zip or wheel: which module of it to import."""

from __future__ import annotations

import os
import zipfile
from importlib import import_module
from typing import Any

from .blame import LoadError
from .discovery import find_plugin
from .release import Release

GROUP = "changeover.plugins"


def load_archive(release: Release, wanted: str) -> Any:
    """Import from the archive, which is on `sys.path` already."""
    where = os.path.basename(release.shown)
    try:
        with zipfile.ZipFile(release.entry) as archive:
            names = archive.namelist()
            points = _entry_points(archive, names)
    except zipfile.BadZipFile as err:
        raise LoadError(f"{where} is no zip: {err}") from None
    if points and (wanted in points or (not wanted and len(points) == 1)):
        module, _, name = points[wanted or next(iter(points))].partition(":")
        return find_plugin(import_module(module.strip()), name.strip(), f"{where}: {module}")
    if points and not wanted:
        known = ", ".join(sorted(points))
        raise LoadError(f"several plugins in the source: {known} ({where}); name one as object")
    module = _top_module(names, where)
    return find_plugin(import_module(module), wanted, f"{where}: {module}")


def _entry_points(archive: zipfile.ZipFile, names: list[str]) -> dict[str, str]:
    """What the wheel's metadata lists under our group."""
    import configparser

    points: dict[str, str] = {}
    for name in names:
        if name.endswith(".dist-info/entry_points.txt"):
            parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
            parser.read_string(archive.read(name).decode("utf-8", "replace"))
            if parser.has_section(GROUP):
                points.update(
                    {key: value.partition("[")[0] for key, value in parser[GROUP].items()}
                )
    return points


def _top_module(names: list[str], where: str) -> str:
    tops = {name.partition("/")[0] for name in names if name.endswith(".py")}
    modules = sorted({top.removesuffix(".py") for top in tops})
    if "plugin" in modules:
        return "plugin"
    if len(modules) == 1:
        return modules[0]
    there = ", ".join(modules) if modules else "no module"
    raise LoadError(f'which module of {where}? It has {there}; name it: object = "module:name"')
