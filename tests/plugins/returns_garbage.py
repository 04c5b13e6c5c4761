"""Returns what no message can carry."""

import threading
from typing import Any

from changeover.worker import plugin


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def _loop() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


GARBAGE: dict[str, Any] = {
    "a set": lambda: {"boxes": [1, {2, 3}]},
    "a lock": threading.Lock,
    "a big int": lambda: [2**64],
    "a loop": _loop,
    "too deep": lambda: _deep(80),
    "too big": lambda: b"x" * (65 * 1024 * 1024),
    "half a character": lambda: "\ud800",
    "itself": lambda: GARBAGE,
}


@plugin(version="1.0.0")
def run(kind: str) -> Any:
    return GARBAGE[kind]()
