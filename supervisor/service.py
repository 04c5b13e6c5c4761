"""The supervisor as its clients meet it: who is connected, what they may call, how it ends.

It joins the parts: the shell (processes), the roster (plugins), the news, the chronicle.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ..protocol.errors import Code, FatalCode, Fault
from ..protocol.messages import Message
from . import calls_changes, calls_jobs, calls_views, calls_wait, place
from .access import Access
from .changeover import Changeover
from .chronicle import Chronicle
from .config import Config
from .dialogue import Handler
from .job import Job
from .listener import Listener, socket_path
from .log_ring import Level
from .news import News
from .orders import Changed, Phase
from .plugin import Counts
from .roster import Roster
from .session import Session
from .shell import Shell
from .staged import Staged
from .state_dir import StateDir
from .states import Step
from .status import plugin_facts
from .store import Store
from .usage import UsageMeter
from .worker import Worker

REQUESTS: dict[str, Handler] = {
    "hello": calls_views.hello,
    "run": calls_jobs.run,
    "submit": calls_jobs.submit,
    "wait": calls_wait.wait,
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
NOTHING = b"\x90"  # an empty array
ANSWERS_S = 1.0  # for the requests under way, once no job and no worker is left
FAREWELL_S = 5.0  # for a client to read its last answers


class Service:
    """One supervisor. Made inside the running loop."""

    def __init__(self, config: Config, state_dir: StateDir) -> None:
        """Raises StageError or HistoryError when the state_dir cannot be used."""
        self.loop = asyncio.get_running_loop()
        self.requests = REQUESTS
        self.notifications = NOTIFICATIONS
        self.sessions: set[Session] = set()
        self.stopped = asyncio.Event()
        self.was_misused = False  # the one client on stdio broke the protocol
        self._started_at = time.monotonic()
        self._id = secrets.token_hex(6)
        self._jobs = 0
        self._usage = UsageMeter()
        self._listener: Listener | None = None
        self._is_hurried = False  # somebody asked us to stop; else our input has ended
        self._flushing: dict[str, asyncio.Future[bytes]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        spec = config.supervisor
        self.news = News(self.loop, spec, self.status_document)
        store = Store(state_dir.path / "store")
        self.shell = Shell(spec, self._id, store, state_dir.path, self)
        self.chronicle = Chronicle(
            self.loop,
            self.shell.files,
            state_dir.path / "history.jsonl",
            lambda text: self.narrate("error", "", text),
        )
        for note in (*place.notes(), *store.notes, *self.chronicle.notes):
            self.narrate("warning", "", note)
        self.roster = Roster(
            config, self.shell, self.news, self.chronicle.past,
            may_be_durable=not state_dir.is_temporary,
        )  # fmt: skip

    @property
    def config(self) -> Config:
        """As it was last read."""
        return self.roster.config

    # -- clients

    def listen(self) -> str:
        """Open the socket; returns its path. Raises ListenError."""
        spec = self.config.supervisor
        path = socket_path(spec.socket, spec.name)
        self._listener = Listener(self.loop, path, Access.of(spec), self._client)
        return path

    def _client(self, fd: int, pid: int, uid: int) -> None:
        session = Session(self, secrets.token_hex(6), fd, fd, peer=f"uid:{uid}/pid:{pid}")
        session.uid = uid
        self.sessions.add(session)
        session.start()

    def serve_stdio(self, read_fd: int, write_fd: int) -> None:
        """One client on our standard input and output."""
        peer = f"uid:{os.getuid()}/stdio"
        session = Session(self, secrets.token_hex(6), read_fd, write_fd, peer=peer, is_stdio=True)
        self.sessions.add(session)
        session.start()

    def session_closed(self, session: Session) -> None:
        """Its runs are cancelled, its watches end; what it submitted goes on."""
        self.sessions.discard(session)
        self.news.watches.forget(session)
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
            self.roster.reload_all(who="HUP")

    def new_job_id(self) -> str:
        """An id for a caller that gave none."""
        self._jobs += 1
        return f"{self._id}.{self._jobs}"

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
                return NOTHING
            self.shell.act()
            return await asyncio.wait_for(future, plugin.spec.drain_timeout_s)
        except TimeoutError:
            raise Fault.new(Code.DEADLINE, f"{name}: flush was not answered in time") from None
        finally:
            del self._flushing[name]

    # -- what the shell tells

    def phase(self, order: Phase) -> None:
        """A changeover entered a step."""
        self.news.phase(order)

    def ended(self, change: Changeover) -> None:
        """It ended, or is drained and only watched."""
        self.news.ended(change)
        if change.outcome == "refused":
            self.roster.refused(change)
        if change.step in (Step.WATCH, Step.DONE):
            self.shell.staging.retain()

    def record(self, entry: dict[str, Any]) -> None:
        """Append to the history."""
        self.chronicle.record(entry)

    def changed(self, order: Changed) -> None:
        """A plugin or a worker has changed, and may have gone."""
        self.news.changed(order)
        self.loop.call_soon(self._look_for_the_end)

    def _look_for_the_end(self) -> None:
        self.roster.notice_removed()
        if self.shell.core.desk.is_stopping and self.shell.core.is_idle:
            self.stopped.set()

    def narrate(self, level: Level, plugin: str, text: str) -> None:
        """Say something to people."""
        self.news.narrate(level, plugin, text)

    def worker_line(self, worker: Worker, level: Level, text: str) -> None:
        """A worker wrote to its stderr or sent `log`."""
        self.news.worker_line(worker, level, text)

    def flushed(self, plugin: str, values: bytes) -> None:
        """A filter gave back what it held: to whoever asked, or before a cut to its callers."""
        future = self._flushing.get(plugin)
        if future is not None:
            if not future.done():
                future.set_result(values)
            return
        takers = [session for session in self.sessions if plugin in session.wants_flushed]
        for session in takers:
            session.flushed(plugin, values)
        if not takers and values != NOTHING:
            text = "a filter gave back values before the cut, and nobody took them"
            self.narrate("warning", plugin, text)

    def settled(self, job: Job) -> None:
        """A job ended."""
        self.news.settled(job, self.shell.now())
        if self.shell.core.desk.is_stopping:
            self.loop.call_soon(self._look_for_the_end)

    def registered(self, plugin: str, staged: Staged | None) -> None:
        """A release serves."""
        self.roster.registered(plugin, staged)

    # -- views

    def status_document(self, only: str | None = None) -> dict[str, Any]:
        """`changeover.status/1`."""
        core = self.shell.core
        now = core.desk.now = self.shell.now()
        chosen = [plugin for plugin in core.plugins.values() if only in (None, plugin.name)]
        usage = self._usage.read(
            worker.pid
            for plugin in chosen
            for generation in plugin.generations.values()
            for worker in (*generation.workers.values(), *generation.leaving)
            if worker.pid
        )
        return {
            "schema": "changeover.status/1",
            "name": self.config.supervisor.name,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started_at, 3),
            "seq": self.news.seq,
            "journal": self.shell.ledger.facts(),
            "plugins": {
                plugin.name: {
                    **plugin_facts(core, plugin, usage),
                    **self.news.rates[plugin.name].facts(now),
                }
                for plugin in chosen
            },
        }

    # -- the end

    def stop(
        self, *, at_once: bool = False, timeout_s: float | None = None
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        """Accept nothing from now on. To await: finish what was accepted (within `stop_timeout`)
        and stop; the counts of all plugins.
        """
        self._is_hurried |= timeout_s != math.inf
        if at_once and self.stopped.is_set():  # only farewells are left
            for session in list(self.sessions):
                session.close()
        core = self.shell.core
        counts = [plugin.counts for plugin in core.plugins.values()]
        core.stop(self.shell.now(), at_once=at_once)
        self.shell.act()
        self._look_for_the_end()
        limit_s = self.config.supervisor.stop_timeout_s if timeout_s is None else timeout_s
        return self._await_the_end(counts, limit_s)

    async def _await_the_end(self, counts: list[Counts], limit_s: float) -> dict[str, Any]:
        core = self.shell.core
        try:
            await asyncio.wait_for(self.stopped.wait(), limit_s)
        except TimeoutError:
            self.narrate("warning", "", f"not idle {limit_s:g} s after stop: killing what is left")
            core.stop(self.shell.now(), at_once=True)
            self.shell.act()
            await self.stopped.wait()
        return {
            name: sum(getattr(each, name) for each in counts)
            for name in ("accepted", "done", "failed", "cancelled", "lost", "rerun")
        }

    async def close(self) -> None:
        """Say goodbye to the clients and let go of everything.

        Until here whoever wants may connect, to see how far it is or to hurry it.
        """
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self.shell.ledger.written()
        self.news.watches.close()
        sessions = list(self.sessions)
        await asyncio.gather(*(session.answer_all(ANSWERS_S) for session in sessions))
        await asyncio.gather(*map(self._farewell, sessions))
        await self.roster.close()
        await self.shell.close()
        self.chronicle.close()

    def _farewell(self, session: Session) -> asyncio.Future[None]:
        """Done when the client has read everything, however long it takes if nobody is hurried."""
        gone: asyncio.Future[None] = self.loop.create_future()
        patience_s = FAREWELL_S if self._is_hurried else None
        session.goaway(
            int(FatalCode.CLOSING), "the supervisor has stopped", patience_s=patience_s,
            reconnect=False,
        )  # fmt: skip
        session.channel.when_flushed(lambda: None if gone.done() else gone.set_result(None))
        return gone


def run(config: Config, *, stdio: bool, check: bool) -> int:
    """Be the supervisor until the end; the exit code."""
    from .running import run as run_now

    return run_now(config, stdio=stdio, check=check)
