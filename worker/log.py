"""`ctx.log` and `job.log`: lines for the supervisor's log, with a level and fields.

The standard library's `logging` is left alone: it writes to stderr, which is the log as well.
"""

from __future__ import annotations

from typing import Any

from ..protocol import messages
from ..protocol.limits import LOG_LINE_BYTES
from .outlet import Outlet

LEVELS = ("debug", "info", "warning", "error")


class Log:
    """`log("text", n=3)` is a line of level info; `log.warning("text")` and so on."""

    __slots__ = ("_fields", "_outlet")

    def __init__(self, outlet: Outlet, **fields: Any) -> None:
        self._outlet = outlet
        self._fields = fields

    def __call__(self, message: object, level: str = "info", **fields: Any) -> None:
        """Write one line. Raises ValueError for a level that is none of LEVELS."""
        if level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
        text = str(message)[:LOG_LINE_BYTES]
        self._outlet.notify("log", [level, text, {**self._fields, **_plain(fields)}])

    def debug(self, message: object, **fields: Any) -> None:
        self(message, "debug", **fields)

    def info(self, message: object, **fields: Any) -> None:
        self(message, "info", **fields)

    def warning(self, message: object, **fields: Any) -> None:
        self(message, "warning", **fields)

    def error(self, message: object, **fields: Any) -> None:
        self(message, "error", **fields)


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _carried(value) for name, value in fields.items()}


def _carried(value: Any) -> Any:
    if isinstance(value, str):
        return value[:LOG_LINE_BYTES]
    try:
        raw = messages.pack(value)
    except (TypeError, ValueError, OverflowError):
        return repr(value)[:LOG_LINE_BYTES]
    return value if len(raw) <= LOG_LINE_BYTES else repr(value)[:LOG_LINE_BYTES]
