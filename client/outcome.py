"""How a changeover ended, as `reload`, `rollback` and `add` tell it."""

from __future__ import annotations

from typing import Any

from .errors import Refused

_BAD = ("refused", "rolled_back")
_TELLING = ("", None, "warm", "check", "adopt", "watch")  # their causes name the hook themselves


class ChangeOutcome(dict[str, Any]):
    """What the supervisor said of one changeover; its fields are attributes too (`from_`)."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name.rstrip("_")]
        except KeyError:
            raise AttributeError(name) from None


def read_outcomes(documents: list[dict[str, Any]]) -> list[ChangeOutcome]:
    """The answer of `reload`. Raises Refused for the first that was refused or rolled back."""
    outcomes = [ChangeOutcome(document) for document in documents]
    for outcome in outcomes:
        if outcome.get("outcome") in _BAD:
            raise refused(outcome)
    return outcomes


def refused(document: dict[str, Any]) -> Refused:
    """The words for people, and the facts."""
    name = document.get("name", "")
    new, old = release_name(document.get("to")), release_name(document.get("from"))
    stage, cause = document.get("stage"), document.get("cause")
    if document.get("outcome") == "rolled_back":
        first = f"{name}: {new or 'the new release'} rolled back to {old or 'the one before'}"
        last = f"{document.get('lost', 0)} jobs were lost"
    else:
        first = f"{name}: {new or 'the new release'} refused"
        first += f", still on {old}" if old else ""
        last = document.get("meanwhile") or "traffic was not touched"
    why = str(cause) if stage in _TELLING else f"{stage}: {cause}"
    lines = [first, f"  {why}", f"  {last}; fix it and save, or: changeover reload {name}"]
    return Refused("\n".join(lines), document=document, plugin=name)


def release_name(release: Any) -> str:
    """`2.2.0 @4`, from the map that travels."""
    if not isinstance(release, dict):
        return str(release) if release else ""
    number, version = release.get("number"), release.get("version")
    return " ".join(filter(None, (version or "", f"@{number}" if number is not None else "")))
