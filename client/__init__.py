"""The pipeline developer's side: connect to a supervisor or launch one, and submit jobs.

    with launch({"denoise": "denoise.py"}) as co:
        for out in co["denoise"].map(frames):
            ...

Knows the wire, never the supervisor's inside. What is not used is not imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..protocol.frame import Frame
    from ..protocol.plugin_version import PluginVersion
    from .aio import AsyncChangeover, aconnect, alaunch
    from .aio_handle import AsyncJob, AsyncPluginHandle
    from .aio_watch import AsyncWatch
    from .changeover import Changeover
    from .changes import Change
    from .connecting import connect, launch
    from .errors import (
        Busy,
        Cancelled,
        ChangeoverError,
        Conflict,
        Denied,
        Disconnected,
        InvalidRequest,
        JobTimeout,
        NoSupervisor,
        NotFound,
        PluginError,
        Poisoned,
        Refused,
        TooLarge,
        Unavailable,
        WorkerLost,
    )
    from .future import JobFuture, Progress
    from .handle import PluginHandle
    from .info import JobInfo
    from .outcome import ChangeOutcome
    from .stream import Stream
    from .watch import Event, Watch

_HOMES = {
    "..protocol.frame": ("Frame",),
    "..protocol.plugin_version": ("PluginVersion",),
    ".aio": ("AsyncChangeover", "aconnect", "alaunch"),
    ".aio_handle": ("AsyncJob", "AsyncPluginHandle"),
    ".aio_watch": ("AsyncWatch",),
    ".changeover": ("Changeover",),
    ".changes": ("Change",),
    ".connecting": ("connect", "launch"),
    ".errors": (
        "Busy", "Cancelled", "ChangeoverError", "Conflict", "Denied", "Disconnected",
        "InvalidRequest", "JobTimeout", "NoSupervisor", "NotFound", "PluginError", "Poisoned",
        "Refused", "TooLarge", "Unavailable", "WorkerLost",
    ),
    ".future": ("JobFuture", "Progress"),
    ".handle": ("PluginHandle",),
    ".info": ("JobInfo",),
    ".outcome": ("ChangeOutcome",),
    ".stream": ("Stream",),
    ".watch": ("Event", "Watch"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncChangeover", "AsyncJob", "AsyncPluginHandle", "AsyncWatch", "Busy", "Cancelled", "Change",
    "ChangeOutcome", "Changeover", "ChangeoverError", "Conflict", "Denied", "Disconnected",
    "Event", "Frame",
    "InvalidRequest", "JobFuture", "JobInfo", "JobTimeout", "NoSupervisor", "NotFound",
    "PluginError", "PluginHandle", "PluginVersion", "Poisoned", "Progress", "Refused", "Stream",
    "TooLarge", "Unavailable", "Watch", "WorkerLost", "aconnect", "alaunch", "connect", "launch",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is asked for: `changeover status` needs no asyncio, no subprocess."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
