"""Media in, the same kind of media out.

A PyAV frame travels as a `Frame`; a caller who gave one, or a numpy array, gets his kind back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..protocol.frame import Frame
from .media import for_sending, like_input

Restore = Callable[[Any], Any]


def sendable(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], Restore | None]:
    """The arguments as they can be packed, and what makes the first one's kind of a result."""
    sent = tuple(map(for_sending, args))
    named = {name: for_sending(value) for name, value in kwargs.items()}
    if not args or not (isinstance(sent[0], Frame) or _is_array(args[0])):
        return sent, named, None
    return sent, named, functools.partial(_restore, args[0])


def _restore(original: Any, result: Any) -> Any:
    return like_input(result, original)


def _is_array(value: Any) -> bool:
    kind = type(value)
    return kind.__module__ == "numpy" and kind.__name__ == "ndarray"
