"""What a worker writes to stderr, as bounded log lines.

Memory and work stay flat whatever it writes: a line is cut, lines beyond the rate are counted
and not looked at. What is done with the lines is not known here.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable

LINE_BYTES = 8 * 1024
LINES_PER_S = 200
TAIL_LINES = 20
TAIL_BYTES = 4 * 1024
_READ_BYTES = 64 * 1024
_LAST_READS = 16  # the largest pipe; a grandchild may go on writing for ever
_REPORT_S = 1.0

# A terminal would obey these: they are shown, not passed on.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) != "\t"}


class Rate:
    """A token bucket that counts what it refuses. `now` is the monotonic clock's."""

    def __init__(self, per_s: int = LINES_PER_S) -> None:
        self._per_s = per_s
        self._tokens = float(per_s)
        self._then = self._reported = float("-inf")
        self.refused = 0

    def take(self, now: float) -> bool:
        """May one more line be shown?"""
        gained = (now - self._then) * self._per_s
        self._tokens = min(self._per_s, self._tokens + gained)
        self._then = now
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        return True

    def report(self, now: float) -> list[str]:
        """A line about what was refused, at most once a second."""
        if not self.refused or now - self._reported < _REPORT_S:
            return []
        refused, self.refused, self._reported = self.refused, 0, now
        return [f"({refused} lines suppressed: more than {self._per_s} a second)"]


class WorkerLog:
    """Bytes in, lines out. Pure."""

    def __init__(self) -> None:
        self.rate = Rate()
        self._line = bytearray()  # the unfinished one, at most LINE_BYTES
        self._cut = 0  # bytes that it had beyond
        self._is_returned = False  # it ended in CR: what follows is written over it
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)

    def feed(self, data: bytes, now: float) -> list[str]:
        """The lines to show of what was read."""
        lines: list[str] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if not self.rate.take(now):
                self._pass_over(data[start:])
                return lines
            self._extend(data[start:end])
            lines += self.rate.report(now)
            lines.append(self._finish())
            start = end + 1
        self._extend(data[start:])
        return lines

    def admit(self, message: str, now: float) -> list[str]:
        """A line that came another way (`log`), under the same limits."""
        if not self.rate.take(now):
            return []
        raw = message.encode("utf-8", "backslashreplace")
        return [*self.rate.report(now), _show(raw[:LINE_BYTES], len(raw) - LINE_BYTES)]

    def end(self) -> list[str]:
        """The unfinished line, at the end of the stream, and what was not reported yet."""
        unreported = self.rate.report(float("inf"))
        return [*unreported, self._finish()] if self._line else unreported

    @property
    def tail(self) -> str:
        """The last lines, the suppressed ones too: what says why a worker died."""
        lines = [*self._tail, bytes(self._line)] if self._line else self._tail
        return "\n".join(_show(line, 0) for line in lines)[-TAIL_BYTES:]

    def _extend(self, piece: bytes) -> None:
        if not piece:
            return
        body = piece.rstrip(b"\r")
        start = body.rfind(b"\r") + 1
        if start or (self._is_returned and body):
            self._line.clear()
            self._cut = 0
        self._is_returned = len(body) < len(piece) or (self._is_returned and not body)
        room = LINE_BYTES - len(self._line)
        self._line += body[start : start + room]
        self._cut += max(0, len(body) - start - room)

    def _finish(self) -> str:
        line, cut = bytes(self._line), self._cut
        self._line.clear()
        self._cut = 0
        self._is_returned = False
        self._tail.append(line)
        return _show(line, cut)

    def _pass_over(self, data: bytes) -> None:
        """Count these lines, and keep only what the tail needs. The first is counted already."""
        self.rate.refused += data.count(b"\n") - 1
        first, *rest = data.rsplit(b"\n", TAIL_LINES + 1)
        if len(rest) <= TAIL_LINES:  # else `first` is many lines, and none of the last ones
            rest.insert(0, first)
        else:
            self._finish()
        for piece in rest[:-1]:
            self._extend(piece)
            self._finish()
        self._extend(rest[-1])


class StderrPump:
    """Reads a worker's stderr, a non-blocking pipe, when the loop says that there is something.

    `emit` gets one line at a time. Owns the descriptor.
    """

    def __init__(self, fd: int, emit: Callable[[str], None]) -> None:
        self._fd = fd
        self._emit = emit
        self._log = WorkerLog()
        self._loop = asyncio.get_running_loop()
        self._report: asyncio.TimerHandle | None = None
        self._loop.add_reader(fd, self._read)

    @property
    def stderr_tail(self) -> str:
        """The last lines, for the error of a job that was lost."""
        return self._log.tail

    def admit(self, message: str) -> list[str]:
        """The lines to show of a `log` notification: cut, or none beyond the worker's rate."""
        return self._log.admit(message, self._loop.time())

    def close(self) -> None:
        """Read what is still in the pipe, and close it. Once is enough, twice is harmless."""
        if self._fd < 0:
            return
        for _ in range(_LAST_READS):
            data = self._data()
            if not data:
                break
            self._tell(self._log.feed(data, self._loop.time()))
        self._tell(self._log.end())
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        if self._report is not None:
            self._report.cancel()

    def _read(self) -> None:
        data = self._data()
        if data is None:
            return
        if not data:
            self.close()
            return
        self._tell(self._log.feed(data, self._loop.time()))
        if self._log.rate.refused and self._report is None:
            self._report = self._loop.call_later(_REPORT_S, self._report_refused)

    def _report_refused(self) -> None:
        """When nothing is shown any more there is no line to put the report before."""
        self._report = None
        self._tell(self._log.rate.report(self._loop.time()))

    def _data(self) -> bytes | None:
        try:
            return os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return None

    def _tell(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._emit(line)


def _show(line: bytes, cut: int) -> str:
    text = line.decode("utf-8", "backslashreplace").translate(_CONTROL)
    return f"{text} … ({cut} bytes cut)" if cut > 0 else text
