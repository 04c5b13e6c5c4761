"""What a plugin imports: `from changeover.worker import Frame, Job, Plugin, Progress, plugin`.

The names are looked up when they are asked for: starting a worker must not cost more than what
it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..protocol.frame import Frame
    from .job import Cancelled, Job
    from .plugin_base import Plugin
    from .plugin_mark import plugin
    from .progress import Progress

__all__ = ["Frame", "Job", "Plugin", "Progress", "plugin", "Cancelled"]

_HOMES = {
    "Frame": "changeover.protocol.frame",
    "Job": "changeover.worker.job",
    "Cancelled": "changeover.worker.job",
    "Plugin": "changeover.worker.plugin_base",
    "plugin": "changeover.worker.plugin_mark",
    "Progress": "changeover.worker.progress",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
