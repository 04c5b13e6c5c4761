"""A conversation with a supervisor that any thread may use.

Jobs and requests are written by the thread that makes them; answers are told from the
connection's own, which is the only one that reads.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..protocol.messages import pack
from .call import Call, Reply
from .errors import Disconnected, JobTimeout
from .keeper import HELLO_TIMEOUT_S, Keeper
from .transport import Transport

RECONNECT_S = 30.0
STOP_TIMEOUT_S = 60.0
CANCEL_GRACE_S = 2.0
_JOIN_MARGIN_S = 10.0


class Connection:
    """What callers use. `redial` and `is_private`: see `Keeper`."""

    def __init__(
        self,
        transport: Transport,
        *,
        redial: Callable[[], Transport] | None = None,
        reconnect_s: float = RECONNECT_S,
        is_private: bool = False,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        self.stop_timeout_s = stop_timeout_s
        self._is_private = is_private
        self._keeper = Keeper(
            transport, redial=redial, reconnect_s=reconnect_s, is_private=is_private
        )
        self._line = self._keeper.line
        self.session = self._line.session
        self._thread = threading.Thread(
            target=self._keeper.run, name="changeover-client", daemon=True
        )

    def open(self, timeout_s: float = HELLO_TIMEOUT_S) -> None:
        """Say hello and start reading. On failure everything is closed again."""
        self._keeper.open(timeout_s)
        self._thread.start()

    @property
    def server(self) -> dict[str, Any]:
        """What the supervisor answered to hello."""
        return self._keeper.server

    @property
    def is_reader(self) -> bool:
        """Is this the thread that reads? It must never wait for an answer."""
        return threading.current_thread() is self._thread

    def on_resumed(self, hook: Callable[[], None]) -> None:
        """Call `hook` after every reconnect, from the thread that reads."""
        self._keeper.on_resumed.append(hook)

    def request(
        self, method: str, params: Sequence[Any], read: Callable[[Any], Any] | None = None
    ) -> Reply:
        """Ask something that is not a job; the reply is a future."""
        reply = Reply(read)
        self._line.start(Call(method, [pack(param) for param in params], reply))
        return reply

    def notify(self, method: str, params: Sequence[Any]) -> None:
        """Tell something; while the supervisor is away it is lost."""
        self._line.notify(method, params)

    def call_off(self, call: Call) -> None:
        """Ask for a job's end, without waiting for anything."""
        if self._line.call_off(call):
            self.notify("cancel", [call.job, {"reason": "client"}])

    def ask_off(self, call: Call) -> Reply | None:
        """Ask for a job's end; the reply is `{job, state}`. None: it has ended, nobody is there."""
        if not self._line.call_off(call):
            return None
        return self.request("cancel", [call.job, {"reason": "client"}])

    def check_may_wait(self) -> None:
        """Raise RuntimeError in the thread that reads: there a wait would never end."""
        if self.is_reader:
            raise RuntimeError(
                "a callback must not wait for an answer: it runs in the thread that reads them; "
                "submit, or hand the work to a thread of yours"
            )

    def start_job(self, call: Call, timeout_s: float | None = None) -> None:
        """Send a job. While the session is full wait, at most `timeout_s`."""
        budget = self.session.budget
        if self.is_reader:
            # A callback submits. Who reads must not wait for what only reading can bring.
            budget.force(call.size)
        elif not budget.take(call.size):
            self._wait_for_room(call, timeout_s)
        self.send_job(call)

    def send_job(self, call: Call) -> None:
        """Send a job for which room was taken; the room is given back if it cannot be sent."""
        try:
            self._line.start(call)
        except BaseException:
            self.session.budget.give(call.size)
            raise
        if self._line.can_resume and self._line.purity.is_news(call.plugin):
            with contextlib.suppress(Disconnected):  # it matters only if we find it again
                self.request("status", [{"plugin": call.plugin}], self._line.purity.learn)

    def check_open(self) -> None:
        """Raise Disconnected when nothing can be asked any more."""
        self._line.check_open()

    def close(self, *, timeout_s: float | None = None, now: bool = False) -> None:
        """Finish what was sent, or with `now` cancel it, and leave. Never hangs: after
        `timeout_s` (by default the supervisor's own `stop_timeout`) a private supervisor is killed.
        """
        timeout_s = self.stop_timeout_s if timeout_s is None else timeout_s
        if now and not self._line.is_closing:
            self._cancel_all()
            timeout_s = min(timeout_s, CANCEL_GRACE_S)
        self.abandon(timeout_s)
        if self.is_reader:
            return
        try:
            self._thread.join(timeout_s + _JOIN_MARGIN_S)
        finally:
            if self._thread.is_alive():  # interrupted, or stuck in somebody's callback
                self._keeper.kill()

    def abandon(self, timeout_s: float) -> None:
        """Have the reading thread close everything. Takes no lock: finalizers call it.

        Said twice, the shorter time counts.
        """
        deadline = time.monotonic() + timeout_s
        if not self._line.is_closing or deadline < self._line.deadline:
            self._line.deadline = deadline
            self._line.is_closing = True
        self._keeper.pump.ring()

    def forget(self) -> None:
        """In a forked child: let go of everything without a word to the supervisor."""
        self._keeper.forget()

    def _wait_for_room(self, call: Call, timeout_s: float | None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        left = timeout_s
        while not self.session.budget.take_or_wait(call.size, left):
            self._line.check_open()
            if deadline is not None and (left := deadline - time.monotonic()) <= 0:
                raise JobTimeout.unsent(call.job, call.plugin, timeout_s or 0.0)

    def _cancel_all(self) -> None:
        for call in self.session.pending:
            if call.job:
                self.call_off(call)
        if self._is_private:
            with contextlib.suppress(Disconnected):
                self.request("shutdown", [{"mode": "now"}])
