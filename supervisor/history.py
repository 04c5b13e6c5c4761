"""The audit trail: one JSON object a line, appended and on disk, each naming the one before.

Detects edits and removals by hand, not a full rewrite. A line that a crash cut off is kept aside
and the chain goes on; a chain that is broken is kept aside whole and a new one starts, naming it.
Nothing here knows what an entry means. One thread uses it; the caller gives the time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .chain import (
    GENESIS,
    LINE_BYTES,
    BrokenChain,
    Entry,
    HistoryError,
    Verification,
    decode,
    encode,
    first_entry,
    last_number,
    link,
    read_backwards,
    read_chain,
)
from .trees import sync_folder


class History:
    """An open history. `notes`: what had to be repaired, in words for the operator."""

    def __init__(self, path: Path, *, time: str) -> None:
        """Open or begin the history at `time` (RFC 3339); HistoryError if it cannot be had."""
        self.path = path
        self.notes: list[str] = []
        self._seq, self._prev = 0, GENESIS
        self._leftover_from: int | None = None  # size before a write that failed half-way
        try:
            self._fd = _open_to_append(path)
        except OSError as error:
            raise _unrecorded(path, "opened", error) from error
        try:
            self._take_up(time)
        except (OSError, HistoryError) as error:
            os.close(self._fd)
            raise _unrecorded(path, "repaired", error) from error

    def append(self, entry: Mapping[str, Any], *, time: str) -> Entry:
        """Put an entry on disk and return it complete, with its `seq`, `time` and `prev`.

        HistoryError when it is not on disk; then the file is as it was before.
        """
        if not entry.keys().isdisjoint(("seq", "time", "prev")):
            raise ValueError("seq, time and prev are the history's own")
        try:
            if not self._is_in_place():
                self._begin_anew(BrokenChain(1, "went: the file was moved or removed"), time)
        except OSError as error:
            raise _unrecorded(self.path, "begun anew", error) from error
        return self._append(entry, time)

    def tail(self, n: int, plugin: str | None = None) -> list[Entry]:
        """The last `n` entries (of one plugin), oldest first."""
        found: list[Entry] = []
        for line in read_backwards(self.path) if n > 0 else ():
            entry = decode(line)
            if entry is not None and plugin in (None, entry.get("plugin")):
                found.append(entry)
            if len(found) == n:
                break
        return found[::-1]

    def replay(self) -> Iterator[Entry]:
        """All entries since the beginning, with what can be trusted of the histories kept aside.

        For the start: BrokenChain if the file was damaged since it was opened.
        """
        for path, good_lines in reversed(self._lineage()):
            for _, (entry, _) in zip(range(good_lines), read_chain(path), strict=False):
                yield entry

    def verify(self) -> Verification:
        """Read everything back and check every link, and that the end is what we wrote last."""
        lines, last = 0, GENESIS
        try:
            for _, line in read_chain(self.path):
                lines, last = lines + 1, link(line)
        except BrokenChain as broken:
            return Verification(lines=broken.line - 1, bad_line=broken.line, reason=broken.reason)
        except OSError as error:
            return Verification(lines=0, bad_line=1, reason=f"cannot be read: {error.strerror}")
        if last != self._prev:
            reason = "is not the last that was written: it was changed, or lines after it are gone"
            return Verification(lines=max(lines - 1, 0), bad_line=max(lines, 1), reason=reason)
        return Verification(lines=lines)

    def close(self) -> None:
        os.close(self._fd)

    def _append(self, entry: Mapping[str, Any], time: str) -> Entry:
        whole = {"seq": self._seq + 1, "time": time, "prev": self._prev, **entry}
        line = encode(whole)
        if len(line) >= LINE_BYTES:
            raise HistoryError(f"an entry of {len(line)} bytes is too long: {LINE_BYTES} at most")
        self._write(line + b"\n")
        self._seq, self._prev = self._seq + 1, link(line)
        return whole

    def _take_up(self, time: str) -> None:
        torn = self._cut_torn_line()
        try:
            for entry, line in read_chain(self.path):
                self._seq, self._prev = entry["seq"], link(line)
        except BrokenChain as broken:
            if torn:
                self._aside("torn").write_bytes(torn)
            self._begin_anew(broken, time)
            return
        if torn:
            self._keep_torn_line(torn, time)

    def _cut_torn_line(self) -> bytes:
        """What a crash left of the last line. Nobody was told that it is on disk."""
        size = os.fstat(self._fd).st_size
        last = next(read_backwards(self.path), b"")
        if not last or os.pread(self._fd, 1, size - 1) == b"\n":
            return b""
        os.ftruncate(self._fd, size - len(last))
        return last

    def _keep_torn_line(self, torn: bytes, time: str) -> None:
        entry = decode(torn)
        if entry is not None and (entry["seq"], entry["prev"]) == (self._seq + 1, self._prev):
            self._write(torn + b"\n")  # only its newline was missing
            self._seq, self._prev = entry["seq"], link(torn)
            return
        aside = self._aside("torn")
        aside.write_bytes(torn)
        repaired = {"event": "history-repaired", "aside": aside.name, "bytes": len(torn)}
        self._append(repaired, time)
        self.notes.append(
            f"the last line of the history {self.path} was cut off by a crash: {len(torn)} bytes\n"
            f"  they are kept in {aside.name}; all {self._seq - 1} entries before are whole"
        )

    def _begin_anew(self, broken: BrokenChain, time: str) -> None:
        reason = f"line {broken.line} {broken.reason}"
        restarted: Entry = {"event": "history-restarted", "reason": reason}
        kept = "nothing is left of it"
        if self.path.exists():
            aside, good = self._aside("bad"), broken.line - 1
            self._seq = max(self._seq, last_number(self.path))
            os.rename(self.path, aside)
            restarted |= {"aside": aside.name, "good_lines": good}
            kept = f"it is kept as {aside.name}, its first {good} entries count"
        fd = _open_to_append(self.path)
        os.close(self._fd)
        self._fd, self._prev = fd, GENESIS
        self._append(restarted, time)
        self.notes.append(
            f"the history {self.path} was damaged: {reason}\n"
            f"  {kept}; a new one has begun, and what runs goes on"
        )

    def _is_in_place(self) -> bool:
        """A file that was deleted or rotated away would swallow entries."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _aside(self, kind: str) -> Path:
        number = 1
        while (path := self.path.with_name(f"{self.path.name}.{kind}-{number}")).exists():
            number += 1
        return path

    def _lineage(self) -> list[tuple[Path, int]]:
        """This file and those that were kept aside, newest first, with their good lines."""
        found = {self.path: sys.maxsize}
        path = self.path
        while (first := first_entry(path)) is not None:
            aside, good_lines = str(first.get("aside")), first.get("good_lines")
            if not aside.startswith(f"{self.path.name}.bad-") or not isinstance(good_lines, int):
                break
            path = self.path.with_name(Path(aside).name)
            if path in found or not path.exists():
                break
            found[path] = good_lines
        return list(found.items())

    def _write(self, data: bytes) -> None:
        try:
            self._clean()
            self._leftover_from = os.fstat(self._fd).st_size
            _put(self._fd, data)
            self._leftover_from = None
        except OSError as error:
            with contextlib.suppress(OSError):  # else it is tried again before the next entry
                self._clean()
            raise _unrecorded(self.path, "written", error) from error

    def _clean(self) -> None:
        if self._leftover_from is not None:
            os.ftruncate(self._fd, self._leftover_from)
            self._leftover_from = None


def _open_to_append(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    sync_folder(path.parent)
    return fd


def _unrecorded(path: Path, verb: str, error: OSError | HistoryError) -> HistoryError:
    what = f"the history {path} cannot be {verb}: {getattr(error, 'strerror', None) or error}"
    return HistoryError(
        f"{what}\n  what runs goes on, but changeovers are not recorded: "
        "free some space there and let this user write, or set state_dir"
    )


def _put(fd: int, data: bytes) -> None:
    if os.write(fd, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(fd)
