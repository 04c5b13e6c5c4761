"""The supervisor's own words, on stderr: for people, or one JSON object a line.

Never waits for whoever reads stderr: what cannot be written now is counted.
"""

from __future__ import annotations

import json
import os
import select
from datetime import UTC, datetime
from typing import Any, Literal

from .log_ring import LEVELS, Level

_PIPE_BUF = 4096  # a pipe that is ready takes this much at once (PIPE_BUF on Linux)


class Narrator:
    """`auto` is text on a terminal, JSON elsewhere."""

    def __init__(
        self,
        log_format: Literal["auto", "text", "json"] = "auto",
        level: Level = "info",
        fd: int = 2,
    ) -> None:
        is_text = os.isatty(fd) if log_format == "auto" else log_format == "text"
        self._line = _text if is_text else _json
        self._shown = LEVELS[LEVELS.index(level) :]
        self._fd = fd
        self._missed = 0
        self._ready = select.poll()
        self._ready.register(fd, select.POLLOUT)

    def say(self, level: Level, message: str, *, plugin: str = "", **fields: Any) -> None:
        """Say it if the level is shown. `message` may have several lines."""
        if level not in self._shown:
            return
        now = datetime.now(UTC)
        if self._missed and self._write(
            self._line(now, "warning", "", f"{self._missed} messages could not be written", {})
        ):
            self._missed = 0
        if not self._write(self._line(now, level, plugin, message, fields)):
            self._missed += 1

    def _write(self, line: str) -> bool:
        data = memoryview(line.encode("utf-8", "backslashreplace"))
        while data:
            if not self._is_ready():
                return False
            try:
                data = data[os.write(self._fd, data[:_PIPE_BUF]) :]
            except OSError:  # nobody is left to read it, or the disk is full
                return False
        return True

    def _is_ready(self) -> bool:
        return any(events & select.POLLOUT for _, events in self._ready.poll(0))


def _text(now: datetime, level: str, plugin: str, message: str, fields: dict[str, Any]) -> str:
    label = f"{plugin}: " if plugin and not message.startswith(f"{plugin}: ") else ""
    word = "" if level == "info" else f"{level}: "
    facts = "".join(f"  {key}={value}" for key, value in fields.items())
    return f"{now.astimezone():%H:%M:%S} {word}{label}{message}{facts}\n"


def _json(now: datetime, level: str, plugin: str, message: str, fields: dict[str, Any]) -> str:
    entry = {
        "time": now.isoformat(timespec="milliseconds"),
        "level": level,
        **({"plugin": plugin} if plugin else {}),
        "message": message,
        **fields,
    }
    return json.dumps(entry, ensure_ascii=False, default=str) + "\n"
