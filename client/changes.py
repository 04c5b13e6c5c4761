"""Which plugin's traffic went where: the changeovers, picked out of what a watch tells."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .watch import Event

log = logging.getLogger("changeover.client")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A plugin's traffic went to another generation. `from_` is None for its first release."""

    plugin: str
    release: int
    generation: int
    from_: int | None
    reason: str

    def __str__(self) -> str:
        before = f"@{self.from_} → " if self.from_ is not None else ""
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.plugin}: {before}@{self.release}{why}"


class ChangeWatcher:
    """Remembers each plugin's generation and tells the callbacks when it is another."""

    def __init__(self) -> None:
        self.topics = frozenset({"plugins"})
        self.callbacks: list[Callable[[Change], None]] = []
        self._known: dict[str, tuple[int | None, int | None]] = {}  # generation, release
        self._reasons: dict[str, str] = {}

    def begin(self, snapshot: dict[str, Any]) -> None:
        """What serves now; after a restart of the supervisor that may be news."""
        is_first = not self._known
        for name, plugin in (snapshot.get("plugins") or {}).items():
            number = (plugin.get("release") or {}).get("number")
            facts = {"generation": plugin.get("generation"), "release": number}
            if is_first:
                self._known[name] = (facts["generation"], number)
            else:
                self._see(name, facts)

    def take(self, event: Event) -> None:
        """One event of any plugin."""
        if event.kind == "plugin_changed":
            name, facts = event.params
            self._see(name, facts)

    def end(self) -> None:
        """Nothing will change any more that we would hear of."""

    def _see(self, name: str, facts: dict[str, Any]) -> None:
        reason = facts.get("reason")
        if reason:  # said when a change begins, before the cut
            self._reasons[name] = reason
        generation, release = facts.get("generation"), facts.get("release")
        known, before = self._known.get(name, (None, None))
        if generation is None or release is None or generation == known:
            return
        self._known[name] = (generation, release)
        self._tell(
            Change(
                plugin=name,
                release=release,
                generation=generation,
                from_=before,
                reason=self._reasons.pop(name, ""),
            )
        )

    def _tell(self, change: Change) -> None:
        for callback in self.callbacks:
            try:
                callback(change)
            except Exception:  # the caller's own code, in our thread
                log.exception("on_changeover raised")
