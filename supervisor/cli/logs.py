"""`changeover logs`: lines of the supervisor and the workers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from .asking import check_that_it_stopped, connected
from .output import show_document
from .settings import Settings

LINE = ("plugin", "level", "message", "fields")  # the parameters of `log_line`
LEVELS = ("debug", "info", "warning", "error")


@click.command
@click.argument("plugin", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "--lines", type=click.IntRange(0), default=100, show_default=True)
@click.option("--job", metavar="ID", help="Only what was said about this job.")
@click.option("--level", type=click.Choice(LEVELS), default="info", show_default=True)
@click.pass_obj
def logs(
    settings: Settings, plugin: str | None, follow: bool, lines: int, job: str | None, level: str
) -> None:
    """Show the newest lines of the log."""
    options: dict[str, Any] = {"limit": lines, "level": level}
    options |= {"plugin": plugin} if plugin else {}
    options |= {"job": job} if job else {}
    with connected(settings) as supervisor:
        if not follow:
            entries = supervisor.request("logs", options)
            if plugin and not entries:
                supervisor.request("status", {"plugin": plugin})  # raises NotFound if there is none
            _show(settings, entries, is_line=False)
            return
        with supervisor.watch("log", plugin=plugin, min_level=level) as updates:
            _show(settings, supervisor.request("logs", options), is_line=True)
            for kind, params in updates:
                entry = dict(zip(LINE, params, strict=False))
                if kind == "log_line" and job in {None, entry["fields"].get("job")}:
                    _show(settings, [entry], is_line=True)
        check_that_it_stopped(supervisor)


def text_of(entry: dict[str, Any]) -> str:
    """`14:02:10 denoise: warning: …`."""
    fields = entry.get("fields") or {}
    worker = entry.get("worker") or fields.get("worker")
    who = "/".join(str(part) for part in (entry.get("plugin"), worker) if part) or "changeover"
    word = "" if entry.get("level") == "info" else f"{entry.get('level')}: "
    return f"{_clock(_time_of(entry))}{who}: {word}{entry.get('message')}"


def _time_of(entry: dict[str, Any]) -> Any:
    return entry.get("time") or (entry.get("fields") or {}).get("time")


def _clock(time: Any) -> str:
    if not isinstance(time, (int, float)):
        return ""
    return f"{datetime.fromtimestamp(time).astimezone():%H:%M:%S} "


def _with_rfc_3339(entry: dict[str, Any]) -> dict[str, Any]:
    time = _time_of(entry)
    if not isinstance(time, (int, float)):
        return entry
    moment = datetime.fromtimestamp(time, UTC)
    return {**entry, "time": moment.isoformat(timespec="milliseconds")}


def _show(settings: Settings, entries: list[dict[str, Any]], *, is_line: bool) -> None:
    if settings.json and is_line:
        for entry in entries:
            show_document("log", _with_rfc_3339(entry), is_line=True)
    elif settings.json:
        show_document("logs", {"entries": list(map(_with_rfc_3339, entries))})
    else:
        for entry in entries:
            click.echo(text_of(entry))
