"""A generator: progress, items, a return value. Several methods, one of them slow to answer."""

from collections.abc import Generator, Iterator
from typing import Any

from changeover.worker import Plugin, Progress, plugin


class Yields(Plugin):
    name, version, pure = "yields", "2.0.0", True

    def run(self, count: int, progress: bool = True) -> Generator[Any, None, str]:
        for number in range(count):
            if progress:
                yield Progress(number + 1, count, f"{number + 1} of {count}")
            yield number * 10
        return "end"

    @plugin.method
    def fails(self, message: str = "it failed") -> None:
        raise ValueError(message)

    @plugin.method
    def half(self, count: int) -> Iterator[Any]:
        yield from range(count)
        raise ValueError("half way")

    @plugin.method
    def tells(self, count: int, message: str) -> Generator[Any, None, int]:
        for number in range(count):
            yield Progress(number + 1, count, message)
        return count
