"""`changeover pause` and `changeover resume`."""

from __future__ import annotations

from typing import Any

import click

from .asking import connected
from .output import show_document
from .settings import Settings


@click.command
@click.argument("plugin")
@click.option("--reject", is_flag=True, help="Refuse new jobs meanwhile instead of holding them.")
@click.pass_obj
def pause(settings: Settings, plugin: str, reject: bool) -> None:
    """Let what runs finish; callers wait until `changeover resume PLUGIN`."""
    counts = _ask(settings, "pause", plugin, {"reject": True} if reject else {})
    waiting = "new jobs are refused" if reject else f"{counts.get('queued', 0)} queued wait"
    settings.say(
        f"{plugin}: paused; {counts.get('running', 0)} running finish, {waiting}\n"
        f"  go on: changeover resume {plugin}"
    )


@click.command
@click.argument("plugin")
@click.pass_obj
def resume(settings: Settings, plugin: str) -> None:
    """Let jobs flow again."""
    counts = _ask(settings, "resume", plugin)
    settings.say(f"{plugin}: resumed; {counts.get('queued', 0)} queued go on")


def _ask(settings: Settings, verb: str, plugin: str, *options: dict[str, Any]) -> dict[str, Any]:
    with connected(settings) as supervisor:
        counts: dict[str, Any] = supervisor.request(verb, plugin, *options)
    if settings.json:
        show_document(verb, {"plugin": plugin, **counts})
    return counts
