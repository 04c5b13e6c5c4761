"""The hash chain of the history: how a line follows from the one before, and reading it back.

A line is one JSON object and a newline. `seq` is one more than in the line before; `prev` is the
SHA-256 of the bytes of the line before (without its newline), 64 zeros in the first line. So an
edited or removed line shows at the line after it. Nothing here writes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GENESIS = "0" * 64
LINE_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16

Entry = dict[str, Any]


class BrokenChain(Exception):
    """The file is not what was written; `line` (from 1) is the first that cannot be trusted."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line} {reason}")
        self.line = line
        self.reason = reason


class HistoryError(Exception):
    """The entry is not in the history, or the history cannot be had; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Does every line follow from the one before?"""

    lines: int  # that were found to be right
    bad_line: int | None = None  # the first that is not, from 1
    reason: str = ""

    @property
    def is_ok(self) -> bool:
        return self.bad_line is None


def link(line: bytes) -> str:
    """What the next line must carry as `prev`."""
    return hashlib.sha256(line).hexdigest()


def encode(entry: Entry) -> bytes:
    """The line of an entry, without its newline."""
    text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A file name that is no UTF-8 holds lone surrogates; escaped like this they are JSON again.
    return text.encode("utf-8", "backslashreplace")


def decode(line: bytes) -> Entry | None:
    """The entry of a line, or None if it is not one."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or type(entry.get("seq")) is not int:
        return None
    return entry if isinstance(entry.get("prev"), str) else None


def read_chain(path: Path) -> Iterator[tuple[Entry, bytes]]:
    """All entries with their lines; BrokenChain at the first that does not follow."""
    before: Entry | None = None
    expected = GENESIS
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LINE_BYTES + 1):
            number += 1
            if not raw.endswith(b"\n"):
                raise BrokenChain(number, "is cut off or too long")
            entry = decode(raw[:-1])
            if entry is None:
                raise BrokenChain(number, "is not an entry")
            _check(number, entry, before, expected)
            yield entry, raw[:-1]
            before, expected = entry, link(raw[:-1])


def read_backwards(path: Path) -> Iterator[bytes]:
    """The lines, last to first, without reading more of the file than is asked for."""
    with path.open("rb") as file:
        at, tail = file.seek(0, os.SEEK_END), b""
        while at > 0:
            size = min(_BLOCK_BYTES, at)
            at -= size
            file.seek(at)
            first, *lines = (file.read(size) + tail).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            tail = first
        if tail:
            yield tail


def first_entry(path: Path) -> Entry | None:
    """The entry of the first line; None if there is none that can be read."""
    with path.open("rb") as file:
        return decode(file.readline(LINE_BYTES))


def last_number(path: Path) -> int:
    """At least the highest `seq` of a damaged file: numbers are never used twice."""
    lines, highest = 0, 0
    with path.open("rb") as file:
        while raw := file.readline(LINE_BYTES):
            entry = decode(raw)
            lines, highest = lines + 1, max(highest, entry["seq"] if entry else 0)
    return max(lines, highest)


def _check(number: int, entry: Entry, before: Entry | None, expected: str) -> None:
    if before is None:
        if entry["prev"] != expected:
            raise BrokenChain(1, "is not the first that was written: lines before it are gone")
        return
    if entry["seq"] != before["seq"] + 1:
        gap = f"{before['seq']} is followed by {entry['seq']}"
        raise BrokenChain(number, f"is out of order, {gap}: lines were moved or removed")
    if entry["prev"] != expected:
        raise BrokenChain(number - 1, "was changed after it was written, or the one after it")
