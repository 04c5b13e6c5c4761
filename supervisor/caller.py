"""Who waits for a job: the answer to `run`, or what `submit` keeps for `wait` and `job_done`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol.errors import Code, Fault
from ..protocol.messages import NIL, pack
from .model import Job
from .record import pack_record

if TYPE_CHECKING:
    from .session import Session


class Caller:
    """One request for one job. A job has one per request that named its id."""

    __slots__ = ("cancels", "credits", "is_answered", "msgid", "notifies", "progress", "record",
                 "runs", "session", "size")  # fmt: skip

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
        self.is_answered = False

    def admitted(self, job: Job, *, duplicate: bool = False) -> None:
        """The job was accepted (or is the one that was)."""
        if not self.runs and not self.is_answered:
            self.is_answered = True
            self.session.respond(self.msgid, pack({"job": job.id, "duplicate": duplicate}))

    def settled(self, job: Job) -> None:
        """The job ended."""
        session = self.session
        session.job_left(job, self)
        if self.runs:
            self._answer_run(job)
        elif not self.is_answered:  # it never got into the queue
            self.is_answered = True
            fault = job.fault or Fault.new(Code.INTERNAL, "the job ended before it was accepted")
            session.refuse(self.msgid, fault)
        else:
            session.keep(job, pack_record(job), notify=self.notifies)

    def _answer_run(self, job: Job) -> None:
        session = self.session
        if self.record and job.seq:
            session.respond(self.msgid, pack_record(job))
        elif job.fault is not None:
            session.refuse(self.msgid, job.fault)
        else:
            session.respond(self.msgid, job.result if job.result is not None else NIL)
