"""What a caller can know of a job that ended: the record of the wire, read.

Pure: bytes in, facts and a value or an error out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack

from ..protocol.errors import Code, Fault
from ..protocol.payload import unpack_payload
from .errors import ChangeoverError
from .faults import error_of


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """Which release ran a job, where, how often and how long. None = not known (yet)."""

    job: str
    plugin: str
    state: str | None = None
    release: int | None = None
    version: str | None = None
    digest: str | None = None
    generation: int | None = None
    worker: str | None = None
    attempts: int | None = None
    queued_ms: int | None = None
    ran_ms: int | None = None

    @classmethod
    def of(cls, record: dict[str, Any]) -> JobInfo:
        """Read the map that travels; what a later supervisor adds is ignored."""
        release = record.get("release") or {}
        return cls(
            job=record["job"],
            plugin=record["plugin"],
            state=record.get("state"),
            release=release.get("number"),
            version=release.get("version"),
            digest=release.get("digest"),
            generation=record.get("generation"),
            worker=record.get("worker"),
            attempts=record.get("attempts"),
            queued_ms=record.get("queued_ms"),
            ran_ms=record.get("ran_ms"),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: `error` is None when `value` is its result."""

    info: JobInfo
    value: Any
    error: ChangeoverError | None

    @classmethod
    def of(cls, raw: bytes) -> Outcome:
        """Read a packed record. Raises ValueError when it is none."""
        try:
            record = unpack_payload(raw)
        except ValueError as err:
            return cls._unreadable(raw, err)
        info = _info(record)
        error = record.get("error")
        if error is None:
            return cls(info, record.get("result"), None)
        return cls(info, None, _error(error, info))

    @classmethod
    def _unreadable(cls, raw: bytes, why: ValueError) -> Outcome:
        """The result cannot be read: a fault of the plugin that must not hide which release."""
        info = _info(_plain(raw, why))
        fault = Fault.new(Code.RESULT_INVALID, f"the result cannot be read: {why}")
        return cls(info, None, _error(fault.wire(), info))


def _plain(raw: bytes, why: ValueError) -> Any:
    try:
        return msgpack.unpackb(raw, strict_map_key=False, unicode_errors="replace")
    except (ValueError, msgpack.UnpackException):
        raise why from None


def _info(record: Any) -> JobInfo:
    try:
        return JobInfo.of(record)
    except (AttributeError, KeyError, TypeError):
        raise ValueError("the answer is not the record of a job") from None


def _error(error: Any, info: JobInfo) -> ChangeoverError:
    made = error_of(Fault.of(error), plugin=info.plugin, job=info.job)
    made.plugin, made.job = info.plugin, info.job
    if info.release is not None:
        made.release = info.release
    return made
