"""`changeover serve`: read the config, then be the supervisor."""

from __future__ import annotations

import os

import click

from .exits import USAGE
from .output import say_mistakes
from .settings import DEFAULT_CONFIG, Settings


@click.command
@click.option("--stdio", is_flag=True, help="Messages on stdin and stdout instead of a socket.")
@click.option("--check", is_flag=True, help="Refuse to serve if any plugin fails to start.")
@click.pass_context
def serve(context: click.Context, stdio: bool, check: bool) -> int:
    """Run the supervisor.

    It serves the plugins of the config on a Unix socket until `changeover stop`. HUP is
    `reload`, TERM and INT are `stop`. With --stdio it serves one client on stdin and stdout,
    and the end of input means: finish what was accepted, then exit.
    """
    settings: Settings = context.obj
    if stdio and settings.socket:
        raise click.UsageError("--stdio has no socket: leave -s away")
    # pydantic and what the supervisor is made of: for this verb alone
    from ..config import Config, ConfigError, load
    from ..service import run

    try:
        config: Config = load(settings.config_path, _overrides(settings, stdio=stdio))
    except ConfigError as error:
        say_mistakes(error.problems, "nothing was started")
        return USAGE
    if not (config.plugins or config.path or stdio or config.supervisor.allow_add):
        raise click.UsageError(
            f"no {DEFAULT_CONFIG} in {os.getcwd()}\n"
            '  write one: [plugins.denoise]   source = "denoise.py"\n'
            "  or name one: -c FILE; or let clients add plugins: -o allow_add=true"
        )
    return run(config, stdio=stdio, check=check)


def _overrides(settings: Settings, *, stdio: bool) -> list[str]:
    """The options that are keys of the config in other words; an explicit `-o` wins."""
    socket = None if stdio else settings.socket or os.environ.get("CHANGEOVER_SOCKET")
    said = {
        f"socket={socket}": bool(socket),
        "log.level=debug": settings.verbose,
        "log.level=warning": settings.quiet,
        "log.format=json": settings.json,
    }
    return [text for text, is_said in said.items() if is_said] + settings.overrides
