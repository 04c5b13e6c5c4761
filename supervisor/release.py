"""A release: one exact content, immutable in the store, and what it said of itself when loaded."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One exact content in the store. `number` belongs to the digest for ever."""

    number: int
    digest: str  # SHA-256, 64 hex digits
    hash: int  # FNV-1a 64
    path: str  # the staged entry
    shown: str  # the path that people know
    version: str = ""  # the author's, known once it was loaded

    def __str__(self) -> str:
        return f"{self.version} @{self.number}" if self.version else f"@{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a worker said of its release when it loaded it."""

    name: str = ""
    version: str = "0.0.0"
    methods: dict[str, tuple[bool, bool]] = field(default_factory=dict)  # pure, stream
    concurrency: int = 1
    frames: str = "independent"
    capabilities: frozenset[str] = frozenset()
    state_format: str = ""
    state_accepts: tuple[str, ...] = ()

    def is_pure(self, method: str) -> bool:
        """May a job of this method be run twice?"""
        return self.methods.get(method, (False, False))[0]
