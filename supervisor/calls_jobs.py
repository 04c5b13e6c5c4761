"""The methods that move jobs: run, submit, wait, cancel, more."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from ..protocol.errors import Code, Fault
from ..protocol.messages import Message, pack, unpack
from . import calls
from .caller import Caller
from .model import Job
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
    size = sum(map(len, message.params))
    caller = Caller(session, message.msgid, runs=runs, size=size)
    _read_caller(caller, given, plugin, runs=runs)
    job_id = _job_id(session, given)
    service = session.service
    known = service.shell.core.jobs.get(job_id)
    if known is not None or job_id in session.kept:
        _join(session, known, caller, (job_id, plugin, method, args))
        return
    job = _job(job_id, plugin, method, args, given)
    job.owner = [caller]
    block_s = calls.seconds(given, "block_ms")
    spec = service.shell.core.plugin(plugin).spec
    may_wait = spec.full == "block" if block_s is None else block_s > 0
    session.check_credit(size, may_wait=may_wait)
    session.job_came(job, caller)
    try:
        accepted = service.shell.submit(job, block_s)
    except Fault:
        session.job_left(job, caller)
        raise
    if accepted:
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
    job_id = given.get("id")
    if job_id is None:
        return session.service.new_job_id()
    if not isinstance(job_id, str) or JOB_ID.fullmatch(job_id) is None:
        raise calls.invalid(f"id must match {JOB_ID.pattern}, not {job_id!r:.80}")
    return job_id


def _job(job_id: str, plugin: str, method: str, args: bytes, given: dict[str, Any]) -> Job:
    key = given.get("key")
    if key is not None and not isinstance(key, str):
        raise calls.invalid(f"key must be a str, not {key!r:.40}")
    passed_on = {name: given[name] for name in ("progress", "stream") if given.get(name)}
    return Job(
        job_id, plugin, method, args,
        key=key, idempotent=calls.flag(given, "idempotent"),
        timeout_s=calls.seconds(given, "timeout_ms"), options=passed_on or None,
    )  # fmt: skip


def _join(
    session: Session, known: Job | None, caller: Caller, call: tuple[str, str, str, bytes]
) -> None:
    """The same id and the same call: the same job. Another call: CONFLICT."""
    job_id, plugin, method, args = call
    if known is None:
        if caller.runs:
            session.kept.ask(job_id).add_done_callback(
                lambda future: session.respond(caller.msgid, future.result())
            )
        else:
            caller.is_answered = True
            session.respond(caller.msgid, pack({"job": job_id, "duplicate": True}))
        return
    if (known.plugin, known.method, known.args) != (plugin, method, args):
        raise Fault.new(Code.CONFLICT, f"id {job_id} belongs to another call", job=job_id)
    known.owner.append(caller)
    if job_id not in session.callers:
        session.job_came(known, caller)
    else:
        caller.size = 0
    if known.seq:
        caller.admitted(known, duplicate=True)


async def wait(session: Session, message: Message) -> bytes:
    """`[[job, …], O{mode, timeout_ms, forget}]` → `[record, …]`."""
    job_ids = calls.names(message, 0, "jobs")
    given = calls.options(message, 1)
    mode = calls.choice(given, "mode", ("all", "any"))
    timeout_s = calls.seconds(given, "timeout_ms")
    jobs = session.service.shell.core.jobs
    for job_id in job_ids:
        if job_id not in session.kept and job_id not in jobs:
            raise Fault.new(Code.NOT_FOUND, f"no job {job_id!r}", job=job_id)
    if not job_ids:
        return pack([])
    futures = {job_id: session.kept.ask(job_id) for job_id in job_ids}
    how = asyncio.ALL_COMPLETED if mode == "all" else asyncio.FIRST_COMPLETED
    done, late = await asyncio.wait(futures.values(), timeout=timeout_s, return_when=how)
    for future in late:
        future.cancel()
    ended = [job_id for job_id, future in futures.items() if future in done]
    for job_id in ended:
        session.kept.forget(job_id)
    records = [futures[job_id].result() for job_id in ended]
    return pack_array(records)


def pack_array(parts: list[bytes]) -> bytes:
    """An array of values that are packed already."""
    head = pack([None] * len(parts))
    return head[: len(head) - len(parts)] + b"".join(parts)


def cancel(session: Session, message: Message) -> bytes:
    """`[job, O{mode, reason}]` → `{job, state}`. Also as a notification."""
    job_id = calls.text(message, 0, "job")
    given = calls.options(message, 1)
    mode = calls.choice(given, "mode", ("soft", "kill"))
    reason = given.get("reason")
    job = session.service.shell.core.jobs.get(job_id)
    if job is None:
        raise Fault.new(Code.NOT_FOUND, f"no job {job_id!r} is queued or running", job=job_id)
    why = "late" if reason == "late" else "client"
    session.service.shell.cancel(job, why, kill=mode == "kill")
    return pack({"job": job_id, "state": job.state.value})


async def flush(session: Session, message: Message) -> bytes:
    """`[plugin, O]` → `[value, …]`: what its filters still hold, at the end of a stream."""
    return await session.service.flush(calls.text(message, 0, "plugin"))


def more(session: Session, message: Message) -> None:
    """`[job, n]`: the caller takes n more items of the stream."""
    job_id = calls.text(message, 0, "job")
    count = calls.whole({"n": unpack(message.params[1])}, "n") if len(message.params) > 1 else 0
    job = session.service.shell.core.jobs.get(job_id)
    caller = session.callers.get(job_id)
    if job is None or caller is None or not count:
        return
    caller.credits += count
    if job.state is JobState.RUNNING and job.worker is not None:
        session.service.shell.tell(job.worker, "more", [job_id, count])
    elif job.options is not None:
        job.options["stream"] = caller.credits
