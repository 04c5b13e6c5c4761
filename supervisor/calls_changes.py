"""The methods that change plugins: add, remove, reload, rollback, pause, resume, shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..protocol.errors import Code, Fault
from ..protocol.messages import NIL, Message, pack
from . import calls
from .changeover import Changeover
from .config import ConfigError, plugin_spec
from .dialogue import Answer
from .plugin import Plugin
from .session import Session
from .source import SourceSet
from .spec import PluginSpec
from .staged import StageError
from .status import release_facts
from .waiting import LEVELS, Level, outcome, wait_for


def _may_add(session: Session) -> None:
    if not (session.is_stdio or session.service.config.supervisor.allow_add):
        raise Fault.new(
            Code.DENIED, "clients may not add or remove plugins here: set allow_add = true"
        )


def add(session: Session, message: Message) -> Coroutine[Any, Any, bytes]:
    """`[name, O{every plugin key}]` → `{name, release, generation}` once it serves.

    Requests that follow find the plugin: it is registered now, only its answer takes time.
    """
    _may_add(session)
    name = calls.text(message, 0, "name")
    given = calls.options(message, 1, large="source")
    service = session.service
    try:
        spec = plugin_spec(name, given, Path.cwd(), service.config.defaults)
    except ConfigError as error:
        raise calls.invalid("\n".join(error.problems)) from None
    return _added(session, name, service.roster.add(spec, who=session.peer))


async def _added(session: Session, name: str, change: Changeover) -> bytes:
    change = await wait_for(change, "cut", None)
    await session.service.chronicle.written()  # what is told must be true after a kill, too
    if change.outcome in ("", "done"):
        return pack({"name": name, "release": release_facts(change.release),
                     "generation": change.number})  # fmt: skip
    await session.service.roster.remove(name)
    raise Fault.new(
        Code.CHANGE_FAILED, f"{name}: {change.stage}: {change.cause}",
        stage=change.stage, cause=change.cause, plugin=name,
    )  # fmt: skip


def remove(session: Session, message: Message) -> Coroutine[Any, Any, bytes]:
    """`[name, O]` → the plugin's counts, once its last worker has left."""
    _may_add(session)
    return _removed(session.service.roster.remove(calls.text(message, 0, "name")))


async def _removed(gone: Awaitable[Plugin]) -> bytes:
    return pack(asdict((await gone).counts))


def reload(session: Session, message: Message) -> Coroutine[Any, Any, bytes]:
    """`[[name, …], O]` → `[{name, outcome, …}, …]`; no names: whatever changed, and the config."""
    names = calls.names(message, 0, "names")
    given = calls.options(message, 1, large="source")
    level = _level(given)
    timeout_s = calls.seconds(given, "timeout_ms")
    core = session.service.shell.core
    for name in names:
        core.plugin(name)  # all or none
    if calls.flag(given, "dry_run"):
        return _plans(session, [core.plugin(name) for name in names or core.plugins], given)
    if names:
        changes = [_reload_one(session, name, given) for name in names]
    else:
        changes = session.service.roster.reload_all(who=session.peer)
    return _outcomes(session, changes, level, timeout_s)


def _reload_one(session: Session, name: str, given: dict[str, Any]) -> Changeover:
    plugin = session.service.shell.core.plugin(name)
    spec = _with_source(plugin.spec, given.get("source"))
    return session.service.roster.change(
        name, "reload", who=session.peer, force=calls.flag(given, "force"), spec=spec
    )


def _with_source(spec: PluginSpec, source: Any) -> PluginSpec | None:
    """Another source for the same plugin: a path, or a pickled callable."""
    if source is None:
        return None
    if isinstance(source, bytes):
        return replace(spec, source="", command=(), pickled=source)
    if isinstance(source, str) and source:
        return replace(spec, source=str(Path(source).absolute()), pickled=b"")
    raise calls.invalid("source must be a path or a pickled callable")


def _level(given: dict[str, Any]) -> Level:
    return calls.choice(given, "wait", LEVELS)  # type: ignore[return-value]


