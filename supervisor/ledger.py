"""What the journal is to know: noted on the loop, written in the helper thread, told afterwards.

All notes of one turn, and of the time that the write before them takes, are one transaction; who
waits for one is called back after it, in the order of the notes. Decides nothing about jobs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from ..protocol import limits
from ..protocol.errors import Code, Fault
from . import journal
from .job import Job
from .journal import Change, Journal, JournalError, Recovered
from .kept import Ended, Kept
from .log_ring import Level

RETRY_S = 1.0

Then = Callable[[], None]


@dataclass(slots=True)
class Note:
    """One change, and who waits for it."""

    job_id: str
    change: Change | None  # None: somebody only waits for what was noted before
    then: Then | None = None
    new: Job | None = None  # the job that this would accept
    begins: bool = False


class Ledger:
    """`on_refused` is told of a job that the journal could not take."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, files: Executor, book: Journal,
        narrate: Callable[[Level, str, str], None], on_refused: Callable[[Job, Fault], None],
    ) -> None:  # fmt: skip
        self._loop = loop
        self._files = files
        self._book = book
        self._narrate = narrate
        self._on_refused = on_refused
        self._notes: list[Note] = []
        self._is_writing = False
        self._next: asyncio.Handle | None = None  # the next write
        self._kept = Kept(limits.KEPT_RESULTS_BYTES)
        self._waiting: dict[str, list[Recovered]] = {}  # by plugin, until that is there
        self._unclaimed: set[str] = set()  # their ids
        self._is_shut = False  # what is in it could not be read, and must not be written over
        self._is_resting = False  # a write failed; the next one is not due yet
        self.dropped = 0  # outcomes that went unasked for
        self.failure = ""  # why it could not be written, until it can
        self._load()

    def _load(self) -> None:
        try:
            jobs, outcomes = self._book.load()
        except JournalError as error:
            self._is_shut = True
            self._fail(f"{error}\n  then start the supervisor again")
            return
        finally:
            self._tell_notes()
        for recovered in jobs:
            self._waiting.setdefault(recovered.job.plugin, []).append(recovered)
            self._unclaimed.add(recovered.job.id)
        for job_id, ended in outcomes:
            self._keep(job_id, ended)

    # -- what it knows

    def recovered(self, plugin: str) -> list[Recovered]:
        """The open jobs that a supervisor before this one left to a plugin; said once."""
        found = self._waiting.pop(plugin, [])
        self._unclaimed.difference_update(each.job.id for each in found)
        return found

    @property
    def homeless(self) -> dict[str, int]:
        """Plugins that are not there: how many open jobs wait for each."""
        return {name: len(found) for name, found in self._waiting.items()}

    def get(self, job_id: str) -> Ended | None:
        """The outcome of a durable job, until it is delivered."""
        return self._kept.get(job_id)

    def facts(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "outcomes": len(self._kept),
            "outcome_bytes": self._kept.size_bytes,
            "dropped": self.dropped,
            "waiting": self.homeless,
            "failure": self.failure,
        }

    def check(self, job: Job, *, is_durable: bool) -> None:
        """May this job be accepted? Raises Fault BUSY or CONFLICT."""
        if job.id in self._unclaimed:
            text = f"id {job.id} belongs to a job that waits for its plugin"
            raise Fault.new(Code.CONFLICT, text, job=job.id)
        if is_durable and (self._is_shut or self._is_resting):
            raise _busy(self.failure)

    # -- notes

    def accept(self, job: Job, then: Then) -> None:
        """A job has its place in the queue."""
        left_s = None if job.timer is None else job.timer.when - self._loop.time()
        deadline = None if left_s is None else time.time() + left_s
        self._note(Note(job.id, journal.accepted(job, deadline), then, new=job))

    def begin(self, job: Job, then: Then, *, may_repeat: bool) -> None:
        """A job is about to be sent to a worker."""
        change = journal.begun(job, may_repeat=may_repeat)
        self._note(Note(job.id, change, then, begins=True))

    def end(self, job: Job, then: Then) -> None:
        """A job has ended."""
        ended = Ended.of(job)
        self._note(Note(job.id, journal.ended(job.id, ended), then))
        self._keep(job.id, ended)

    def _keep(self, job_id: str, ended: Ended) -> None:
        dropped = self._kept.keep(job_id, ended)
        for each in dropped:
            self._note(Note(each, journal.forgotten(each)))
        if dropped:
            self.dropped += len(dropped)
            text = f"{len(dropped)} outcomes of durable jobs, which nobody asked for, were dropped"
            limit = f"{limits.KEPT_RESULTS_BYTES >> 20} MiB are kept"
            self._narrate("warning", "", f"{text}: {limit}; {self.dropped} in all")

    def forget(self, job_id: str) -> None:
        """An outcome was delivered, or nobody wants it."""
        if self._kept.get(job_id) is not None:
            self._kept.forget(job_id)
            self._note(Note(job_id, journal.forgotten(job_id)))

    def when_written(self, then: Then) -> None:
        """Call back once all that was noted so far is on disk, or could not be brought there."""
        if self._notes or self._is_writing:
            self._note(Note("", None, then))
        else:
            then()

    async def written(self) -> None:
        """The same, to await."""
        done: asyncio.Future[None] = self._loop.create_future()
        self.when_written(lambda: None if done.done() else done.set_result(None))
        await done

    def close(self) -> None:
        """Once the helper thread has ended."""
        if self._next is not None:
            self._next.cancel()
        self._book.close()

    # -- writing

    def _note(self, note: Note) -> None:
        self._notes.append(note)
        if not self._is_writing and self._next is None:
            self._next = self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._next = None
        self._is_resting = False
        notes, self._notes = self._notes, []
        changes = [note.change for note in notes if note.change is not None]
        if not changes:  # which proves nothing
            self._call_back(notes)
            return
        self._is_writing = True
        work = self._loop.run_in_executor(self._files, self._book.write, changes)
        work.add_done_callback(lambda work: self._written(notes, work.exception()))

    def _written(self, notes: list[Note], error: BaseException | None) -> None:
        self._is_writing = False
        self._tell_notes()
        if error is None:
            self._succeed(notes)
        else:
            self._fail(str(error))
            self._is_resting = True
            self._next = self._loop.call_later(RETRY_S, self._write)
            self._give_back(notes)
        if self._notes and self._next is None:
            self._next = self._loop.call_soon(self._write)

    def _succeed(self, notes: list[Note]) -> None:
        if self.failure:
            self.failure = ""
            self._narrate("info", "", "the journal can be written again; durable jobs are accepted")
        self._call_back(notes)

    def _call_back(self, notes: list[Note]) -> None:
        for note in notes:
            if note.then is not None:
                then, note.then = note.then, None
                then()

    def _give_back(self, notes: list[Note]) -> None:
        """New jobs are refused. What an accepted one waits for is tried again, but its outcome
        is told: it is known, and will be written as soon as that can be.
        """
        refused = {note.job_id: note.new for note in notes if note.new is not None}
        again = [note for note in notes if note.change and note.job_id not in refused]
        for job in refused.values():
            self._kept.forget(job.id)
            self._on_refused(job, _busy(self.failure))
        self._call_back([note for note in notes if note.new is None and not note.begins])
        self._notes = again + self._notes

    def _fail(self, why: str) -> None:
        if why != self.failure:
            self._narrate("error", "", why)
        self.failure = why

    def _tell_notes(self) -> None:
        notes, self._book.notes = self._book.notes, []
        for text in notes:
            self._narrate("error", "", text)


def _busy(why: str) -> Fault:
    return Fault.new(Code.BUSY, why, reason="journal", retry_after_ms=round(RETRY_S * 1000))
