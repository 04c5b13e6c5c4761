"""The method that asks for outcomes: wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ..protocol import limits
from ..protocol.errors import Code, Fault
from ..protocol.messages import Message, pack
from . import calls
from .caller import Waiter
from .kept import Ended
from .session import ENVELOPE_BYTES, Session


def wait(session: Session, message: Message) -> Coroutine[Any, Any, bytes]:
    """`[[job, …], O{mode, timeout_ms, forget}]` → `[record, …]` of those that have ended."""
    job_ids = list(dict.fromkeys(calls.names(message, 0, "jobs")))
    given = calls.options(message, 1)
    mode = calls.choice(given, "mode", ("all", "any"))
    timeout_s = calls.seconds(given, "timeout_ms")
    forgets = calls.flag(given, "forget")
    return _Wait(session, job_ids).answer(mode, timeout_s, forgets=forgets)


class _Wait:
    """One request. Raises Fault NOT_FOUND for a job that nobody knows."""

    def __init__(self, session: Session, job_ids: list[str]) -> None:
        self._session = session
        self._job_ids = job_ids
        self._jobs = session.service.shell.core.jobs
        self._waiters: dict[str, Waiter] = {}
        self._ended: dict[str, Ended] = {}
        unknown = [job_id for job_id in job_ids if not self._is_known(job_id)]
        if unknown:
            raise Fault.new(Code.NOT_FOUND, f"no job {unknown[0]!r:.80}", job=unknown[0])
        for job_id in job_ids:
            ended = session.outcome(job_id)
            if ended is not None:
                self._ended[job_id] = ended
            else:
                self._waiters[job_id] = waiter = Waiter()
                self._jobs[job_id].owner.append(waiter)

    def _is_known(self, job_id: str) -> bool:
        return job_id in self._jobs or self._session.outcome(job_id) is not None

    async def answer(self, mode: str, timeout_s: float | None, *, forgets: bool) -> bytes:
        """Wait as long as asked, and deliver."""
        try:
            if self._waiters and not (self._ended and mode == "any"):
                how = asyncio.ALL_COMPLETED if mode == "all" else asyncio.FIRST_COMPLETED
                futures = [waiter.future for waiter in self._waiters.values()]
                await asyncio.wait(futures, timeout=timeout_s, return_when=how)
        finally:
            self._leave()
        ledger = self._session.service.shell.ledger
        if any(ledger.get(job_id) is not None for job_id in self._ended):
            await ledger.written()  # nothing is told that a kill could still undo
        ended = [self._ended[name] for name in self._job_ids if name in self._ended]
        records = [each.record.packed for each in ended]
        answer = _pack_array(records)
        if len(answer) <= limits.MESSAGE_BYTES - ENVELOPE_BYTES:  # else each can be had by itself
            self._forget(self._job_ids if forgets else list(self._ended))
        return answer

    def _leave(self) -> None:
        for job_id, waiter in self._waiters.items():
            if waiter.future.done():
                self._ended[job_id] = waiter.future.result()
            elif job_id in self._jobs:
                self._jobs[job_id].owner.remove(waiter)

    def _forget(self, job_ids: list[str]) -> None:
        """Delivered, or wanted no more: also what has not ended yet will not be kept."""
        for job_id in job_ids:
            self._session.kept.forget(job_id)
            self._session.delivered(job_id)
            if job_id in self._session.callers:
                self._session.callers[job_id].is_forgotten = True


def _pack_array(parts: list[bytes]) -> bytes:
    """An array of values that are packed already."""
    head = pack([None] * len(parts))
    return head[: len(head) - len(parts)] + b"".join(parts)
