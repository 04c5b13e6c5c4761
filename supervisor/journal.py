"""The journal: accepted jobs of durable plugins and their outcomes, in an SQLite file.

What `write` has taken is on disk when it returns (WAL, an fsync for each transaction). A file
that is damaged is kept aside and a new one begins, as with the history. One thread uses it at a
time; nothing here knows when a job may run.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..protocol.errors import Fault
from ..protocol.messages import pack, unpack
from .job import Job
from .kept import Ended
from .record import Record
from .trees import sync_folder

Change = tuple[str, tuple[Any, ...]]  # a statement and its values

WAL_BYTES = 4 * 1024 * 1024  # what is left of the log once it is in the file
_SUFFIXES = ("", "-wal", "-shm")
_COLUMNS = "id, plugin, method, args, options, attempts, may_repeat"
_OPEN = (
    "PRAGMA locking_mode = EXCLUSIVE",  # the state_dir is ours; and no memory is shared
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    f"PRAGMA journal_size_limit = {WAL_BYTES}",
    """CREATE TABLE IF NOT EXISTS jobs (
        place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, plugin TEXT NOT NULL,
        method TEXT NOT NULL, args BLOB NOT NULL, options BLOB NOT NULL, attempts INTEGER NOT NULL,
        may_repeat INTEGER NOT NULL, call BLOB, head BLOB, result BLOB)""",
)


class JournalError(Exception):
    """It cannot be had or written; the message says why and what to do."""


class Recovered(NamedTuple):
    """A job that had been accepted and not ended."""

    job: Job
    deadline: float | None  # by the wall clock, the only one that goes on between two lives
    may_repeat: bool


class Journal:
    """`notes`: what had to be repaired, in words for the operator, until somebody takes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._db: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None

    def load(self) -> tuple[list[Recovered], list[tuple[str, Ended]]]:
        """What the last supervisor left: open jobs and outcomes, each oldest first."""
        if not self.path.exists():
            return [], []
        try:
            return self._read()
        except (OSError, sqlite3.OperationalError) as error:
            raise self._error("read", error) from error
        except (sqlite3.DatabaseError, Fault, LookupError, TypeError, ValueError) as error:
            self._put_aside(error)
            return [], []

    def write(self, changes: Iterable[Change]) -> None:
        """All of these or none; on disk. Raises JournalError."""
        try:
            db = self._opened()
            db.execute("BEGIN IMMEDIATE")
            for statement, values in changes:
                db.execute(statement, values)
            db.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            self.close()  # which undoes what was begun
            raise self._error("written", error) from error

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    # -- the file

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None and not self._is_in_place():
            self.close()
            self.notes.append(
                f"the journal {self.path} was moved or removed; a new one has begun\n"
                "  jobs that were accepted before would not survive a kill of the supervisor"
            )
        if self._db is None:
            self._db = self._open()
        return self._db

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        sync_folder(self.path.parent)
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            for statement in _OPEN:
                db.execute(statement).fetchall()
        except BaseException:
            db.close()
            raise
        self._file = os.stat(self.path)
        return db

    def _is_in_place(self) -> bool:
        """A file that was deleted would swallow promises."""
        try:
            return self._file is not None and os.path.samestat(os.stat(self.path), self._file)
        except FileNotFoundError:
            return False

    def _read(self) -> tuple[list[Recovered], list[tuple[str, Ended]]]:
        db = self._opened()
        (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)
        open_jobs = f"SELECT {_COLUMNS} FROM jobs WHERE head IS NULL ORDER BY place"  # noqa: S608
        outcomes = "SELECT id, call, head, result FROM jobs WHERE head IS NOT NULL ORDER BY place"
        return (
            [_recovered(row) for row in db.execute(open_jobs)],
            [(row[0], _ended(*row[1:])) for row in db.execute(outcomes)],
        )

    def _put_aside(self, error: Exception) -> None:
        self.close()
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.bad-{number}")).exists():
            number += 1
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}{suffix}", f"{aside}{suffix}")
        self.notes.append(
            f"the journal {self.path} was damaged: {error}\n"
            f"  it is kept as {aside.name}, a new one begins: what was accepted before the last "
            "end of the supervisor is not run, and its outcomes are gone"
        )

    def _error(self, verb: str, error: Exception) -> JournalError:
        why = (getattr(error, "strerror", None) or str(error)).rstrip()
        return JournalError(
            f"the journal {self.path} cannot be {verb}: {why}\n"
            "  jobs of durable plugins are refused, the others run: free some space there and "
            "let this user write, or set state_dir"
        )


# -- what may be written


def accepted(job: Job, deadline: float | None) -> Change:
    """A job has its place; `deadline` by the wall clock."""
    options = {"key": job.key, "idempotent": job.idempotent, "timeout_s": job.timeout_s,
               "options": job.options, "deadline": deadline}  # fmt: skip
    return (
        f"INSERT INTO jobs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, 0, 1)",  # noqa: S608 - ours
        (job.id, job.plugin, job.method, job.args, pack(options)),
    )


def begun(job: Job, *, may_repeat: bool) -> Change:
    """It is about to be sent to a worker."""
    statement = "UPDATE jobs SET attempts = ?, may_repeat = ? WHERE id = ?"
    return statement, (job.attempts, may_repeat, job.id)


def ended(job_id: str, outcome: Ended) -> Change:
    """Its outcome, instead of its arguments."""
    record = outcome.record
    return (
        "UPDATE jobs SET args = x'', options = x'', call = ?, head = ?, result = ? WHERE id = ?",
        (outcome.call, record.head, record.result, job_id),
    )


def forgotten(job_id: str) -> Change:
    """Nobody will ask for it."""
    return "DELETE FROM jobs WHERE id = ?", (job_id,)


def _recovered(row: tuple[Any, ...]) -> Recovered:
    job_id, plugin, method, args, packed, attempts, again = row
    options = unpack(packed)
    job = Job(
        job_id, plugin, method, args, key=options["key"], idempotent=options["idempotent"],
        timeout_s=options["timeout_s"], options=options["options"],
    )  # fmt: skip
    job.attempts = attempts
    return Recovered(job, options["deadline"], bool(again))


def _ended(call: bytes, head: bytes, result: bytes) -> Ended:
    facts = Record(head, result, "", None).facts
    fault = None if facts["error"] is None else Fault.of(facts["error"])
    return Ended(call, Record(head, result, facts["state"], fault))
