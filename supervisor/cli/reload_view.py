"""What became of a changeover, in words: what happened, what it means, what to do.

Pure: the result of `reload` and `rollback` in, lines out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ..units import format_duration

Change = dict[str, Any]

_SILENT = frozenset({"parked", "retired"})

TELLING = ("", "warm", "check", "adopt", "watch")  # their causes name the hook themselves


def lines_of(change: Change) -> list[str]:
    """The screen of one changeover."""
    teller = {
        "done": _done,
        "unchanged": _unchanged,
        "refused": _refused,
        "rolled_back": _rolled_back,
        "superseded": _superseded,
    }.get(str(change.get("outcome")), _done)
    return list(teller(change))


def dry_lines_of(change: Change) -> list[str]:
    """What a reload would do."""
    name, outcome = change["name"], change.get("outcome")
    if outcome != "done":
        return [f"(dry run) {line}" for line in lines_of(change)]
    new = change.get("to") or {}
    what = release(new) if new.get("number") else f"new content {str(new.get('digest'))[:8]}"
    old = f"{release(change['from'])} → " if change.get("from") else ""
    lines = [f"(dry run) {name}  {old}{what}"]
    lines += [f"  was refused before: {change['cause']}"] if change.get("cause") else []
    return lines + [_straggler(job, change) for job in change.get("running") or []]


def clock(time: str) -> str:
    """An RFC 3339 time as the clock on the wall shows it."""
    return f"{datetime.fromisoformat(time).astimezone():%H:%M:%S}"


def release(record: dict[str, Any] | None) -> str:
    """`2.2.0 @4`, or a dash for none."""
    if not record:
        return "-"
    number = f"@{record['number']}" if record.get("number") else ""
    return " ".join(part for part in (record.get("version"), number) if part) or "-"


def _straggler(job: dict[str, Any], change: Change) -> str:
    limit = change.get("drain_timeout_s")
    when = "at drain_timeout" if limit is None else f"after {format_duration(limit)}"
    fate = "run again, it is pure" if job.get("pure") else "lost"
    return f"  job {job.get('job')} runs on {job.get('pid')}; if still {when}: killed and {fate}"


def _done(change: Change) -> Iterator[str]:
    old, new = change.get("from"), change.get("to") or {}
    arrow = f"{release(old)} → " if old else ""
    yield f"{change['name']}  {arrow}{release(new)}  {str(new.get('digest', ''))[:8]}".rstrip()
    yield from _phases(change)
    yield _closing(change)


def _phases(change: Change) -> Iterator[str]:
    for phase in change.get("phases") or []:
        name = str(phase.get("phase", ""))
        if name not in _SILENT:
            took = format_duration(phase["us"] / 1e6)
            yield f"  {name:<9}{took:>9}   {phase.get('detail') or ''}".rstrip()


def _closing(change: Change) -> str:
    total = sum(phase["us"] for phase in change.get("phases") or []) / 1e6
    parts = [f"done in {format_duration(total)}", f"lost {change.get('lost', 0)}"]
    if change.get("drained"):
        parts.append(f"{change['drained']} finished on the old release")
    if change.get("killed"):
        parts.append(f"{change['killed']} killed at drain_timeout")
    if change.get("watched_until"):
        parked = f", @{change['from']['number']} parked" if change.get("parked") else ""
        parts.append(f"watched until {clock(change['watched_until'])}{parked}")
    return "   ".join(parts)


def _unchanged(change: Change) -> Iterator[str]:
    serving = release(change.get("from") or change.get("to"))
    if change.get("cause"):
        new = change.get("to")
        what = release(new) if new else "what its source holds"
        yield f"{change['name']}: {what} is not taken by itself, {serving} serves on"
        yield f"  {change['cause']}"
        if new:
            yield f"  fix it and save, or: changeover reload {change['name']}"
        return
    yield f"{change['name']}: nothing to do, {serving} is what its source holds"
    yield f"  replace it all the same: changeover reload --force {change['name']}"


def _refused(change: Change) -> Iterator[str]:
    name, new, old = change["name"], change.get("to"), change.get("from")
    if change.get("stage") == "policy":
        yield f"{name}: refused, {change.get('cause')}"
        yield f'  nothing was changed; to allow it: reload = "on-signal" under [plugins.{name}]'
        return
    what = f"{release(new)} refused" if new else "refused"
    yield f"{name}: {what}, " + (f"still on {release(old)}" if old else "there is no other release")
    yield from _cause(change)
    yield f"  {change.get('meanwhile')}; fix it and save, or: changeover reload {name}"


def _rolled_back(change: Change) -> Iterator[str]:
    name, new, old = change["name"], change.get("to"), change.get("from")
    yield f"{name}: {release(new)} rolled back, {release(old)} serves again"
    yield from _cause(change)
    yield f"  lost {change.get('lost', 0)}; fix it and save, or: changeover reload {name}"


def _superseded(change: Change) -> Iterator[str]:
    yield f"{change['name']}: {release(change.get('to'))} given up for a newer change"
    yield f"  traffic was not touched; how that one ends: changeover history {change['name']}"


def _cause(change: Change) -> Iterator[str]:
    cause = str(change.get("cause") or "no reason was given").rstrip().splitlines()
    stage = str(change.get("stage") or "").lower()
    tells = stage in TELLING or cause[0].startswith(stage)
    head = cause[0] if tells else f"{stage}: {cause[0]}"
    yield f"  {head}"
    for line in cause[1:]:
        yield f"  {line}"