async def _outcomes(
    session: Session, changes: list[Changeover], level: Level, timeout_s: float | None
) -> bytes:
    ended = await asyncio.gather(*(wait_for(change, level, timeout_s) for change in changes))
    await session.service.chronicle.written()
    return pack([outcome(session.service.shell.core, change) for change in ended])


async def _plans(session: Session, plugins: list[Plugin], given: dict[str, Any]) -> bytes:
    return pack([await _dry_run(session, plugin, given) for plugin in plugins])


async def _dry_run(session: Session, plugin: Plugin, given: dict[str, Any]) -> dict[str, Any]:
    """What a reload would do now, and which running jobs `drain_timeout` would end."""
    service = session.service
    spec = _with_source(plugin.spec, given.get("source")) or plugin.spec
    try:
        digest = await service.shell.staging.peek(SourceSet.of(spec))
    except StageError as error:
        return {"name": plugin.name, "outcome": "refused", "stage": "stage",
                "cause": error.message, "dry_run": True}  # fmt: skip
    live = plugin.live
    same = live is not None and live.release.digest == digest and not calls.flag(given, "force")
    known = plugin.releases.get(digest)
    return {
        "name": plugin.name,
        "outcome": "unchanged" if same else "done",
        "dry_run": True,
        "from": release_facts(live.release if live else None),
        "to": release_facts(known) or {"number": None, "version": "", "digest": digest},
        "stage": "",
        "cause": plugin.bad.get(digest, ""),
        "drain_timeout_s": spec.drain_timeout_s,
        "running": [] if same else _running(plugin),
    }


def _running(plugin: Plugin) -> list[dict[str, Any]]:
    if plugin.live is None:
        return []
    return [
        {
            "job": job.id,
            "pid": worker.pid,
            "pure": plugin.live.loaded.methods.get(job.method, (False, False))[0],
        }
        for worker in plugin.live.workers.values()
        for job in worker.jobs.values()
    ]


def rollback(session: Session, message: Message) -> Answer:
    """`[name, O{to, dry_run, wait}]` → as `reload`."""
    name = calls.text(message, 0, "name")
    given = calls.options(message, 1)
    to = calls.whole(given, "to", least=1)
    core = session.service.shell.core
    plugin = core.plugin(name)
    if calls.flag(given, "dry_run"):
        target = core.rollback_target(plugin, to)
        live = plugin.live.release if plugin.live else None
        return pack([{"name": name, "outcome": "done", "dry_run": True, "stage": "", "cause": "",
                      "from": release_facts(live), "to": release_facts(target),
                      "running": _running(plugin)}])  # fmt: skip
    level, timeout_s = _level(given), calls.seconds(given, "timeout_ms")
    change = session.service.roster.rollback(name, to=to, who=session.peer)
    return _outcomes(session, [change], level, timeout_s)


def pause(session: Session, message: Message) -> bytes:
    """`[name or nil, O{reject}]` → `{running, queued}`."""
    reject = calls.flag(calls.options(message, 1), "reject")
    return _for_each(
        session, message, lambda name: session.service.roster.pause(name, reject=reject)
    )


def resume(session: Session, message: Message) -> bytes:
    """`[name or nil, O]` → `{running, queued}`."""
    return _for_each(session, message, session.service.roster.resume)


def _for_each(session: Session, message: Message, act: Any) -> bytes:
    is_all = not message.params or message.params[0] == NIL
    plugins = session.service.shell.core.plugins
    chosen = list(plugins) if is_all else [calls.text(message, 0, "name")]
    touched = [act(each) for each in chosen]
    return pack({
        "running": sum(plugin.running for plugin in touched),
        "queued": sum(len(plugin.queue) + len(plugin.lobby) for plugin in touched),
    })  # fmt: skip


def shutdown(session: Session, message: Message) -> Coroutine[Any, Any, bytes]:
    """`[O{mode, timeout_ms}]` → counts, then `goaway`, then the end of the stream."""
    given = calls.options(message, 0)
    at_once = calls.choice(given, "mode", ("drain", "now")) == "now"
    timeout_s = calls.seconds(given, "timeout_ms")
    return _stopped(session.service.stop(at_once=at_once, timeout_s=timeout_s))


async def _stopped(end: Awaitable[dict[str, Any]]) -> bytes:
    return pack(await end)
