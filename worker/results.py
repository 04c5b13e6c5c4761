"""Values of the plugin on their way out: packed within the limits, or refused with a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..protocol import limits, messages
from ..protocol.errors import Code, Fault
from ..protocol.payload import pack_payload

_ENVELOPE_BYTES = 1024  # more than any head of a message of ours


def pack_within(value: Any, what: str, where: Callable[[], str], inside: int = 0) -> bytes:
    """The packed value, if it can travel in a message, `inside` more containers than a result.

    Raises Fault RESULT_INVALID, which names the type and the place in the value (`what[3].boxes`)
    and the plugin's method or hook (`where`).
    """
    try:
        raw = pack_payload(value, what)
    except Exception as err:  # noqa: BLE001  packing runs code of the plugin's classes
        raise Fault.new(Code.RESULT_INVALID, f"{err} ({where()})") from None
    size = len(raw) + _ENVELOPE_BYTES
    if size > limits.MESSAGE_BYTES:
        text = f"{what} of {len(raw)} bytes, a message holds {limits.MESSAGE_BYTES}"
        raise Fault.new(Code.RESULT_INVALID, f"{text} ({where()})")
    # A value of n bytes is nested n deep at most.
    if len(raw) + inside >= limits.NESTING_DEPTH and isinstance(value, (list, tuple, dict)):
        try:
            messages.open_message(messages.response_raw(0, b"\x91" * inside + raw))
        except Fault as fault:
            text = f"{what} is {fault.message}"
            raise Fault.new(Code.RESULT_INVALID, f"{text} ({where()})") from None
    return raw
