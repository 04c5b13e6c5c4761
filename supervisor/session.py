"""One client: its requests, its jobs in flight, what is kept for it, what it watches.

Knows the wire and the shell; what each method does is in `calls_*.py`, how it is answered in
`dialogue.py`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..protocol import limits
from ..protocol.errors import Code, Fatal, Fault
from ..protocol.messages import notification, notification_raw, pack
from .caller import Caller
from .channel import Channel, Patience
from .dialogue import Dialogue
from .job import Job
from .kept import Ended, Kept

if TYPE_CHECKING:
    from .service import Service

LAGS_BYTES = 1024 * 1024
ENVELOPE_BYTES = 64  # more than there is around a result
GOAWAY_S = 2.0


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
        self._late_progress: dict[str, list[bytes]] = {}
        self._dialogue = Dialogue(self)
        self.respond = self._dialogue.respond
        self.refuse = self._dialogue.refuse
        self.answer_all = self._dialogue.answer_all
        self.channel = Channel(
            service.loop, read_fd, write_fd, on_message=self._dialogue.take, on_end=self._ended,
            on_fatal=self._fatal, patience=Patience(unread_s=None) if is_stdio else Patience(),
        )  # fmt: skip

    def start(self) -> None:
        """Begin to listen to it."""
        self.channel.start()

    # -- answers

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

    def outcome(self, job_id: str) -> Ended | None:
        """What is kept of a job that has ended: for this session, or in the journal."""
        return self.kept.get(job_id) or self.service.shell.ledger.get(job_id)

    def delivered(self, job_id: str) -> None:
        """An outcome is being sent: once the client has it, the journal need not keep it."""
        if self.service.shell.ledger.get(job_id) is not None:
            has_left = partial(self.channel.when_flushed, partial(self._has_left, job_id))
            self.service.loop.call_soon(has_left)

    def _has_left(self, job_id: str) -> None:
        if self.channel.is_writable:  # else what was not taken was dropped
            self.service.shell.ledger.forget(job_id)

    def keep(self, job_id: str, ended: Ended, *, notify: bool) -> None:
        """The outcome of a submitted job: delivered, or kept until it is asked for."""
        if notify and self.is_open:
            self.channel.send(notification_raw("job_done", [ended.record.packed]))
            self.delivered(job_id)
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
        self._dialogue.close()
        self.service.session_closed(self)
