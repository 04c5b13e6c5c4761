"""`changeover reload` and `changeover rollback`."""

from __future__ import annotations

from typing import Any

import click

from ...client.errors import InvalidRequest
from ...protocol.errors import Code
from . import reload_view
from .asking import Seconds, connected, milliseconds
from .exits import OUTCOMES, REFUSED, USAGE
from .live import phases_shown
from .output import say_mistakes, show_document
from .settings import Settings

WAITS = click.Choice(["cut", "drained", "watched"])
TOLD = frozenset({"refused", "rolled_back", "superseded"})


@click.command
@click.argument("plugins", nargs=-1, metavar="[PLUGIN]...")
@click.option("--dry-run", is_flag=True, help="Say what would happen, and which jobs might be cut.")
@click.option("--force", is_flag=True, help="Replace it even by the same content.")
@click.option("--wait", type=WAITS, default="drained", show_default=True, help="Return when.")
@click.option("--timeout", type=Seconds(), help="Return after this long in any case (exit 7).")
@click.pass_obj
def reload(
    settings: Settings,
    plugins: tuple[str, ...],
    dry_run: bool,
    force: bool,
    wait: str,
    timeout: float | None,
) -> int:
    """Replace plugins by what their sources hold now; without names, whatever has changed.

    Without names the config is read again too. Nothing is lost by it: a release that does not
    start is refused and the one before goes on.
    """
    options = {"wait": wait, **milliseconds(timeout)}
    options |= {"dry_run": True} if dry_run else {}
    options |= {"force": True} if force else {}
    return _change(settings, "reload", list(plugins), options)


@click.command
@click.argument("plugin")
@click.option("--to", metavar="@N", help="To this release instead of the one before.")
@click.option("--dry-run", is_flag=True, help="Say what would happen.")
@click.option("--wait", type=WAITS, default="drained", show_default=True, help="Return when.")
@click.pass_obj
def rollback(settings: Settings, plugin: str, to: str | None, dry_run: bool, wait: str) -> int:
    """Go back to the release before; what it leaves stays out until its content changes."""
    options: dict[str, Any] = {"wait": wait}
    options |= {"dry_run": True} if dry_run else {}
    if to is not None:
        options["to"] = _release_number(to)
    return _change(settings, "rollback", plugin, options)


def _release_number(text: str) -> int:
    number = text.removeprefix("@")
    if not number.isdecimal():
        raise click.UsageError(f"--to {text}: must be the number of a release, such as @3")
    return int(number)


def _change(settings: Settings, verb: str, names: Any, options: dict[str, Any]) -> int:
    with connected(settings) as supervisor, phases_shown(settings, supervisor):
        try:
            changes = supervisor.request(verb, names, options, timeout=None)
        except InvalidRequest as error:
            if names or error.code != Code.INVALID_PARAMS:
                raise
            say_mistakes(error.message.splitlines(), "the one in force stays")
            return USAGE
    if settings.json:
        show_document(verb, {"changes": changes})
    else:
        _show(settings, changes, is_dry="dry_run" in options)
    codes = [OUTCOMES.get(change["outcome"], REFUSED) for change in changes]
    return max(codes, default=0)


def _show(settings: Settings, changes: list[dict[str, Any]], *, is_dry: bool) -> None:
    if not changes:
        settings.say("nothing has changed")
    for change in changes:
        bad = change["outcome"] in TOLD
        lines = reload_view.dry_lines_of(change) if is_dry else reload_view.lines_of(change)
        click.echo("\n".join(lines), err=bad)
