"""The record of a job, as `run` with `record`, `wait` and `job_done` answer it."""

from __future__ import annotations

import msgpack

from ..protocol.messages import NIL, pack
from .model import Job

_packer = msgpack.Packer(autoreset=True)
_RESULT = pack("result")


def pack_record(job: Job) -> bytes:
    """`{job, plugin, release, generation, worker, state, …, result}`; the result is spliced in."""
    return pack_head(job) + (NIL if job.result is None else job.result)


def pack_head(job: Job) -> bytes:
    """The record up to its last value, the result."""
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
        "generation": job.generation,
        "worker": job.worker.id if job.worker else None,
        "state": job.state.value,
        "attempts": job.attempts,
        "queued_ms": round(job.queued_s * 1000, 3),
        "ran_ms": round(job.ran_s * 1000, 3),
        "error": job.fault.wire() if job.fault else None,
    }
    parts = [_packer.pack_map_header(len(facts) + 1)]
    for key, value in facts.items():
        parts += (pack(key), pack(value))
    return b"".join((*parts, _RESULT))
