"""How a verb reaches a supervisor: the one that runs, or a private one for a path.

The client is imported when it is used, so that `--help` stays quick.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..override_value import read_value
from ..units import duration
from .exits import FAILED, NOT_IN_TIME
from .settings import Settings

if TYPE_CHECKING:
    from ...client import Changeover

PYTHON_SOURCES = (".py", ".zip", ".whl")


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic in new clicks alone
    """A duration as in the config, or a plain number of seconds."""

    name = "duration"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        try:
            return float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else duration(value)
        except ValueError as error:
            self.fail(str(error), parameter, context)


def milliseconds(seconds: float | None) -> dict[str, int]:
    """`timeout_ms` as an option of a request, if there is a limit."""
    return {} if seconds is None else {"timeout_ms": round(seconds * 1000)}


def is_path(plugin: str) -> bool:
    """Does this PLUGIN mean a file or folder rather than a name?

    A folder needs a slash: `changeover call denoise` in a folder that holds `denoise/` means
    the plugin of that name.
    """
    return "/" in plugin or plugin.endswith(PYTHON_SOURCES) or Path(plugin).is_file()


@contextmanager
def connected(settings: Settings) -> Iterator[Changeover]:
    """The running supervisor. Raises NoSupervisor."""
    from ...client import connect

    if settings.overrides:
        raise click.UsageError(
            "-o is for serve and for a PLUGIN given as a path; a running supervisor has its config"
        )
    with connect(settings.socket_path, reconnect=0) as supervisor:
        yield supervisor


@contextmanager
def plugin_at(
    settings: Settings, plugin: str, timeout_s: float | None = None
) -> Iterator[tuple[Changeover, str]]:
    """The supervisor that has this PLUGIN, and the name that it has there.

    A private one has so long to start it.
    """
    if not is_path(plugin):
        with connected(settings) as supervisor:
            yield supervisor, plugin
        return
    name, given = name_of(plugin), overrides(name_of(plugin), settings)
    keys = {key: given.pop(key) for key in list(given) if is_supervisor_key(key)}
    with private(settings, keys) as supervisor:
        _add(supervisor, name, {**table_of(plugin), **given}, timeout_s)
        yield supervisor, name


def check_that_it_stopped(supervisor: Changeover) -> None:
    """The news are over. Raises Disconnected unless the supervisor has said that it would go."""
    from ...client.errors import Disconnected

    if not supervisor.connection.session.goaway:
        raise Disconnected(
            "the supervisor is gone without a word; was it killed?\n"
            "  its workers went with it: changeover serve   starts it again",
            executed="no",
        )


@contextmanager
def private(settings: Settings, keys: dict[str, Any]) -> Iterator[Changeover]:
    """A supervisor of our own without plugins, which says no more than we were asked to."""
    from ...client import launch

    level = "error" if settings.quiet else "info" if settings.verbose else "warning"
    # What it says goes to our stderr, which somebody reads: never JSON.
    with launch({}, **{"log.level": level, "log.format": "text", **keys}) as supervisor:
        yield supervisor


def _add(supervisor: Changeover, name: str, table: dict[str, Any], timeout_s: float | None) -> None:
    """The plugin of a path: that it does not start is its failure, not a refused change."""
    from ...client.errors import InvalidRequest, Refused

    try:
        supervisor.add(name, table, timeout=timeout_s)
    except TimeoutError:
        click.echo(f"{name}: not started within {timeout_s:g} s; no job was sent", err=True)
        raise click.exceptions.Exit(NOT_IN_TIME) from None
    except InvalidRequest as error:
        raise click.UsageError(error.message) from None
    except Refused as error:
        click.echo(str(error), err=True)
        raise click.exceptions.Exit(FAILED) from None


def name_of(path: str) -> str:
    """A plugin's name out of the path of its source: `./denoise.py` is denoise."""
    stem = os.path.basename(os.path.realpath(path)).removesuffix(".py")
    return re.sub(r"[^A-Za-z0-9._-]", "-", stem).lstrip("._-")[:64] or "plugin"


def table_of(path: str) -> dict[str, Any]:
    """What `[plugins.NAME]` would say of a path: a Python source, or a program."""
    source = Path(path).absolute()
    try:
        source.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise click.UsageError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    is_program = source.is_file() and not path.endswith(PYTHON_SOURCES)
    if is_program and not os.access(source, os.X_OK):
        raise click.UsageError(f"{path}: neither Python (.py, folder, .zip, .whl) nor executable")
    return {"command": [str(source)]} if is_program else {"source": str(source)}


def overrides(name: str, settings: Settings) -> dict[str, Any]:
    """`-o KEY=VALUE`, read; with one plugin its name may stand before the key or not."""
    read: dict[str, Any] = {}
    for text in settings.overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"-o {text}: must be KEY=VALUE, such as -o workers=3")
        key = key.strip().removeprefix(f"{name}.")
        read[key] = read_value(key, value.strip())
    return read


def is_supervisor_key(key: str) -> bool:
    """Is it one of `[supervisor]` or `[log]`? Everything else is the plugin's to refuse."""
    from ..spec import SupervisorSpec

    keys = {field.name.removesuffix("_s") for field in fields(SupervisorSpec)}
    return key in keys or key.startswith(("supervisor.", "log."))
