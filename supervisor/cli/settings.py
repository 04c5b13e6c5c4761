"""What the global options said, whichever side of the verb they stood on.

Every verb gets it as its click object. Must not know the verbs, and must stay light: no
config is validated here.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

DEFAULT_CONFIG = Path("changeover.toml")


@dataclass(slots=True)
class Settings:
    """The global options."""

    config: Path | None = None
    socket: str | None = None
    overrides: list[str] = field(default_factory=list)
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False

    @property
    def config_path(self) -> Path | None:
        """The file that was named, else the one in the current folder if there is one."""
        if self.config is None and not DEFAULT_CONFIG.exists():
            return None
        return self.config or DEFAULT_CONFIG

    @property
    def socket_path(self) -> str | None:
        """Where the supervisor listens, as far as somebody said it: -s, environment, config."""
        return self.socket or os.environ.get("CHANGEOVER_SOCKET") or self._configured_socket()

    @property
    def is_screen(self) -> bool:
        """Is somebody looking at stdout, and not a program reading it?"""
        return not self.json and sys.stdout.isatty()

    @property
    def has_color(self) -> bool:
        """May a screen be coloured? NO_COLOR is everybody's word for no."""
        return not self.no_color and "NO_COLOR" not in os.environ

    def say(self, text: str) -> None:
        """Narrate on stderr, unless asked to be quiet."""
        if not self.quiet:
            click.echo(text, err=True)

    def _configured_socket(self) -> str | None:
        path = self.config_path
        if path is None:
            return None
        import tomllib

        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise click.UsageError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise click.UsageError(f"{path}: is not TOML: {error}") from None
        table = document.get("supervisor")
        return _socket_of(table, path.absolute().parent) if isinstance(table, dict) else None


def _socket_of(table: dict[str, Any], folder: Path) -> str | None:
    from ...protocol.paths import default_socket

    socket, name = table.get("socket", "auto"), table.get("name")
    if isinstance(socket, str) and socket != "auto":
        return str(folder / Path(socket).expanduser())
    return default_socket(name) if isinstance(name, str) else None


def global_options() -> list[click.Parameter]:
    """Fresh options for one command; each writes into the Settings, none reaches the verb."""
    return [
        _option("config", "-c", "--config", metavar="FILE", type=click.Path(path_type=Path),
                help="Config file; changeover.toml in the current folder if it is there."),
        _option("socket", "-s", "--socket", metavar="PATH",
                help="Where the supervisor listens; also $CHANGEOVER_SOCKET."),
        _option("overrides", "-o", metavar="KEY=VALUE", multiple=True,
                help="Any plugin or [supervisor] key, over the config."),
        _option("json", "--json", is_flag=True, help="One JSON document on stdout."),
        _option("quiet", "-q", "--quiet", is_flag=True, help="Say only what went wrong."),
        _option("verbose", "-v", "--verbose", is_flag=True, help="Say more."),
        _option("no_color", "--no-color", is_flag=True, help="No colours."),
        click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False,
                     callback=_version, help="Show the version."),
    ]  # fmt: skip


def _option(name: str, *flags: str, **attributes: Any) -> click.Option:
    def store(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        settings = context.ensure_object(Settings)
        if name == "overrides":
            settings.overrides += value
        elif value:
            setattr(settings, name, value)

    return click.Option([name, *flags], expose_value=False, callback=store, **attributes)


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"changeover {version('changeover')}")
        context.exit()
