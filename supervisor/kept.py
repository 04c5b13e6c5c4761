"""The outcomes of submitted jobs until somebody asks for them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from .job import Job
from .record import Record, record_of

_BESIDE_BYTES = 500  # what an outcome costs beside its record, roughly


def call_of(plugin: str, method: str, args: bytes) -> bytes:
    """Tell one call from another, in a few bytes."""
    return sha256(f"{plugin}\0{method}\0".encode() + args).digest()


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of one job, as long as somebody may ask for it, and which call it was."""

    call: bytes
    record: Record

    @classmethod
    def of(cls, job: Job) -> Self:
        """What is left of a job that has ended."""
        return cls(call_of(job.plugin, job.method, job.args), record_of(job))

    @property
    def size_bytes(self) -> int:
        """What it costs to keep."""
        return _BESIDE_BYTES + len(self.record.head) + len(self.record.result)


class Kept:
    """By job id, at most `limit_bytes`: the oldest go first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._ended: OrderedDict[str, Ended] = OrderedDict()

    def get(self, job_id: str) -> Ended | None:
        """The outcome, if it is still here."""
        return self._ended.get(job_id)

    def __len__(self) -> int:
        return len(self._ended)

    @property
    def size_bytes(self) -> int:
        """What all of them cost."""
        return self._bytes

    def keep(self, job_id: str, ended: Ended) -> list[str]:
        """Keep the outcome, and let the oldest go as needed; the ids of those."""
        self.forget(job_id)
        self._ended[job_id] = ended
        self._bytes += ended.size_bytes
        gone = []
        while self._bytes > self._limit and len(self._ended) > 1:
            oldest, outcome = self._ended.popitem(last=False)
            self._bytes -= outcome.size_bytes
            gone.append(oldest)
        return gone

    def forget(self, job_id: str) -> None:
        """It was delivered, or nobody wants it."""
        ended = self._ended.pop(job_id, None)
        if ended is not None:
            self._bytes -= ended.size_bytes
