"""The outcomes of submitted jobs until somebody asks for them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict


class Kept:
    """Records by job id, at most `limit_bytes` of them: the oldest go first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_bytes: int) -> None:
        self._loop = loop
        self._limit = limit_bytes
        self._bytes = 0
        self._records: OrderedDict[str, bytes] = OrderedDict()
        self._waiting: dict[str, list[asyncio.Future[bytes]]] = {}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._records

    def keep(self, job_id: str, record: bytes) -> None:
        """Hand the record to whoever waits, and keep it."""
        self._hand_out(job_id, record)
        self._records[job_id] = record
        self._bytes += len(record)
        while self._bytes > self._limit and len(self._records) > 1:
            self._bytes -= len(self._records.popitem(last=False)[1])

    def deliver(self, job_id: str, record: bytes) -> None:
        """It was sent already: only whoever waits gets it too."""
        self._hand_out(job_id, record)

    def _hand_out(self, job_id: str, record: bytes) -> None:
        for future in self._waiting.pop(job_id, ()):
            if not future.done():
                future.set_result(record)

    def ask(self, job_id: str) -> asyncio.Future[bytes]:
        """A future of the record."""
        future: asyncio.Future[bytes] = self._loop.create_future()
        if job_id in self._records:
            future.set_result(self._records[job_id])
        else:
            self._waiting.setdefault(job_id, []).append(future)
        return future

    def forget(self, job_id: str) -> None:
        """It was delivered, or nobody wants it."""
        record = self._records.pop(job_id, None)
        if record is not None:
            self._bytes -= len(record)
