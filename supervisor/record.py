"""The record of a job, as `run` with `record`, `wait` and `job_done` answer it."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from ..protocol import limits
from ..protocol.errors import Code, Fault
from ..protocol.messages import NIL, is_too_deep, pack, unpack
from .job import Job

_packer = msgpack.Packer(autoreset=True)
_RESULT = pack("result")
_AROUND = 3  # the message, the array of `wait` or of params, the record


class Record(NamedTuple):
    """One job's outcome: `head` is the packed record up to its last value, the `result`."""

    head: bytes
    result: bytes
    state: str
    fault: Fault | None

    @property
    def packed(self) -> bytes:
        """`{job, plugin, release, generation, worker, state, …, result}`."""
        return self.head + self.result

    @property
    def facts(self) -> dict[str, Any]:
        """All but the result."""
        facts: dict[str, Any] = unpack(self.head + NIL)
        del facts["result"]
        return facts


def record_of(job: Job) -> Record:
    """The record of a job that has ended."""
    result = NIL if job.result is None else job.result
    state, fault = job.state.value, job.fault
    if len(result) > limits.NESTING_DEPTH - _AROUND and is_too_deep(result, _AROUND):
        # It is deeper here than it was in the worker's answer, and would be refused on its way.
        text = f"the result is nested deeper than {limits.NESTING_DEPTH - _AROUND} in a record"
        state, fault = "failed", Fault.new(Code.RESULT_INVALID, text, job=job.id, plugin=job.plugin)
        result = NIL
    return Record(_head(job, state, fault), result, state, fault)


def _head(job: Job, state: str, fault: Fault | None) -> bytes:
    release = job.release
    facts = {
        "job": job.id,
        "plugin": job.plugin,
        "release": release
        and {
            "number": release.number,
            "version": release.version,
            "digest": release.digest,
            "hash": f"{release.hash:016x}",
        },
        "generation": job.generation or None,
        "worker": job.worker.id if job.worker else None,
        "state": state,
        "attempts": job.attempts,
        "queued_ms": round(job.queued_s * 1000),
        "ran_ms": round(job.ran_s * 1000),
        "error": fault.wire() if fault else None,
    }
    parts = [_packer.pack_map_header(len(facts) + 1)]
    for key, value in facts.items():
        parts += (pack(key), pack(value))
    return b"".join((*parts, _RESULT))
