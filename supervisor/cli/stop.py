"""`changeover stop`."""

from __future__ import annotations

import click

from .asking import Seconds, connected, milliseconds
from .output import show_document
from .settings import Settings


@click.command
@click.option("--now", is_flag=True, help="End running jobs instead of waiting for them.")
@click.option("--timeout", type=Seconds(), help="Wait this long for jobs; else stop_timeout.")
@click.pass_obj
def stop(settings: Settings, now: bool, timeout: float | None) -> None:
    """Drain, then stop the supervisor."""
    options = {"mode": "now" if now else "drain", **milliseconds(timeout)}
    with connected(settings) as supervisor:
        counts = supervisor.request("shutdown", options, timeout=None)
    if settings.json:
        show_document("stop", counts)
    facts = ", ".join(f"{value} {key}" for key, value in counts.items())
    settings.say(f"changeover: stopped{'; ' + facts if facts else ''}")
