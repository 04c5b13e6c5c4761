"""Metadata of a loaded release: what `on_reload` receives and `status` shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class PluginVersion:
    """The seed's record. `hash` is the FNV-1a 64 of the content, `loaded_at` is aware (UTC)."""

    id: str
    version: str
    hash: int
    loaded_at: datetime

    def wire(self) -> dict[str, Any]:
        """As it travels: the hash as 16 hex digits (R9), the time as RFC 3339."""
        return {
            "id": self.id,
            "version": self.version,
            "hash": f"{self.hash:016x}",
            "loaded_at": self.loaded_at.isoformat(),
        }

    @classmethod
    def of(cls, value: dict[str, Any]) -> PluginVersion:
        """Read the map that `wire` made. Raises KeyError or ValueError on anything else."""
        return cls(
            id=str(value["id"]),
            version=str(value["version"]),
            hash=int(value["hash"], 16),
            loaded_at=datetime.fromisoformat(str(value["loaded_at"]).replace("Z", "+00:00")),
        )
