"""`changeover status`: what runs, for people, for programs and for probes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ...client.errors import Disconnected, NotFound
from . import status_view
from .asking import check_that_it_stopped, connected
from .exits import FAILED
from .output import show_document
from .settings import Settings

if TYPE_CHECKING:
    from ...client import Changeover

READY_STATES = frozenset({"live", "changing", "holding"})


@click.command
@click.argument("plugin", required=False)
@click.option("--watch", is_flag=True, help="Show it again whenever something changes.")
@click.option("--ready", is_flag=True, help="Say only by the exit code whether all can serve.")
@click.pass_obj
def status(settings: Settings, plugin: str | None, watch: bool, ready: bool) -> int:
    """Show what runs: a table, or one plugin's details and what it waits for."""
    with connected(settings) as supervisor:
        document = ask(supervisor, plugin)
        if ready:
            return _is_ready(settings, document)
        show(settings, document, plugin)
        if watch:
            _watch(settings, supervisor, plugin)
    return 0


def ask(supervisor: Changeover, plugin: str | None = None) -> dict[str, Any]:
    """The status document, of one plugin or of all. Raises NotFound."""
    document: dict[str, Any] = supervisor.request("status", {"plugin": plugin} if plugin else {})
    if plugin and plugin not in document["plugins"]:
        raise NotFound(f"no plugin {plugin!r}", plugin=plugin)
    return document


def show(settings: Settings, document: dict[str, Any], plugin: str | None) -> None:
    """Print a status document, of all plugins or of one."""
    if settings.json:
        show_document("status", document)
    elif plugin:
        _show_details(settings, plugin, document["plugins"][plugin])
    else:
        click.echo(status_view.headline(document))
        if document["plugins"]:
            click.echo()
            status_view.overview(document).show(settings)
        if lines := status_view.remarks(document):
            click.echo("\n" + "\n".join(lines))


def _show_details(settings: Settings, name: str, plugin: dict[str, Any]) -> None:
    click.echo("\n".join(status_view.details(name, plugin)))
    if plugin.get("workers"):
        click.echo()
        status_view.workers(plugin).show(settings)


def _is_ready(settings: Settings, document: dict[str, Any]) -> int:
    """0 if every plugin has a release that takes jobs, else 1 and on stderr which has not."""
    late = {
        name: plugin.get("state", "-")
        for name, plugin in document["plugins"].items()
        if plugin.get("state") not in READY_STATES or not plugin.get("release")
    }
    for name, state in late.items():
        settings.say(f"{name}: not ready, {state}")
    return FAILED if late else 0


def _watch(settings: Settings, supervisor: Changeover, plugin: str | None) -> None:
    """Until somebody interrupts or the supervisor leaves."""
    with supervisor.watch("plugins", "workers", "stats", plugin=plugin) as updates:
        for _ in updates:
            try:
                document = ask(supervisor, plugin)
            except Disconnected:
                break
            if settings.is_screen:
                click.clear()
            show(settings, document, plugin)
    check_that_it_stopped(supervisor)
