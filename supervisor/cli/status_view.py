"""The status document as people read it: a line, a table, what goes on, and details.

Pure: documents in, text out. Keys that a later supervisor adds, or an earlier one lacks, are
read with care: a schema only grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from ..units import format_duration, format_size
from .reload_view import clock
from .tables import Table, many

Plugin = dict[str, Any]

_WAITS = {
    "paused": "somebody to say: changeover resume {name}",
    "failed": "a changed source, or: changeover reload {name}",
    "backoff": "the next start of a worker",
    "empty": "its first release",
    "closed": "its last jobs",
}
_LIMITS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("max_jobs", "max_jobs", str),
    ("max_age", "max_age_s", format_duration),
    ("max_rss", "max_rss_bytes", format_size),
    ("memory", "memory_bytes", format_size),
)
_NUMBERS = frozenset({"WORKERS", "BUSY", "QUEUE", "JOBS/S", "P95", "ERRORS", "RSS"})


def headline(document: dict[str, Any]) -> str:
    """`mcr-1   up 3d 4h   3 plugins   5 workers   lost 0`."""
    plugins = list(document.get("plugins", {}).values())
    workers = sum(len(plugin.get("workers", [])) for plugin in plugins)
    lost = sum(_count(plugin, "lost") for plugin in plugins)
    parts = [
        str(document.get("name", "changeover")),
        f"up {format_duration(document.get('uptime_s', 0))}",
        many(len(plugins), "plugin"),
        many(workers, "worker"),
        f"lost {lost}",
    ]
    return "   ".join(parts)


def overview(document: dict[str, Any]) -> Table:
    """One row a plugin, with the columns that the document has something for."""
    plugins = document.get("plugins", {})
    columns = [(title, [cell(plugin) for plugin in plugins.values()]) for title, cell in _COLUMNS]
    used = [(title, cells) for title, cells in columns if any(cell is not None for cell in cells)]
    table = Table(("PLUGIN", *(title for title, _ in used)), _NUMBERS)
    for index, name in enumerate(plugins):
        table.rows.append((name, *(cells[index] or "-" for _, cells in used)))
    return table


def remarks(document: dict[str, Any]) -> list[str]:
    """One line for each plugin that is not simply live."""
    plugins: dict[str, Plugin] = document.get("plugins", {})
    width = max(map(len, plugins), default=0)
    return [
        f"{name.ljust(width)}  {waits_for(name, plugin)}"
        for name, plugin in plugins.items()
        if plugin.get("state") != "live" or plugin.get("changing") or _is_parked(plugin)
    ]


def details(name: str, plugin: Plugin) -> Iterator[str]:
    """Everything about one plugin, one fact a line."""
    release = plugin.get("release") or {}
    yield f"{name}   {_release(release)}   {plugin.get('state', '-')}"
    facts = {
        "digest": release.get("digest"),
        "loaded": _moment(release.get("loaded_at")),
        "generation": plugin.get("generation"),
        "source": plugin.get("source"),
        "python": plugin.get("python"),
        "isolation": plugin.get("isolation"),
        "jobs": f"{plugin.get('running', 0)} running, {plugin.get('queued', 0)} queued",
        "counts": ", ".join(f"{value} {key}" for key, value in plugin.get("counts", {}).items()),
        "limits": _limits(plugin.get("limits") or {}),
        "waits for": waits_for(name, plugin),
    }
    for label, value in facts.items():
        if value not in {None, ""}:
            yield f"  {label:<10}  {value}"


def workers(plugin: Plugin) -> Table:
    """One row a worker."""
    table = Table(
        ("PID", "STATE", "RELEASE", "GENERATION", "BUSY", "JOBS", "AGE", "CPU", "RSS"),
        frozenset({"PID", "GENERATION", "BUSY", "JOBS", "AGE", "CPU", "RSS"}),
    )
    for worker in plugin.get("workers", []):
        table.rows.append(
            (
                str(worker.get("pid", "-")),
                str(worker.get("state", "-")),
                f"@{worker['release']}" if worker.get("release") else "-",
                str(worker.get("generation", "-")),
                str(int(worker.get("busy", 0))),
                str(worker.get("jobs", 0)),
                format_duration(worker["age_s"]) if worker.get("age_s") else "-",
                f"{worker.get('cpu_percent') or 0:.0f}%",
                format_size(worker.get("rss_bytes") or 0),
            )
        )
    return table


def waits_for(name: str, plugin: Plugin) -> str:
    """What would have to happen for this plugin to go on, and what happens to it now."""
    if changing := plugin.get("changing"):
        return _changing(changing, plugin)
    watching = plugin.get("watching")
    if watching and plugin.get("state") == "live":
        return f"the end of its watch at {clock(watching['until'])}{_parked(watching)}"
    waits = _WAITS.get(str(plugin.get("state")), "nothing").format(name=name)
    failure = str(plugin.get("failure") or "").partition("\n")[0]
    return f"{waits} ({failure})" if failure else waits


def _limits(limits: dict[str, Any]) -> str:
    """`max_age 12h 0m, memory 4.0G`: those that are set."""
    return ", ".join(
        f"{name} {form(limits[key])}" for name, key, form in _LIMITS if limits.get(key) is not None
    )


def _changing(changing: dict[str, Any], plugin: Plugin) -> str:
    """`@4 warm 4.1 s · @3 live, 2 in flight`."""
    step = str(changing.get("step", "changing"))
    since = format_duration(changing.get("step_since_s") or 0)
    parts = [_number(changing.get("to") or {}), step, since]
    now = _number(plugin.get("release") or {})
    running = f" · {now} live, {changing.get('in_flight', 0)} in flight" if now else ""
    return " ".join(part for part in parts if part) + running


def _is_parked(plugin: Plugin) -> bool:
    return bool((plugin.get("watching") or {}).get("parked"))


def _parked(watching: dict[str, Any]) -> str:
    parked = _number(watching.get("parked") or {})
    return f"; {parked} is parked" if parked else ""


def _transition(plugin: Plugin) -> str:
    now = _release(plugin.get("release") or {})
    target = _number((plugin.get("changing") or {}).get("to") or {})
    return f"{now}→{target}" if target and not now.endswith(target) else now


def _release(release: dict[str, Any]) -> str:
    return " ".join(part for part in (release.get("version"), _number(release)) if part) or "-"


def _number(release: dict[str, Any]) -> str:
    return f"@{release['number']}" if release.get("number") else ""


def _moment(time: str | None) -> str | None:
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M:%S}" if time else None


def _count(plugin: Plugin, key: str) -> int:
    return int(plugin.get("counts", {}).get(key, 0))


def _optional(plugin: Plugin, key: str, form: Callable[[Any], str]) -> str | None:
    return form(plugin[key]) if plugin.get(key) is not None else None


_COLUMNS: tuple[tuple[str, Callable[[Plugin], str | None]], ...] = (
    ("RELEASE", _transition),
    ("STATE", lambda p: str(p.get("state", "-"))),
    ("WORKERS", lambda p: str(len(p.get("workers", [])))),
    ("BUSY", lambda p: str(sum(int(worker.get("busy", 0)) for worker in p.get("workers", [])))),
    ("QUEUE", lambda p: str(p.get("queued", 0))),
    ("JOBS/S", lambda p: _optional(p, "jobs_per_s", lambda rate: f"{rate:.1f}")),
    ("P95", lambda p: _optional(p, "p95_s", lambda s: format_duration(s).replace(" ", ""))),
    ("ERRORS", lambda p: str(_count(p, "failed") + _count(p, "lost"))),
    ("RSS", lambda p: format_size(sum(w.get("rss_bytes") or 0 for w in p.get("workers", [])))),
)
