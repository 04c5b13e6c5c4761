"""The methods that move jobs: run, submit, cancel, flush, more."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from ..protocol.errors import Code, Fault
from ..protocol.messages import Message, pack
from . import calls
from .caller import Caller
from .job import Job
from .kept import call_of
from .session import Session
from .states import JobState

JOB_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def run(session: Session, message: Message) -> None:
    """`[plugin, method, args, O]`: answered when the job ends."""
    _take(session, message, runs=True)


def submit(session: Session, message: Message) -> None:
    """`[plugin, method, args, O]`: answered when the job is accepted."""
    _take(session, message, runs=False)


def _take(session: Session, message: Message, *, runs: bool) -> None:
    plugin = calls.text(message, 0, "plugin")
    method = calls.text(message, 1, "method") if len(message.params) > 1 else "run"
    args = message.params[2] if len(message.params) > 2 else pack([])
    given = calls.options(message, 3)
    core = session.service.shell.core
    spec = core.plugin(plugin).spec
    size = sum(map(len, message.params))
    caller = Caller(session, message.msgid, runs=runs, size=size)
    _read_caller(caller, given, plugin, runs=runs)
    job_id = _job_id(session, given)
    block_s = calls.seconds(given, "block_ms")
    may_wait = spec.full == "block" if block_s is None else block_s > 0
    ended = session.outcome(job_id)
    if job_id not in core.jobs and ended is not None:
        _check_same(job_id, ended.call == call_of(plugin, method, args))
        session.service.shell.ledger.when_written(partial(caller.replay, job_id, ended))
        return
    session.check_credit(size, may_wait=may_wait)
    job = core.jobs.get(job_id)
    if job is not None:
        _check_same(job_id, (job.plugin, job.method, job.args) == (plugin, method, args))
        _join(session, job, caller)
    else:
        job = _job(job_id, plugin, method, args, given)
        _start(session, job, caller, block_s)


def _start(session: Session, job: Job, caller: Caller, block_s: float | None) -> None:
    job.owner = [caller]
    session.job_came(job, caller)
    try:
        session.service.shell.submit(job, block_s)
    except Fault:
        session.job_left(job, caller)
        raise


def _check_same(job_id: str, is_same: bool) -> None:
    """The same id is the same call, or it is a conflict."""
    if not is_same:
        raise Fault.new(Code.CONFLICT, f"id {job_id} belongs to another call", job=job_id)


def _join(session: Session, job: Job, caller: Caller) -> None:
    """One more who waits for a job under way; it may be another session's."""
    caller.is_duplicate = True
    job.owner.append(caller)
    session.job_came(job, caller)
    if caller.credits:
        _grant(session, job, caller.credits)
    if job.is_accepted:
        caller.admitted(job)


def _read_caller(caller: Caller, given: dict[str, Any], plugin: str, *, runs: bool) -> None:
    caller.record = calls.flag(given, "record")
    caller.notifies = calls.flag(given, "notify")
    caller.progress = calls.flag(given, "progress")
    caller.credits = calls.whole(given, "stream") or 0
    leaving = calls.choice(
        given, "on_disconnect", ("cancel", "keep") if runs else ("keep", "cancel")
    )
    caller.cancels = leaving == "cancel"
    if calls.flag(given, "flush"):
        caller.session.wants_flushed.add(plugin)


def _job_id(session: Session, given: dict[str, Any]) -> str:
    job_id = calls.word(given, "id")
    if job_id is None:
        return session.service.new_job_id()
    if JOB_ID.fullmatch(job_id) is None:
        raise calls.invalid(f"id must match {JOB_ID.pattern}, not {job_id!r:.80}")
    return job_id


def _job(job_id: str, plugin: str, method: str, args: bytes, given: dict[str, Any]) -> Job:
    key = calls.word(given, "key")
    passed_on: dict[str, Any] = {}
    if calls.flag(given, "progress"):
        passed_on["progress"] = True
    if given.get("stream") is not None:
        passed_on["stream"] = given["stream"]  # the link knows what is left of it
    return Job(
        job_id, plugin, method, args,
        key=key, idempotent=calls.flag(given, "idempotent"),
        timeout_s=calls.seconds(given, "timeout_ms"), options=passed_on or None,
    )  # fmt: skip


def cancel(session: Session, message: Message) -> bytes:
    """`[job, O{mode, reason}]` → `{job, state}`. Also as a notification."""
    job_id = calls.text(message, 0, "job")
    given = calls.options(message, 1)
    mode = calls.choice(given, "mode", ("soft", "kill"))
    why = "late" if calls.word(given, "reason") == "late" else "client"
    job = session.service.shell.core.jobs.get(job_id)
    ended = session.outcome(job_id)
    if job is not None:
        session.service.shell.cancel(job, why, kill=mode == "kill")
        return pack({"job": job_id, "state": job.state.value})
    if ended is not None:
        return pack({"job": job_id, "state": ended.record.state})
    raise Fault.new(Code.NOT_FOUND, f"no job {job_id!r:.80} is queued or running", job=job_id)


async def flush(session: Session, message: Message) -> bytes:
    """`[plugin, O]` → `[value, …]`: what its filters still hold, at the end of a stream."""
    return await session.service.flush(calls.text(message, 0, "plugin"))


def more(session: Session, message: Message) -> None:
    """`[job, n]`: the caller takes n more items of the stream."""
    job_id = calls.text(message, 0, "job")
    count = calls.number(message, 1, "n")
    job = session.service.shell.core.jobs.get(job_id)
    caller = session.callers.get(job_id)
    if job is not None and caller is not None and job.options and "stream" in job.options:
        caller.credits += count
        _grant(session, job, count)


def _grant(session: Session, job: Job, count: int) -> None:
    """Let the worker know; one that gets the job later is told then what is allowed in all."""
    if job.state is JobState.RUNNING and job.worker is not None:
        session.service.shell.crew.tell(job.worker, "more", [job.id, count])
