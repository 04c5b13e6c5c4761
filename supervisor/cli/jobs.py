"""`changeover jobs` and `changeover cancel`."""

from __future__ import annotations

from typing import Any

import click

from ...client.errors import ChangeoverError
from ..units import format_duration
from .asking import connected
from .exits import exit_code
from .output import show_document
from .settings import Settings
from .tables import Table

_TITLES = ("JOB", "PLUGIN", "METHOD", "STATE", "RELEASE", "PID", "TRIES", "QUEUED", "RUNNING")


@click.command
@click.argument("plugin", required=False)
@click.pass_obj
def jobs(settings: Settings, plugin: str | None) -> None:
    """List jobs, running and queued."""
    with connected(settings) as supervisor:
        options = {"jobs": True, "plugin": plugin} if plugin else {"jobs": True}
        found = supervisor.request("status", options)["jobs"]
    if settings.json:
        show_document("jobs", {"jobs": found})
    elif found:
        table(found).show(settings)
    else:
        settings.say("no jobs" + (f" of {plugin}" if plugin else ""))


@click.command
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--now", is_flag=True, help="Kill the worker if it does not stop by itself.")
@click.pass_obj
def cancel(settings: Settings, ids: tuple[str, ...], now: bool) -> int:
    """Cancel jobs: queued ones at once, running ones by asking."""
    code, ended = 0, []
    with connected(settings) as supervisor:
        for job in ids:
            try:
                answer = supervisor.request("cancel", job, {"mode": "kill" if now else "soft"})
            except ChangeoverError as error:
                click.echo(f"{job}: {error.message}", err=True)
                code = max(code, exit_code(error))
            else:
                ended.append(answer)
    if settings.json:
        show_document("cancel", {"jobs": ended})
    else:
        for answer in ended:
            settings.say(f"{answer['job']}: {_words(answer['state'])}")
    return code


def table(found: list[dict[str, Any]]) -> Table:
    """One row a job."""
    rows = [
        (
            str(job.get("job", "-")),
            str(job.get("plugin", "-")),
            str(job.get("method", "-")),
            str(job.get("state", "-")),
            f"@{job['release']}" if job.get("release") else "-",
            str(job.get("pid") or "-"),
            str(job.get("attempts", 0)),
            format_duration(job.get("queued_s", 0)),
            format_duration(job.get("running_s", 0)) if job.get("running_s") else "-",
        )
        for job in found
    ]
    return Table(_TITLES, frozenset({"PID", "TRIES", "QUEUED", "RUNNING"}), list(rows))


def _words(state: str) -> str:
    return "asked to stop, still running" if state == "running" else state
