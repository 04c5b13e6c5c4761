"""The methods that look: hello, status, watch, history, logs, ping, and Neovim's courtesies."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from ..protocol import limits
from ..protocol.errors import Code, Fault
from ..protocol.messages import Message, pack
from ..protocol.versions import negotiate
from . import calls
from .log_ring import LEVELS
from .session import Session
from .status import job_facts

NAME_CHARACTERS = 40
TOPICS = ("plugins", "workers", "jobs", "log", "stats")


def hello(session: Session, message: Message) -> bytes:
    """`[O]` → who we are and what the limits are. Optional; without it protocol 1."""
    given = calls.options(message, 0)
    protocol = negotiate(given.get("protocol"))
    name = calls.word(given, "name")
    if name:  # it goes to logs and the history
        shown = "".join(filter(str.isprintable, name))[:NAME_CHARACTERS]
        session.peer = f"{shown} {session.peer.rpartition(' ')[2]}"
    spec = session.service.config.supervisor
    return pack({
        "protocol": protocol,
        "server": {"name": "changeover", "version": version("changeover")},
        "session": session.id,
        "limits": {
            "jobs": spec.session_jobs,
            "bytes": spec.session_bytes,
            "message_bytes": limits.MESSAGE_BYTES,
            "nesting": limits.NESTING_DEPTH,
        },
        "features": ["progress", "stream", "watch", "flush"],
    })  # fmt: skip


def status(session: Session, message: Message) -> bytes:
    """`[O{plugin, job, jobs, known}]` → the `changeover.status/1` document with `seq`."""
    given = calls.options(message, 0)
    core = session.service.shell.core
    job_id, plugin = calls.word(given, "job"), calls.word(given, "plugin")
    if plugin is not None:
        core.plugin(plugin)
    document = session.service.status_document(plugin)
    if job_id is not None:
        document["jobs"] = [_job(session, job_id)]
    elif calls.flag(given, "jobs"):
        jobs = core.jobs.values()
        document["jobs"] = [job_facts(core, j) for j in jobs if plugin in (None, j.plugin)]
    if "known" in given:
        job_ids = calls.words(given, "known")
        document["known"] = [each for each in job_ids if _is_known(session, each)]
    return pack(document)


def _is_known(session: Session, job_id: str) -> bool:
    """Would the same call under this id be the same job?"""
    return job_id in session.service.shell.core.jobs or session.outcome(job_id) is not None


def _job(session: Session, job_id: str) -> dict[str, Any]:
    """A job under way, or one of a durable plugin whose outcome is kept."""
    core, ledger = session.service.shell.core, session.service.shell.ledger
    job, ended = core.jobs.get(job_id), ledger.get(job_id)
    if job is not None:
        return job_facts(core, job)
    if ended is not None:
        return ended.record.facts
    raise Fault.new(Code.NOT_FOUND, f"no job {job_id!r:.80} is queued or running", job=job_id)


def watch(session: Session, message: Message) -> bytes:
    """`[[topic, …], O{plugin, min_level}]` → `{watch, seq, snapshot}`, then notifications."""
    topics = calls.names(message, 0, "topics")
    given = calls.options(message, 1)
    for topic in topics:
        if topic not in TOPICS:
            raise calls.invalid(f"unknown topic {topic!r}: {', '.join(TOPICS)}")
    plugin = calls.word(given, "plugin")
    if plugin is not None:
        session.service.shell.core.plugin(plugin)
    number = session.service.news.watches.add(
        session, frozenset(topics), plugin, calls.choice(given, "min_level", ("debug", *LEVELS[1:]))
    )
    service = session.service
    snapshot = service.status_document(plugin)
    if "jobs" in topics:
        jobs = service.shell.core.jobs.values()
        snapshot["jobs"] = [job_facts(service.shell.core, job) for job in jobs]
    return pack({"watch": number, "seq": service.news.seq, "snapshot": snapshot})


async def history(session: Session, message: Message) -> bytes:
    """`[O{plugin, limit, verify}]` → entries, newest last; with `verify` `{ok, lines, …}`."""
    given = calls.options(message, 0)
    plugin = calls.word(given, "plugin")
    if calls.flag(given, "verify"):
        return pack(await session.service.chronicle.verify())
    limit = calls.whole(given, "limit")
    return pack(await session.service.chronicle.read(plugin, 100 if limit is None else limit))


def logs(session: Session, message: Message) -> bytes:
    """`[O{plugin, job, limit, level}]` → entries, newest last."""
    given = calls.options(message, 0)
    limit = calls.whole(given, "limit")
    level: Any = calls.choice(given, "level", LEVELS)
    entries = session.service.news.ring.tail(
        200 if limit is None else limit,
        plugin=calls.word(given, "plugin") or "", job=calls.word(given, "job") or "", level=level,
    )  # fmt: skip
    return pack([asdict(entry) for entry in entries])


def ping(_session: Session, message: Message) -> bytes:
    """`[x]` → x."""
    return message.params[0] if message.params else pack(None)


def nvim_get_api_info(_session: Session, _message: Message) -> bytes:
    """What the full Neovim clients ask first."""
    nothing: dict[str, Any] = {"version": {"api_level": 0}, "functions": [], "types": {},
                               "error_types": {}}  # fmt: skip
    return pack([1, nothing])
