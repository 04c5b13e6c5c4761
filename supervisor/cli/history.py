"""`changeover history`: who changed what, why, and how it ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from .asking import connected
from .exits import FAILED
from .output import show_document
from .reload_view import release
from .settings import Settings
from .tables import Table

# What a restart reads back, and people know from the line of the changeover itself.
INNER = frozenset({"cut", "approved"})
ENTRIES_EACH = 3  # cut, changeover, approved
_TITLES = ("SEQ", "TIME", "PLUGIN", "WHY", "FROM", "TO", "OUTCOME", "DRAINED", "KILLED", "LOST",
           "WHO")  # fmt: skip


@click.command
@click.argument("plugin", required=False)
@click.option("-n", "--lines", type=click.IntRange(1), default=20, show_default=True)
@click.option("--verify", is_flag=True, help="Check that each line follows from the one before.")
@click.pass_obj
def history(settings: Settings, plugin: str | None, lines: int, verify: bool) -> int:
    """Show the audit trail: append-only, each line with the hash of the one before.

    With -v also the steps that a restart goes by.
    """
    is_all = settings.json or settings.verbose
    options: dict[str, Any] = {"limit": lines if is_all else lines * ENTRIES_EACH}
    if plugin:
        options["plugin"] = plugin
    with connected(settings) as supervisor:
        if verify:
            return _show_verification(settings, supervisor.request("history", {"verify": True}))
        entries = supervisor.request("history", options)
    if settings.json:
        show_document("history", {"entries": entries})
    elif told := [entry for entry in entries if is_all or entry["event"] not in INNER][-lines:]:
        table(told).show(settings)
    else:
        settings.say("nothing has happened yet")
    return 0


def table(entries: list[dict[str, Any]]) -> Table:
    """One row an entry."""
    rows = [
        (
            str(entry.get("seq", "-")),
            _time(entry.get("time")),
            str(entry.get("plugin") or "-"),
            _why(entry),
            release(entry.get("from")),
            release(entry.get("to")),
            str(entry.get("outcome") or "-"),
            str(entry.get("drained", "-")),
            str(entry.get("killed", "-")),
            str(entry.get("lost", "-")),
            str(entry.get("who") or "-"),
        )
        for entry in entries
    ]
    return Table(_TITLES, frozenset({"SEQ", "DRAINED", "KILLED", "LOST"}), list(rows))


def _show_verification(settings: Settings, found: dict[str, Any]) -> int:
    if settings.json:
        show_document("history-verification", found)
    elif found.get("bad_line") is None:
        settings.say(f"history: all {found['lines']} lines follow from one another")
    else:
        settings.say(
            f"history: line {found['bad_line']} {found.get('reason', '')}\n"
            f"  the {found['lines']} lines before it are as they were written"
        )
    return 0 if found.get("bad_line") is None else FAILED


def _why(entry: dict[str, Any]) -> str:
    """The trigger of a changeover; anything else by its own name."""
    event, why = str(entry.get("event", "-")), entry.get("why")
    if event == "changeover" and why:
        return str(why)
    return f"{event} ({why})" if why else event


def _time(text: Any) -> str:
    try:
        return f"{datetime.fromisoformat(str(text)).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return str(text)
