"""Which calls may be sent again to a supervisor that restarted.

A job whose answer was lost may have run. It is repeated when the caller called it idempotent, its
method is pure, or the supervisor still knows it (the journal of a durable plugin); otherwise the
caller is told `executed: maybe`.
"""

from __future__ import annotations

from typing import Any

from .call import Call

_READING = frozenset({"history", "hello", "logs", "ping", "status", "wait", "watch"})


class Purity:
    """What `status` said of the plugins' methods, the newest word."""

    def __init__(self) -> None:
        self._pure: dict[str, set[str]] = {}
        self._asked: set[str] = set()
        self._known: set[str] = set()

    def learn(self, document: dict[str, Any]) -> None:
        """Take a status document. A plugin that is not live yet names no methods: kept as known."""
        for name, plugin in (document.get("plugins") or {}).items():
            methods = plugin.get("methods")
            if methods:
                self._pure[name] = {m for m, facts in methods.items() if facts.get("pure")}
        self._known.update(document.get("known") or ())

    def start_over(self) -> None:
        """Another supervisor: what the last one knew of jobs says nothing."""
        self._known.clear()

    def is_news(self, plugin: str) -> bool:
        """Has nobody asked for this plugin yet? Says so once."""
        if plugin in self._asked:
            return False
        self._asked.add(plugin)
        return True

    def may_repeat(self, call: Call) -> bool:
        """Does a second run do no harm?"""
        if not call.is_sent:
            return True
        if not call.job:
            return call.method in _READING
        if call.job in self._known:  # it is not run again, but found under its id
            return True
        return call.is_idempotent or call.target in self._pure.get(call.plugin, ())
