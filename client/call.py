"""One request that awaits its answer, and who is told.

A call is told exactly once: whoever takes it out of the session's table tells it.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any, Protocol

from ..protocol.errors import Fault
from ..protocol.messages import unpack
from .errors import ChangeoverError
from .faults import error_of


class Waiter(Protocol):
    """Who is told the answer of a request, from the thread that reads."""

    def answer(self, raw: bytes) -> None:
        """Take the result, still packed."""

    def fail(self, error: ChangeoverError) -> None:
        """Take the error."""


class JobWaiter(Waiter, Protocol):
    """Who also hears of a job while it runs."""

    def take_progress(self, report: Any) -> None:
        """Take one report, the newest."""

    def take_item(self, seq: int, raw: bytes) -> None:
        """Take one item of a generator, still packed."""


class Call:
    """A request under way.

    `job` is empty for control requests. `plugin`, `target` (the plugin's method) and
    `is_idempotent` decide whether a job may be sent again when the supervisor restarts.
    """

    __slots__ = (
        "hears", "is_idempotent", "is_sent", "is_unwanted", "job", "message",
        "method", "msgid", "parts", "plugin",
        "size", "target", "waiter",
    )  # fmt: skip

    def __init__(self, method: str, parts: list[bytes], waiter: Waiter) -> None:
        self.method = method
        self.parts = parts
        self.waiter = waiter
        self.msgid = -1
        self.message = b""
        self.size = 0  # bytes that count against the session's limit: those of a job
        self.is_sent = False
        self.is_unwanted = False  # cancelled: it is never sent again
        self.job = ""
        self.plugin = ""
        self.target = ""
        self.is_idempotent = False
        self.hears: JobWaiter | None = None  # progress and items


class Reply(concurrent.futures.Future[Any]):
    """The answer of a control request; `read` makes of it what the caller wants."""

    def __init__(self, read: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self._read = read

    def answer(self, raw: bytes) -> None:
        """Take the result, still packed."""
        try:
            value = unpack(raw)
            if self._read is not None:
                value = self._read(value)
        except Fault as fault:
            self.set_exception(error_of(fault))
        except (AttributeError, ChangeoverError, LookupError, TypeError, ValueError) as err:
            self.set_exception(err)
        else:
            self.set_result(value)

    def fail(self, error: ChangeoverError) -> None:
        """Take the error."""
        self.set_exception(error)

    def cancel(self) -> bool:
        """A control request cannot be called back."""
        return False
