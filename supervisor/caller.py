"""Who waits for a job: whoever sent `run` or `submit`, and whoever asks for it with `wait`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..protocol.errors import Code, Fault
from ..protocol.messages import NIL, pack
from .job import Job
from .kept import Ended
from .record import record_of

if TYPE_CHECKING:
    from .session import Session


class Caller:
    """One request for one job. A job has one per request that named its id."""

    __slots__ = ("cancels", "credits", "is_answered", "is_duplicate", "is_forgotten", "msgid",
                 "notifies", "progress", "record", "runs", "session", "size")  # fmt: skip

    def __init__(self, session: Session, msgid: int, *, runs: bool, size: int) -> None:
        self.session = session
        self.msgid = msgid
        self.runs = runs  # `run`: answered when it ends; else `submit`: when it is accepted
        self.size = size  # bytes in flight on its account
        self.record = False
        self.notifies = False
        self.progress = False
        self.credits = 0  # items it may still be sent
        self.cancels = runs  # what its disconnect means for the job
        self.is_duplicate = False  # the job was another request's before
        self.is_answered = False
        self.is_forgotten = False  # nobody will ask for the outcome

    @property
    def holds(self) -> bool:
        """Is this a reason for the job to go on?"""
        return self.session.is_open or not self.cancels

    def admitted(self, job: Job) -> None:
        """The job was accepted (or is the one that was)."""
        if not self.runs and not self.is_answered:
            self.is_answered = True
            answer = {"job": job.id, "duplicate": self.is_duplicate}
            self.session.respond(self.msgid, pack(answer))

    def settled(self, job: Job) -> None:
        """The job ended."""
        self.session.job_left(job, self)
        if self.runs:
            self._answer_run(job)
            self.session.delivered(job.id)
        elif not self.is_answered:  # it never got into the queue
            self.is_answered = True
            fault = job.fault or Fault.new(Code.INTERNAL, "the job ended before it was accepted")
            self.session.refuse(self.msgid, fault)
        elif not self.is_forgotten:
            self.session.keep(job.id, Ended.of(job), notify=self.notifies)

    def _answer_run(self, job: Job) -> None:
        """A refusal is an error, also for who wants the record."""
        if self.record and job.is_accepted:
            self.session.respond(self.msgid, record_of(job).packed)
        elif job.fault is not None:
            self.session.refuse(self.msgid, job.fault)
        else:
            self.session.respond(self.msgid, NIL if job.result is None else job.result)

    def replay(self, job_id: str, ended: Ended) -> None:
        """The job had ended before this request came."""
        record = ended.record
        if not self.runs:
            self.session.respond(self.msgid, pack({"job": job_id, "duplicate": True}))
            return
        self.session.delivered(job_id)
        if self.record:
            self.session.respond(self.msgid, record.packed)
        elif record.fault is not None:
            self.session.refuse(self.msgid, record.fault)
        else:
            self.session.respond(self.msgid, record.result)


class Heir:
    """In place of those who waited for a job that the journal brought back: they went with the
    supervisor before this one. Whoever knows its id may join, or ask for the outcome.
    """

    __slots__ = ()

    progress = False
    credits = 0
    holds = True
    is_forgotten = False

    def admitted(self, job: Job) -> None:
        """Told in another life."""

    def settled(self, job: Job) -> None:
        """The journal keeps the outcome."""


class Waiter:
    """One who asked with `wait` for a job that has not ended. It is no reason to go on."""

    __slots__ = ("future",)

    progress = False
    credits = 0
    holds = False
    is_forgotten = True  # the outcome is not kept on its account

    def __init__(self) -> None:
        self.future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    def admitted(self, job: Job) -> None:
        """Nothing to tell yet."""

    def settled(self, job: Job) -> None:
        """The job ended."""
        if not self.future.done():
            self.future.set_result(Ended.of(job))
