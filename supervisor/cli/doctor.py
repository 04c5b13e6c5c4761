"""`changeover doctor`: what this machine allows, and which isolation can be had here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from .output import show_document
from .settings import Settings
from .tables import Table

NAME = "changeover"
_LANDLOCK = {1: "files", 3: "truncate", 4: "TCP", 6: "signals and abstract sockets"}


@click.command
@click.pass_obj
def doctor(settings: Settings) -> int:
    """Show what this machine allows: kernel, limits, Landlock, bubblewrap, cgroup, permissions.

    Then, for each level of isolation, whether a worker can have it here, and if not, why not.
    """
    from .. import machine

    found = machine.facts(NAME)
    if settings.json:
        show_document("doctor", found)
        return 0
    click.echo("\n".join(f"{label:<12}  {text}" for label, text in lines(found)))
    click.echo()
    levels(found).show(settings)
    return 0


def lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """One fact a line."""
    kernel, may = found["kernel"], found["permissions"]
    yield "kernel", f"Linux {kernel['release']}, {kernel['machine']}"
    yield "python", found["python"]
    yield "memfd", "yes" if found["memfd"] else "no: frames cannot be shared"
    yield "pidfd", "yes" if found["pidfd"] else "no: workers cannot be started (Linux 5.4)"
    for label, limit in found["limits"].items():
        yield label.replace("_", " "), f"{_limit(limit['soft'])}, at most {_limit(limit['hard'])}"
    yield "Landlock", _landlock(found["landlock"]["abi"])
    yield "bubblewrap", _bubblewrap(found["bubblewrap"])
    yield "cgroup", _cgroup(found["cgroup"])
    yield "runs as", f"{may['user'] or 'a user without a name'} (uid {may['uid']})"
    yield "state_dir", _place(may["state_dir"])
    yield "socket", _place(may["socket"])


def levels(found: dict[str, Any]) -> Table:
    """One row a level."""
    table = Table(("ISOLATION", "HERE", "WHY NOT"))
    for level, answer in found["levels"].items():
        why, with_network = answer["why_not"], answer["why_not_with_network"]
        if not why and with_network:
            table.rows.append((level, "yes", f"with network = true: {with_network}"))
        else:
            table.rows.append((level, "no" if why else "yes", why or "-"))
    return table


def _limit(value: int | None) -> str:
    return "unlimited" if value is None else str(value)


def _landlock(abi: int) -> str:
    if not abi:
        return "no"
    return f"ABI {abi}: {', '.join(what for since, what in _LANDLOCK.items() if since <= abi)}"


def _bubblewrap(found: dict[str, Any]) -> str:
    return found["why_not"] or f"{found['version']}, works"


def _cgroup(found: dict[str, Any]) -> str:
    if not found["path"]:
        return "no version 2"
    delegated = "delegated" if found["delegated"] else "not delegated"
    together = (
        "; memory.oom.group = 1: one worker that runs out of memory takes all with it"
        if found["oom_group"]
        else ""
    )
    return f"{found['path']}, {delegated}{together}"


def _place(found: dict[str, Any]) -> str:
    return f"{found['path']}{'' if found['writable'] else ': cannot be written'}"
