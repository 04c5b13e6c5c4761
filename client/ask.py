"""What can be asked of a supervisor beside jobs: method, parameters, how the answer is read.

One table for both facades: they differ in how they wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from .outcome import ChangeOutcome, read_outcomes
from .pickled import is_callable_source, pickled
from .spec import Source, plugin_options

T = TypeVar("T")
Until = Literal["cut", "drained", "watched"]


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """One request; `read` makes of the answer what the caller gets."""

    method: str
    params: tuple[Any, ...]
    read: Callable[[Any], T]


def status(plugin: str | None, job: str | None) -> Ask[dict[str, Any]]:
    """The `changeover.status/1` document."""
    return Ask("status", (_options(plugin=plugin, job=job),), dict)


def jobs(plugin: str | None) -> Ask[list[dict[str, Any]]]:
    """What runs and what is queued."""
    return Ask("status", (_options(plugin=plugin, jobs=True),), lambda answer: answer["jobs"])


def history(plugin: str | None, limit: int | None) -> Ask[list[dict[str, Any]]]:
    """Entries of the audit trail, oldest first."""
    return Ask("history", (_options(plugin=plugin, limit=limit),), list)


def logs(
    plugin: str | None, job: str | None, limit: int | None, level: str | None
) -> Ask[list[dict[str, Any]]]:
    """Lines of the supervisor and the workers, oldest first."""
    options = _options(plugin=plugin, job=job, limit=limit, level=level)
    return Ask("logs", (options,), list)


def cancel(job: str, *, kill: bool) -> Ask[dict[str, Any]]:
    """`{job, state}`."""
    return Ask("cancel", (job, _options(mode="kill" if kill else None)), dict)


def pause(plugin: str | None, *, reject: bool) -> Ask[dict[str, Any]]:
    """`{running, queued}`."""
    return Ask("pause", (plugin, _options(reject=reject or None)), dict)


def resume(plugin: str | None) -> Ask[dict[str, Any]]:
    """`{running, queued}`."""
    return Ask("resume", (plugin, {}), dict)


def add(name: str, plugin: Source | Mapping[str, Any]) -> Ask[dict[str, Any]]:
    """`{name, release, generation}`; Refused when its first release fails."""
    return Ask("add", (name, plugin_options(plugin)), dict)


def remove(name: str) -> Ask[dict[str, Any]]:
    """Counts of what was finished."""
    return Ask("remove", (name, {}), dict)


def reload(
    names: str | Iterable[str] | None,
    new_callable: Callable[..., Any] | None,
    *,
    force: bool,
    dry_run: bool,
    wait: Until | None,
    timeout_s: float | None,
) -> Ask[list[ChangeOutcome]]:
    """Replace what changed. Raises Refused for what was refused or rolled back."""
    listed = [names] if isinstance(names, str) else list(names or ())
    source = None
    if new_callable is not None:
        if not is_callable_source(new_callable):
            raise TypeError(f"new_callable must be callable, not {new_callable!r}")
        if len(listed) != 1:
            raise ValueError("a new callable is for one plugin: reload(name, new_callable)")
        source = pickled(new_callable)
    options = _options(
        force=force or None, dry_run=dry_run or None, source=source, wait=wait,
        timeout_ms=_ms(timeout_s),
    )  # fmt: skip
    return Ask("reload", (listed, options), read_outcomes)


def rollback(
    name: str, *, to: str | int | None, dry_run: bool, wait: Until | None
) -> Ask[ChangeOutcome]:
    """Back to the release before, or to `@N`."""
    options = _options(to=to, dry_run=dry_run or None, wait=wait)
    return Ask("rollback", (name, options), _one_outcome)


def _one_outcome(answer: Any) -> ChangeOutcome:
    return read_outcomes(answer if isinstance(answer, list) else [answer])[0]


def _options(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else math.ceil(seconds * 1000)
