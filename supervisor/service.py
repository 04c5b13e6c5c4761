"""The supervisor as people and programs meet it: config, clients, signals, history, logs.

It joins the shell to the sessions. What happens to jobs and workers is decided in the core.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from ..protocol.errors import Code, FatalCode, Fault
from ..protocol.messages import Message
from . import calls_changes, calls_jobs, calls_views
from .changeover import Changeover
from .changes import launches_alike
from .config import Config, ConfigError
from .digest import Fingerprint
from .history import History
from .chain import HistoryError
from .listener import Listener, socket_path
from .log_ring import Level, LogEntry, LogRing
from .model import Job, Plugin, Worker
from .narrator import Narrator
from .orders import Changed
from .past import Past
from .rates import Rates
from .registry import OnChange
from .session import Handler, Session
from .shell import Shell
from .source import SourceSet
from .spec import PluginSpec
from .staged import Staged
from .state_dir import StateDir
from .states import Step
from .status import plugin_facts
from .store import Store
from .usage import UsageMeter
from .waiting import SHOWN, notice
from .watcher import Watcher
from .watches import Watches

REQUESTS: dict[str, Handler] = {
    "hello": calls_views.hello,
    "run": calls_jobs.run,
    "submit": calls_jobs.submit,
    "wait": calls_jobs.wait,
    "cancel": calls_jobs.cancel,
    "flush": calls_jobs.flush,
    "status": calls_views.status,
    "watch": calls_views.watch,
    "history": calls_views.history,
    "logs": calls_views.logs,
    "ping": calls_views.ping,
    "add": calls_changes.add,
    "remove": calls_changes.remove,
    "reload": calls_changes.reload,
    "rollback": calls_changes.rollback,
    "pause": calls_changes.pause,
    "resume": calls_changes.resume,
    "shutdown": calls_changes.shutdown,
    "nvim_get_api_info": calls_views.nvim_get_api_info,
}
NOTIFICATIONS: dict[str, Callable[[Session, Message], object]] = {
    "cancel": calls_jobs.cancel,
    "more": calls_jobs.more,
}
ANSWERS_S = 1.0  # for the requests under way, once no job and no worker is left
FAREWELL_S = 5.0  # for a client to read its last answers


class Service:
    """One supervisor. Made inside the running loop."""

    def __init__(self, config: Config, state_dir: StateDir) -> None:
        self.loop = asyncio.get_running_loop()
        self.config = config
        self.requests = REQUESTS
        self.notifications = NOTIFICATIONS
        spec = config.supervisor
        self.log = Narrator(spec.log_format, spec.log_level)
        self.ring = LogRing()
        self.seq = 0
        self.sessions: set[Session] = set()
        self.stopped = asyncio.Event()
        self._started_at = time.monotonic()
        self._id = secrets.token_hex(6)
        self._jobs = 0
        self._state_dir = state_dir
        store = Store(state_dir.path / "store")
        self.shell = Shell(spec, self._id, store, state_dir.path, self)
        self._history = History(state_dir.path / "history.jsonl", time=_now())
        self._past = Past(self._history.replay())
        self.shell.core.desk.last_generation = self._past.last_generation
        for note in (*store.notes, *self._history.notes):
            self.narrate("warning", "", note)
        self.watches = Watches(self.loop, self.status_document)
        self._usage = UsageMeter()
        self._rates: dict[str, Rates] = {}
        self._watcher = Watcher(
            settle_s=spec.settle_s, mode=spec.watch, executor=self.shell.files,
            on_candidate=self._candidate, on_note=lambda name, text: self.narrate("warning", name, text),
        )  # fmt: skip
        self._listener: Listener | None = None
        self._schedule: asyncio.TimerHandle | None = None
        self._removing: dict[str, list[asyncio.Future[None]]] = {}
        self._flushing: dict[str, asyncio.Future[bytes]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.last_words: set[asyncio.Task[Any]] = set()  # answers to `shutdown`, before goaway

    # -- clients

    def listen(self) -> str:
        """Open the socket; returns its path. Raises ListenError."""
        spec = self.config.supervisor
        path = socket_path(spec.socket, spec.name)
        self._listener = Listener(self.loop, path, self._client)
        return path

    def _client(self, fd: int, pid: int, uid: int) -> None:
        session = Session(self, secrets.token_hex(6), fd, fd, peer=f"uid:{uid}/pid:{pid}")
        session.uid = uid
        self.sessions.add(session)
        session.start()

    def serve_stdio(self, read_fd: int, write_fd: int) -> None:
        """One client on our standard input and output."""
        session = Session(
            self, secrets.token_hex(6), read_fd, write_fd,
            peer=f"uid:{os.getuid()}/stdio", is_stdio=True,
        )  # fmt: skip
        self.sessions.add(session)
        session.start()

    def session_closed(self, session: Session) -> None:
        """Its runs are cancelled, its watches end; what it submitted goes on."""
        self.sessions.discard(session)
        self.watches.forget(session)
        for job_id in list(session.callers):
            job = self.shell.core.jobs.get(job_id)
            if job is not None and not any(caller.holds for caller in job.owner):
                self.shell.cancel(job, "disconnected")
        if self._listener is not None and not session.is_stdio:
            self._listener.gone(session.uid)

    def stdio_ended(self, session: Session) -> None:
        """End of input: finish what was accepted, however long it takes, then leave.

        Broken input: as `stop`. Should nobody be left to read the answers, `running.py` knows.
        """
        self.spawn_task(self.stop(timeout_s=math.inf if session.input_ended else None))

    def spawn_task(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run it beside everything else."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def hup(self) -> None:
        """HUP is `reload`: whatever changed, and the config."""
        with contextlib.suppress(Fault):  # the narration has said what was wrong
            self.reload_all(who="HUP")

    def new_job_id(self) -> str:
        """An id for a caller that gave none."""
        self._jobs += 1
        return f"{self._id}.{self._jobs}"

    # -- plugins

    def start_plugins(self) -> list[Changeover]:
        """Begin the first load of everything in the config."""
        return [self.add(spec, reason="start") for spec in self.config.plugins.values()]

    def add(self, spec: PluginSpec, *, reason: Any = "add", who: str = "config") -> Changeover:
        """Register a plugin and begin its first load."""
        plugin = self._past.plugin(spec)
        core = self.shell.core
        change = core.add(self.shell.now(), spec, reason=reason, who=who, plugin=plugin)
        self._rates[spec.name] = Rates()
        self._watch_source(spec, None)
        self.shell.act()
        self._arm_schedule()
        return change

    async def remove(self, name: str) -> Plugin:
        """Close a plugin and wait until its last worker has left."""
        core = self.shell.core
        plugin = core.remove(self.shell.now(), name)
        self._watcher.unwatch(name)
        self.shell.act()
        if core.plugins.get(name) is plugin:
            gone: asyncio.Future[None] = self.loop.create_future()
            self._removing.setdefault(name, []).append(gone)
            await gone
        return plugin

    def _watch_source(self, spec: PluginSpec, known: Staged | None) -> None:
        if isinstance(spec.reload, OnChange) and not spec.pickled:
            fingerprint = known.fingerprint if known else None
            keys = known.keys if known else ()
            self._watcher.watch(spec.name, SourceSet.of(spec), fingerprint, keys)
        else:
            self._watcher.unwatch(spec.name)

    def _candidate(self, name: str, seen: Fingerprint) -> None:
        self.shell.core.candidate(self.shell.now(), name, seen.hash, seen.digest)
        self.shell.act()

    def change(
        self, name: str, reason: Any, *, who: str = "", force: bool = False,
        spec: PluginSpec | None = None,
    ) -> Changeover:  # fmt: skip
        """Begin a changeover to what the source holds."""
        change = self.shell.core.change(
            self.shell.now(), name, reason, who=who, force=force, spec=spec
        )
        self.shell.act()
        return change

    def rollback(self, name: str, *, to: int | None, who: str) -> Changeover:
        """Begin a changeover back."""
        change = self.shell.core.rollback(self.shell.now(), name, to=to, who=who)
        self.shell.act()
        return change

    def pause(self, name: str, *, reject: bool = False) -> Plugin:
        """Shut a queue."""
        plugin = self.shell.core.pause(self.shell.now(), name, reject=reject)
        self.shell.act()
        return plugin

    def resume(self, name: str) -> Plugin:
        """Open a queue."""
        plugin = self.shell.core.resume(self.shell.now(), name)
        self.shell.act()
        return plugin

    def reload_all(self, *, who: str) -> list[Changeover]:
        """Whatever changed, and the config. Raises Fault INVALID_PARAMS on a bad config."""
        core = self.shell.core
        configured = self._read_config(who)
        begun = [
            core.change(self.shell.now(), name, "signal", who=who)
            for name in core.plugins
            if name not in configured and core.registry.auto_reload_enabled(name)
        ]
        self.shell.act()
        return [*configured.values(), *begun]

    def _read_config(self, who: str) -> dict[str, Changeover]:
        if self.config.path is None:
            return {}
        try:
            fresh = self.config.read_again()
        except ConfigError as error:
            problems = "\n  ".join(error.problems)
            self.narrate("error", "", f"the config was not taken, the old one stays\n  {problems}")
            raise Fault.new(Code.INVALID_PARAMS, "\n".join(error.problems)) from None
        old, self.config = self.config, fresh
        changes: dict[str, Changeover] = {}
        for name in old.plugins.keys() - fresh.plugins.keys():
            self.spawn_task(self.remove(name))
        for name, spec in fresh.plugins.items():
            change = self._configure(name, spec, who)
            if change is not None:
                changes[name] = change
        return changes

    def _configure(self, name: str, spec: PluginSpec, who: str) -> Changeover | None:
        core = self.shell.core
        plugin = core.plugins.get(name)
        if plugin is None:
            return self.add(spec, reason="config", who=who)
        if plugin.spec == spec:
            return None
        needs_change = not launches_alike(plugin.spec, spec) or plugin.spec.pin != spec.pin
        change = core.reconfigure(self.shell.now(), spec, needs_change=needs_change)
        self._watch_source(spec, None)
        self.shell.act()
        self._arm_schedule()
        return change

    def _arm_schedule(self) -> None:
        """The wall clock may jump, so a cron is looked at once a minute at least."""
        if self._schedule is not None:
            self._schedule.cancel()
        wait_s = self.shell.core.registry.next_due_s(
            self.shell.now(), datetime.now(UTC).astimezone()
        )
        if wait_s is not None:
            self._schedule = self.loop.call_later(min(wait_s, 60.0), self._check_schedules)

    def _check_schedules(self) -> None:
        self.shell.core.check_schedules(self.shell.now(), datetime.now(UTC).astimezone())
        self.shell.act()
        self._arm_schedule()

    async def digest_of(self, source: SourceSet) -> str:
        """What the source holds now, without staging it. Raises StageError."""
        return await self.loop.run_in_executor(self.shell.files, self.shell.peek, source)

    # -- flush

    async def flush(self, name: str) -> bytes:
        """What the plugin's filters still hold, packed: at the end of a stream."""
        core = self.shell.core
        plugin = core.plugin(name)
        if name in self._flushing:
            raise Fault.new(Code.BUSY, f"{name} is being flushed already")
        future: asyncio.Future[bytes] = self.loop.create_future()
        self._flushing[name] = future
        try:
            if not core.flush(self.shell.now(), name):
                return b"\x90"
            self.shell.act()
            return await asyncio.wait_for(future, plugin.spec.drain_timeout_s)
        except TimeoutError:
            raise Fault.new(Code.DEADLINE, f"{name}: flush was not answered in time") from None
        finally:
            del self._flushing[name]

    # -- what the shell tells

    def phase(self, change: Changeover) -> None:
        """A changeover entered a step."""
        notice(change)
        self.seq += 1
        last = change.phases[-1] if change.phases else None
        facts = {
            "seq": self.seq,
            "generation": change.number or None,
            "phase": SHOWN.get(last[0], last[0]) if last else "begun",
            "ms": round(last[1] * 1000, 3) if last else 0.0,
            "detail": last[2] if last else change.reason,
            "next": change.step.value,
        }
        self.watches.tell("plugins", change.plugin, "change_phase", [change.plugin, facts])

    def ended(self, change: Changeover) -> None:
        """It ended, or is drained and only watched."""
        notice(change)
        if change.step in (Step.WATCH, Step.DONE):
            self.shell.retain()

    def record(self, entry: dict[str, Any]) -> None:
        """Append to the history, on disk."""
        self.loop.run_in_executor(self.shell.files, self._append, entry, _now())

    def _append(self, entry: dict[str, Any], when: str) -> None:
        try:
            self._history.append(entry, time=when)
        except HistoryError as error:
            message = str(error)
            self.loop.call_soon_threadsafe(self.narrate, "error", "", message)

    def changed(self, order: Changed) -> None:
        """A plugin or a worker has changed."""
        self.seq += 1
        facts = {"seq": self.seq, **order.facts}
        if order.topic == "plugin":
            self.watches.tell("plugins", order.plugin, "plugin_changed", [order.plugin, facts])
            self._tell_removed(order.plugin)
        else:
            name = order.facts["plugin"]
            self.watches.tell("workers", name, "worker_changed", [order.plugin, facts])
            self._tell_removed(name)

    def _tell_removed(self, name: str) -> None:
        self.loop.call_soon(self._look_removed, name)

    def _look_removed(self, name: str) -> None:
        if name not in self.shell.core.plugins:
            for gone in self._removing.pop(name, ()):
                if not gone.done():
                    gone.set_result(None)
        if self.shell.core.desk.is_stopping and self.shell.core.is_idle:
            self.stopped.set()

    def narrate(self, level: Level, plugin: str, text: str) -> None:
        """Say it on stderr, keep it for `logs`, tell who watches."""
        self.log.say(level, text, plugin=plugin)
        self._keep_log(level, text, plugin)

    def _keep_log(
        self, level: Level, text: str, plugin: str, worker: str = "", job: str = ""
    ) -> None:
        self.ring.add(
            LogEntry(
                time=time.time(), level=level, message=text, plugin=plugin, worker=worker, job=job
            )
        )
        fields = {"worker": worker, "job": job} if worker else {}
        self.watches.tell_log(plugin, level, text, fields)

    def worker_line(self, worker: Worker, level: Level, text: str) -> None:
        """A worker wrote to its stderr or sent `log`."""
        plugin = worker.generation.spec.name
        jobs = list(worker.jobs)
        self.log.say(level, text, plugin=plugin, worker=worker.pid)
        self._keep_log(level, text, plugin, worker.id, jobs[0] if len(jobs) == 1 else "")

    def flushed(self, plugin: str, values: bytes) -> None:
        """A filter gave back what it still held: to whoever asked, or before a cut to its callers."""
        future = self._flushing.get(plugin)
        if future is not None:
            if not future.done():
                future.set_result(values)
            return
        takers = [session for session in self.sessions if plugin in session.wants_flushed]
        for session in takers:
            session.flushed(plugin, values)
        if not takers and values != b"\x90":
            self.narrate(
                "warning", plugin, "a filter gave back values before the cut; nobody took them"
            )

    def settled(self, job: Job) -> None:
        """A job ended."""
        rates = self._rates.get(job.plugin)
        if rates is not None:
            rates.count(self.shell.now(), job.queued_s + job.ran_s)
        self.watches.tell(
            "jobs",
            job.plugin,
            "job_ended",
            [job.id, {"plugin": job.plugin, "state": job.state.value}],
        )
        if self.shell.core.desk.is_stopping:
            self.loop.call_soon(self._look_removed, job.plugin)

    def registered(self, name: str, staged: Staged | None) -> None:
        """A release serves: the watcher compares with it from now on."""
        plugin = self.shell.core.plugins.get(name)
        if plugin is not None and staged is not None:
            self._watch_source(plugin.spec, staged)

    # -- views

    def status_document(self, only: str | None = None) -> dict[str, Any]:
        """`changeover.status/1`."""
        core = self.shell.core
        core.desk.now = self.shell.now()
        chosen = [p for p in core.plugins.values() if only in (None, p.name)]
        pids = [
            worker.pid
            for plugin in chosen
            for generation in plugin.generations.values()
            for worker in (*generation.workers.values(), *generation.leaving)
            if worker.pid
        ]
        usage = self._usage.read(pids)
        return {
            "schema": "changeover.status/1",
            "name": self.config.supervisor.name,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started_at, 3),
            "seq": self.seq,
            "plugins": {
                plugin.name: {
                    **plugin_facts(core, plugin, usage),
                    **self._rates[plugin.name].facts(self.shell.now()),
                }
                for plugin in chosen
            },
        }

    async def read_history(self, plugin: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest entries, oldest first."""
        tail = await self.loop.run_in_executor(self.shell.files, self._history.tail, limit, plugin)
        return [dict(entry) for entry in tail]

    async def verify_history(self) -> dict[str, Any]:
        """Is the chain whole?"""
        found = await self.loop.run_in_executor(self.shell.files, self._history.verify)
        return {"ok": found.is_ok, "lines": found.lines, "bad_line": found.bad_line,
                "reason": found.reason}  # fmt: skip

    # -- the end

    async def stop(
        self,
        *,
        at_once: bool = False,
        timeout_s: float | None = None,
        but_for: Session | None = None,
    ) -> dict[str, Any]:
        """Finish what was accepted (within stop_timeout) and stop; the counts of all plugins."""
        if at_once and self.stopped.is_set():  # only the farewells are left
            for session in list(self.sessions):
                session.close()
        core = self.shell.core
        counts = [plugin.counts for plugin in core.plugins.values()]
        core.stop(self.shell.now(), at_once=at_once)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.shell.act()
        self._look_removed("")
        limit_s = self.config.supervisor.stop_timeout_s if timeout_s is None else timeout_s
        try:
            await asyncio.wait_for(self.stopped.wait(), limit_s)
        except TimeoutError:
            self.narrate("warning", "", f"not idle {limit_s:g} s after stop: killing what is left")
            core.stop(self.shell.now(), at_once=True)
            self.shell.act()
            await asyncio.wait_for(self.stopped.wait(), None)
        return {
            name: sum(getattr(each, name) for each in counts)
            for name in ("accepted", "done", "failed", "cancelled", "lost", "rerun")
        }

    async def close(self) -> None:
        """Say goodbye to the clients and let go of everything."""
        if self._schedule is not None:
            self._schedule.cancel()
        self.watches.close()
        if self.last_words:
            await asyncio.wait(self.last_words, timeout=2.0)
        sessions = list(self.sessions)
        await asyncio.gather(*(session.answer_all(ANSWERS_S) for session in sessions))
        await asyncio.gather(*map(self._farewell, sessions))
        await self._watcher.close()
        await self.shell.close()
        self._history.close()

    def _farewell(self, session: Session) -> asyncio.Future[None]:
        """Done when the client has read everything; whoever sent all its input is waited for."""
        gone: asyncio.Future[None] = self.loop.create_future()
        session.goaway(
            int(FatalCode.CLOSING), "the supervisor has stopped", reconnect=False,
            patience_s=None if session.is_stdio and session.input_ended else FAREWELL_S,
        )  # fmt: skip
        session.channel.when_flushed(lambda: None if gone.done() else gone.set_result(None))
        return gone


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def run(config: Config, *, stdio: bool, check: bool) -> int:
    """Be the supervisor until the end; the exit code."""
    from .running import run as run_now

    return run_now(config, stdio=stdio, check=check)
