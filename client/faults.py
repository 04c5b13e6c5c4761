"""Which exception each code of the wire becomes."""

from __future__ import annotations

from ..protocol.errors import Code, Fault
from .errors import (
    Busy,
    Cancelled,
    ChangeoverError,
    Conflict,
    Denied,
    InvalidRequest,
    JobTimeout,
    NotFound,
    PluginError,
    Poisoned,
    Refused,
    TooLarge,
    Unavailable,
    WorkerLost,
)

PLUGIN_CODES = 10000  # and above: the plugin's own

_TYPES: dict[int, type[ChangeoverError]] = {
    Code.PARSE: InvalidRequest,
    Code.INVALID_REQUEST: InvalidRequest,
    Code.METHOD_NOT_FOUND: InvalidRequest,
    Code.INVALID_PARAMS: InvalidRequest,
    Code.INTERNAL: ChangeoverError,
    Code.JOB_FAILED: PluginError,
    Code.CANCELLED: Cancelled,
    Code.DEADLINE: JobTimeout,
    Code.WORKER_LOST: WorkerLost,
    Code.RESULT_INVALID: PluginError,
    Code.POISONED: Poisoned,
    Code.BUSY: Busy,
    Code.STOPPING: Unavailable,
    Code.UNAVAILABLE: Unavailable,
    Code.NOT_FOUND: NotFound,
    Code.CONFLICT: Conflict,
    Code.CHANGE_FAILED: Refused,
    Code.STATE_INCOMPATIBLE: Refused,
    Code.UNSUPPORTED: InvalidRequest,
    Code.TOO_LARGE: TooLarge,
    Code.NO_COMMON_PROTOCOL: InvalidRequest,
    Code.DENIED: Denied,
}


def error_of(fault: Fault, *, plugin: str | None = None, job: str | None = None) -> ChangeoverError:
    """The exception that a fault of the wire becomes."""
    known = PluginError if fault.code >= PLUGIN_CODES else ChangeoverError
    kind = _TYPES.get(fault.code, known)
    return kind(fault.message, code=fault.code, data=fault.data, plugin=plugin, job=job)
