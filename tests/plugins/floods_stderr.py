"""Writes to stderr: so many bytes, without a newline or as short lines."""

import os

from changeover.worker import plugin


@plugin(version="1.0.0")
def floods_stderr(size: int, line: str = "x" * 65536) -> int:
    data = memoryview(line.encode() * max(1, 65536 // len(line)))
    written = 0
    while written < size:
        written += os.write(2, data[: size - written])
    return written
