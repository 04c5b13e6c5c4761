"""Error codes of the wire, what each means for the job, and the two ways a call can fail.

A `Fault` ends one call; a `Fatal` ends the connection (or the worker). Source of the table:
the protocol page, section 5.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Code(IntEnum):
    """Codes of `[code, message, data]`; 10000 and above belong to plugins."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    JOB_FAILED = 1000
    CANCELLED = 1001
    DEADLINE = 1002
    WORKER_LOST = 1003
    RESULT_INVALID = 1004
    POISONED = 1005
    BUSY = 1010
    STOPPING = 1011
    UNAVAILABLE = 1012
    NOT_FOUND = 1013
    CONFLICT = 1014
    CHANGE_FAILED = 1016
    STATE_INCOMPATIBLE = 1017
    UNSUPPORTED = 1018
    TOO_LARGE = 1019
    NO_COMMON_PROTOCOL = 1020
    DENIED = 1021


class FatalCode(IntEnum):
    """Codes that are sent in `goaway` only: the connection ends."""

    NOT_A_MESSAGE = 2000
    MESSAGE_TOO_LARGE = 2001
    TOO_DEEP = 2002
    BAD_ENVELOPE = 2003
    DUPLICATE_MSGID = 2004
    UNFINISHED = 2005
    UNREAD = 2006
    FLOOD = 2007
    TOO_MANY_CONNECTIONS = 2008
    CLOSING = 2009  # an orderly end: `shutdown`, a stop


# For each code: may it succeed later, and did the job run?
TRAITS: dict[int, tuple[bool, str]] = {
    Code.PARSE: (False, "no"),
    Code.INVALID_REQUEST: (False, "no"),
    Code.METHOD_NOT_FOUND: (False, "no"),
    Code.INVALID_PARAMS: (False, "no"),
    Code.INTERNAL: (True, "maybe"),
    Code.JOB_FAILED: (False, "yes"),
    Code.CANCELLED: (False, "no"),
    Code.DEADLINE: (True, "no"),
    Code.WORKER_LOST: (False, "maybe"),
    Code.RESULT_INVALID: (False, "yes"),
    Code.POISONED: (False, "maybe"),
    Code.BUSY: (True, "no"),
    Code.STOPPING: (True, "no"),
    Code.UNAVAILABLE: (True, "no"),
    Code.NOT_FOUND: (False, "no"),
    Code.CONFLICT: (False, "no"),
    Code.CHANGE_FAILED: (False, "no"),
    Code.STATE_INCOMPATIBLE: (False, "no"),
    Code.UNSUPPORTED: (False, "no"),
    Code.TOO_LARGE: (False, "no"),
    Code.NO_COMMON_PROTOCOL: (False, "no"),
    Code.DENIED: (False, "no"),
}

FOREIGN = 1000  # R7: any other non-nil error value becomes [1000, str(value), {}]


class Fault(Exception):
    """One call failed: `code`, `message` and `data` as they travel.

    `kind` and `msgid` are those of the message that could not be taken, where they are known.
    """

    def __init__(self, code: int, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data: dict[str, Any] = data if data is not None else {}
        self.kind: int | None = None
        self.msgid: int | None = None

    @classmethod
    def new(cls, code: int, message: str, **data: Any) -> Fault:
        """Build a fault of ours: `retryable` and `executed` come from the table unless given."""
        retryable, executed = TRAITS.get(code, (False, "yes"))
        return cls(code, message, {"retryable": retryable, "executed": executed, **data})

    @classmethod
    def of(cls, value: Any) -> Fault:
        """Take an error as it came over the wire (R7: whatever is not ours becomes 1000)."""
        if isinstance(value, (list, tuple)) and len(value) == 3:
            code, message, data = value
            if type(code) is int and isinstance(message, str) and isinstance(data, dict):
                return cls(code, message, data)
        return cls(FOREIGN, _text(value), {})

    def wire(self) -> list[Any]:
        """`[code, message, data]`."""
        return [int(self.code), self.message, self.data]

    @property
    def retryable(self) -> bool:
        """May the same call succeed later?"""
        return bool(self.data.get("retryable", TRAITS.get(self.code, (False, ""))[0]))

    @property
    def executed(self) -> str:
        """`no`, `maybe` or `yes`: did the job run?"""
        return str(self.data.get("executed", TRAITS.get(self.code, (False, "yes"))[1]))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.code, self.message, self.data))


class Fatal(Exception):
    """The peer broke the protocol: the connection ends (`goaway`), a worker is killed."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.code, self.message))


def _text(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[1], str):
        return value[1]  # Neovim's [type, message]
    return str(value)
