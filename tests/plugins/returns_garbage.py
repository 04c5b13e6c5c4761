"""Returns what no message can carry."""

import threading

from changeover.worker import plugin


def _deep(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


GARBAGE = {
    "a set": lambda: {"boxes": [1, {2, 3}]},
    "a lock": threading.Lock,
    "a big int": lambda: [2**64],
    "a loop": lambda: _loop(),
    "too deep": lambda: _deep(80),
    "too big": lambda: b"x" * (65 * 1024 * 1024),
    "half a character": lambda: "\ud800",
    "itself": lambda: GARBAGE,
}


def _loop() -> list:
    value: list = []
    value.append(value)
    return value


@plugin(version="1.0.0")
def run(kind: str):
    return GARBAGE[kind]()
