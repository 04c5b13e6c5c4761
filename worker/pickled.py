"""Plugins given from code: a callable that the client pickled with dill.

The bytes of another Python minor version are refused before they are unpickled: they would crash
this interpreter.
"""

from __future__ import annotations

import sys
from typing import Any

from ..protocol import messages
from ..protocol.errors import Fault
from .blame import LoadError


def load_pickled(path: str) -> Any:
    """The callable in a file of `{"python": [3, 11], "pickle": bytes}`."""
    with open(path, "rb") as file:
        raw = file.read()
    try:
        content = messages.unpack(raw)
        version, pickle = tuple(content["python"]), content["pickle"]
    except (Fault, KeyError, TypeError) as err:
        raise LoadError(f"this is no pickled callable: {type(err).__name__}: {err}") from None
    here = tuple(sys.version_info[:2])
    if version != here:
        raise LoadError(
            f"pickled by Python {_dotted(version)}, this worker runs {_dotted(here)}: a callable "
            f"cannot pass from one to the other; put it in a file, or use one Python"
        )
    return _unpickled(pickle)


def _unpickled(pickle: bytes) -> Any:
    try:
        import dill
    except ModuleNotFoundError:
        raise LoadError("a callable given from code needs dill here: pip install dill") from None
    found = dill.loads(pickle)  # noqa: S301  the caller's own code, which is to run here
    if not callable(found):
        raise LoadError(f"what was pickled cannot be called: {type(found).__name__}")
    return found


def _dotted(version: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in version)
