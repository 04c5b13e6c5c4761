"""What a plugin yields to tell how far it is."""

from __future__ import annotations


class Progress:
    """`done` of `total` (None: unknown), in the plugin's own unit, with a line for people."""

    __slots__ = ("done", "message", "total")

    def __init__(self, done: float, total: float | None = None, message: str = "") -> None:
        self.done = done
        self.total = total
        self.message = message

    def __repr__(self) -> str:
        return f"Progress({self.done!r}, {self.total!r}, {self.message!r})"

    def wire(self) -> dict[str, object]:
        """`{done, total, message}`."""
        return {"done": self.done, "total": self.total, "message": self.message}
