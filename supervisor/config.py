"""The config: TOML, `-o KEY=VALUE` and the `add` request become specs.

Every mistake is reported at once. Paths are relative to the folder of the file that names
them (of `-o`: to the current folder). Whether a source exists is not asked here: that is
the first step of a changeover, and one bad plugin must not keep the others from serving.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config_mistakes import ConfigError, KeyPath, Mistakes, Where, did_you_mean, line_numbers
from .config_overrides import Overrides, Value
from .config_plugin import Layers, check_plugin, check_whole, make_spec
from .config_supervisor import check_log, check_supervisor, make_supervisor
from .config_values import plugin_name
from .spec import PluginSpec, SupervisorSpec
from .units import show

__all__ = ["Config", "ConfigError", "Layers", "load", "load_tables", "plugin_spec"]

TABLES = ("supervisor", "log", "defaults", "plugins")

Check = Callable[[Mapping[str, Any], Path, Where, Mistakes], tuple[dict[str, Any], set[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that was asked for, checked and with every default filled in."""

    supervisor: SupervisorSpec
    plugins: dict[str, PluginSpec]
    defaults: Layers = field(default_factory=Layers)  # for `add`
    path: Path | None = None
    overrides: tuple[str, ...] = ()

    def read_again(self) -> Config:
        """The same file and overrides as they are now. Raises ConfigError."""
        return load(self.path, self.overrides)


def load(path: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """Read a config file (None: there is none) with `-o` laid over it. Raises ConfigError."""
    return _Reading(None if path is None else Path(path), tuple(overrides)).config()


def load_tables(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Each plugin of a config as a map for `add`: checked, but as written. Raises ConfigError."""
    return _Reading(Path(path), tuple(overrides)).as_written()


def plugin_spec(
    name: str, mapping: Mapping[str, Any], base_dir: Path, defaults: Layers | None = None
) -> PluginSpec:
    """The plugin of an `add` request, by the same rules. Raises ConfigError.

    `source` may be bytes: a pickled callable. `defaults` are those of the `Config`.
    """
    mistakes = Mistakes()
    _check_name(name, name, mistakes)
    if not all(isinstance(key, str) for key in mapping):
        raise ConfigError([f"{name}: has a key that is not text"])
    own, meant = check_plugin(mapping, base_dir, lambda path: ".".join((name, *path)), mistakes)
    values = (defaults or Layers()).around(own)
    check_whole(values, meant, name, mistakes)
    mistakes.refuse()
    return make_spec(name, values)


class _Reading:
    """One pass over a file and its overrides."""

    def __init__(self, path: Path | None, overrides: tuple[str, ...]) -> None:
        self.path = path
        self.base = path.absolute().parent if path else Path.cwd()
        self.overrides = overrides
        self.mistakes = Mistakes()
        text = _read(path) if path else ""
        self.lines = line_numbers(text)
        self.tables = self._tables(_parse(path, text))

    def config(self) -> Config:
        written = self._plugin_tables()
        above = Overrides(names=written)
        for text in self.overrides:
            above.add(text, self.mistakes)
        layers = self._layers(above)
        plugins = {
            name: self._plugin(name, table, layers, above) for name, table in written.items()
        }
        supervisor = self._both(check_supervisor, "supervisor", above.supervisor)
        log = self._both(check_log, "log", above.log)
        self.mistakes.refuse()
        return Config(
            supervisor=make_supervisor(supervisor, log),
            plugins={name: make_spec(name, values) for name, values in plugins.items()},
            defaults=layers,
            path=self.path,
            overrides=self.overrides,
        )

    def as_written(self) -> dict[str, dict[str, Any]]:
        config, below = self.config(), self.tables["defaults"]
        above = Overrides(names=config.plugins)
        for text in self.overrides:
            above.add(text, self.mistakes)
        tables = {}
        for name, spec in config.plugins.items():
            scoped = above.every_plugin | above.plugins.get(name, {})
            over = {key: given.value for key, given in scoped.items()}
            tables[name] = {**below, **self.tables["plugins"][name], **over}
            paths = {
                "source": spec.source,
                "command": list(spec.command),
                "python": spec.python,
                "launcher": list(spec.launcher),
            }
            tables[name] |= {key: path for key, path in paths.items() if path}
        return tables

    def where(self, path: KeyPath) -> str:
        """`changeover.toml:7: plugins.denoise.workers`, without the line if it is not known."""
        line = next((self.lines[key] for key in _prefixes(path) if key in self.lines), None)
        file = f"{self.path}:{line}" if line else f"{self.path}"
        return f"{file}: {'.'.join(path)}"

    def _tables(self, document: dict[str, Any]) -> dict[str, dict[str, Any]]:
        tables: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
        for name, table in document.items():
            if name not in TABLES:
                meant = did_you_mean(name, TABLES)
                self.mistakes.add(self.where((name,)), f"unknown table{meant}")
            elif not isinstance(table, dict):
                self.mistakes.add(self.where((name,)), f"must be a table: [{name}]")
            else:
                tables[name] = table
        return tables

    def _plugin_tables(self) -> dict[str, dict[str, Any]]:
        plugins = self.tables["plugins"]
        for name, table in plugins.items():
            _check_name(name, self.where(("plugins", name)), self.mistakes)
            if not isinstance(table, dict):
                what = f"must be a table: [plugins.NAME], not {show(table)}"
                self.mistakes.add(self.where(("plugins", name)), what)
        return {name: table for name, table in plugins.items() if isinstance(table, dict)}

    def _layers(self, above: Overrides) -> Layers:
        below = self.tables["defaults"]
        for key in {"source", "command"} & set(below):
            what = "belongs to one plugin: [plugins.NAME]"
            self.mistakes.add(self.where(("defaults", key)), what)
        shared = {key: value for key, value in below.items() if key not in {"source", "command"}}
        checked, _ = check_plugin(shared, self.base, self._within("defaults"), self.mistakes)
        return Layers(
            below=checked, above=_written(check_plugin, above.every_plugin, self.mistakes)
        )

    def _plugin(
        self, name: str, table: dict[str, Any], layers: Layers, above: Overrides
    ) -> dict[str, Any]:
        own, meant = check_plugin(table, self.base, self._within("plugins", name), self.mistakes)
        scoped = _written(check_plugin, above.plugins.get(name, {}), self.mistakes)
        values = {**layers.around(own), **scoped}
        check_whole(values, meant, self.where(("plugins", name)), self.mistakes)
        return values

    def _both(self, check: Check, table: str, over: Mapping[str, Value]) -> dict[str, Any]:
        own, _ = check(self.tables[table], self.base, self._within(table), self.mistakes)
        return own | _written(check, over, self.mistakes)

    def _within(self, *table: str) -> Where:
        return lambda path: self.where((*table, *path))


def _written(check: Check, written: Mapping[str, Value], mistakes: Mistakes) -> dict[str, Any]:
    """The layer that `-o` makes; each key says itself where it was written."""
    values = {key: given.value for key, given in written.items()}
    return check(values, Path.cwd(), lambda path: written[path[0]].text, mistakes)[0]


def _check_name(name: str, where: str, mistakes: Mistakes) -> None:
    try:
        plugin_name(name)
    except ValueError as error:
        mistakes.add(where, str(error))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text: {error}"]) from None


def _parse(path: Path | None, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: is not TOML: {error}"]) from None


def _prefixes(path: KeyPath) -> list[KeyPath]:
    return [path[:length] for length in range(len(path), 0, -1)]
