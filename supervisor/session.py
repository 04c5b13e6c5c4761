"""One client: its requests, its jobs in flight, what is kept for it, what it watches.

Knows the wire and the shell; what each method does is in `calls_*.py`. A request is answered
exactly once; a handler returns the packed result, raises a Fault, returns None when the answer
comes later, or is a coroutine of one of these.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ..protocol import limits
from ..protocol.errors import Code, Fatal, FatalCode, Fault
from ..protocol.messages import (
    NOTIFICATION,
    REQUEST,
    Message,
    failure,
    notification,
    notification_raw,
    open_message,
    pack,
    response_raw,
)
from .caller import Caller
from .channel import Channel, Patience
from .job import Job
from .kept import Ended, Kept

if TYPE_CHECKING:
    from .service import Service

LAGS_BYTES = 1024 * 1024
ENVELOPE_BYTES = 64  # more than there is around a result
GOAWAY_S = 2.0
Answer = bytes | None | Coroutine[Any, Any, bytes | None]
Handler = Callable[["Session", Message], Answer]


class Session:
    """A client's connection and everything that is on its account."""

    def __init__(
        self, service: Service, session_id: str, read_fd: int, write_fd: int, *,
        peer: str, is_stdio: bool = False,
    ) -> None:  # fmt: skip
        self.service = service
        self.id = session_id
        self.peer = peer  # for the history: who
        self.is_stdio = is_stdio
        self.uid = -1
        self.is_open = True
        self.input_ended = False
        self.callers: dict[str, Caller] = {}  # by job id
        self.kept = Kept(limits.KEPT_RESULTS_BYTES)
        self.jobs_in_flight = 0
        self.bytes_in_flight = 0
        self.wants_flushed: set[str] = set()  # plugins whose filters may give back values
        self._dropped: dict[int, int] = {}  # by watch: notifications, while it did not read
        self._msgids: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._late_progress: dict[str, list[bytes]] = {}
        self.channel = Channel(
            service.loop, read_fd, write_fd, on_message=self._message, on_end=self._ended,
            on_fatal=self._fatal, patience=Patience(unread_s=None) if is_stdio else Patience(),
        )  # fmt: skip

    def start(self) -> None:
        """Begin to listen to it."""
        self.channel.start()

    # -- requests

    def _message(self, raw: bytes) -> None:
        try:
            message = open_message(raw)
        except Fault as fault:
            if fault.kind == REQUEST and fault.msgid is not None:
                self._check_msgid(fault.msgid)
                self.refuse(fault.msgid, fault)
            return
        if message.kind == REQUEST:
            self._check_msgid(message.msgid)
            self._request(message)
        elif message.kind == NOTIFICATION:
            self._notification(message)
        # R11: a client is never asked, so its responses answer nothing: ignored (R10)

    def _check_msgid(self, msgid: int) -> None:
        if msgid in self._msgids:
            raise Fatal(FatalCode.DUPLICATE_MSGID, f"msgid {msgid} is outstanding already")
        self._msgids.add(msgid)

    def _request(self, message: Message) -> None:
        handler = self.service.requests.get(message.method)
        if handler is None:
            text = f"unknown method {message.method[:80]!r}"
            self.refuse(message.msgid, Fault.new(Code.METHOD_NOT_FOUND, text))
            return
        try:
            answer = handler(self, message)
        except Fault as fault:
            self.refuse(message.msgid, fault)
        except Exception as bug:  # noqa: BLE001 - R3: a fault of ours is answered too
            self.refuse(message.msgid, self._internal(bug))
        else:
            if isinstance(answer, bytes):
                self.respond(message.msgid, answer)
            elif answer is not None:
                self._later(message.msgid, answer)

    def _later(self, msgid: int, answer: Coroutine[Any, Any, bytes | None]) -> None:
        task = self.service.loop.create_task(self._await(msgid, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _await(self, msgid: int, answer: Coroutine[Any, Any, bytes | None]) -> None:
        try:
            result = await answer
        except Fault as fault:
            self.refuse(msgid, fault)
        except asyncio.CancelledError:
            self.refuse(msgid, Fault.new(Code.STOPPING, "the supervisor is stopping"))
        except Exception as bug:  # noqa: BLE001 - R3
            self.refuse(msgid, self._internal(bug))
        else:
            if result is not None:
                self.respond(msgid, result)

    def _internal(self, bug: Exception) -> Fault:
        self.service.narrate("error", "", "".join(traceback.format_exception(bug)).rstrip())
        return Fault.new(Code.INTERNAL, f"a fault of the supervisor's: {type(bug).__name__}: {bug}")

    async def answer_all(self, timeout_s: float) -> None:
        """Let the requests under way come to their answers; then they are told that it is over."""
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=timeout_s)

    def _notification(self, message: Message) -> None:
        handler = self.service.notifications.get(message.method)
        if handler is not None:
            try:
                handler(self, message)
            except Fault as fault:
                self.service.narrate("debug", "", f"{self.peer}: {message.method}: {fault.message}")

    # -- answers

    def respond(self, msgid: int, result: bytes) -> None:
        """The one response to a request; `result` is packed. Too large is an error instead."""
        message = response_raw(msgid, result)
        if len(message) > limits.MESSAGE_BYTES:
            text = f"an answer of {len(result)} bytes, a message holds {limits.MESSAGE_BYTES}"
            self.refuse(msgid, Fault.new(Code.TOO_LARGE, text))
            return
        self._msgids.discard(msgid)
        self.channel.send(message)

    def refuse(self, msgid: int, fault: Fault) -> None:
        """The one response to a request that failed."""
        self._msgids.discard(msgid)
        self.channel.send(failure(msgid, fault))

    def notify(self, method: str, params: list[Any]) -> None:
        """Send a notification that this client asked for."""
        self.channel.send(notification(method, params))

    def notify_watch(self, watch: int, method: str, params: list[Any]) -> None:
        """A watch's notification: dropped and counted while the client does not read."""
        if self.channel.unread_bytes > LAGS_BYTES:
            self._dropped[watch] = self._dropped.get(watch, 0) + 1
            return
        dropped = self._dropped.pop(watch, 0)
        if dropped:
            self.notify("lagged", [watch, {"dropped": dropped, "seq": self.service.news.seq}])
        self.notify(method, params)

    def progress(self, job: Job, params: list[bytes]) -> None:
        """Pass progress on; for a slow client only the newest of each job."""
        if self.channel.unread_bytes <= LAGS_BYTES and job.id not in self._late_progress:
            self.channel.send(notification_raw("progress", params))
            return
        if not self._late_progress:
            self.channel.when_flushed(self._send_late_progress)
        self._late_progress[job.id] = params

    def _send_late_progress(self) -> None:
        late, self._late_progress = self._late_progress, {}
        for params in late.values():
            self.channel.send(notification_raw("progress", params))

    def item(self, params: list[bytes]) -> None:
        """Pass one item of a stream on."""
        self.channel.send(notification_raw("item", params))

    def flushed(self, plugin: str, values: bytes) -> None:
        """What a filter still held before a cut: after all earlier answers, before any later."""
        self.channel.send(notification_raw("flushed", [pack(plugin), values]))

    # -- jobs

    def check_credit(self, size: int, *, may_wait: bool) -> None:
        """Raises Fault BUSY beyond `session_jobs` and `session_bytes` (held jobs count too)."""
        spec = self.service.config.supervisor
        factor = 2 if may_wait else 1
        if self.jobs_in_flight >= spec.session_jobs * factor:
            raise Fault.new(
                Code.BUSY, f"{self.jobs_in_flight} jobs in flight in this session",
                reason="session",
            )  # fmt: skip
        if self.bytes_in_flight + size > spec.session_bytes * factor:
            raise Fault.new(
                Code.BUSY, f"{self.bytes_in_flight} bytes in flight in this session",
                reason="session",
            )  # fmt: skip

    def job_came(self, job: Job, caller: Caller) -> None:
        """A job is on this session's account."""
        self.callers.setdefault(job.id, caller)
        self.jobs_in_flight += 1
        self.bytes_in_flight += caller.size

    def job_left(self, job: Job, caller: Caller) -> None:
        """It ended."""
        if self.callers.get(job.id) is caller:
            del self.callers[job.id]
            self._late_progress.pop(job.id, None)
        self.jobs_in_flight -= 1
        self.bytes_in_flight -= caller.size

    def keep(self, job_id: str, ended: Ended, *, notify: bool) -> None:
        """The outcome of a submitted job: delivered, or kept until it is asked for."""
        if notify and self.is_open:
            self.channel.send(notification_raw("job_done", [ended.record.packed]))
        else:
            self.kept.keep(job_id, ended)

    # -- the end

    def _ended(self) -> None:
        self.input_ended = True
        if self.is_stdio:
            self._look_for_rest()
            self.service.stdio_ended(self)
        else:
            self.close()

    def _look_for_rest(self) -> None:
        """Whoever ends its input in the middle of a message must learn of it."""
        rest = self.channel.unfinished_bytes
        if rest:
            text = f"{self.peer}: the input ended in mid message, after {rest} bytes of it"
            self.service.narrate("warning", "", text)
            self.service.was_misused = True

    def _fatal(self, fatal: Fatal) -> None:
        self.service.narrate(
            "warning", "", f"{self.peer}: {fatal.message} (code {int(fatal.code)})"
        )
        self.goaway(int(fatal.code), fatal.message)
        if self.is_stdio:
            self.service.was_misused = True
            self.service.stdio_ended(self)

    def goaway(
        self, code: int, message: str, *, patience_s: float | None = GOAWAY_S, **facts: Any
    ) -> None:
        """Say why, then end the connection once the client has read everything, or in any case
        after `patience_s` (None: as long as somebody could read it).
        """
        if not self.is_open:
            return
        self.notify("goaway", [code, message, facts])
        self.channel.when_flushed(self.close)
        if patience_s is not None:
            self.service.loop.call_later(patience_s, self.close)

    def close(self) -> None:
        """The client is gone: its runs are cancelled, what it submitted goes on."""
        if not self.is_open:
            return
        self.is_open = False
        self.channel.close()
        self._msgids.clear()
        for task in list(self._tasks):
            task.cancel()
        self.service.session_closed(self)
