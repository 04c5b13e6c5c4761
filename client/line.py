"""What the callers and the connection's thread share: the session and the link of the moment.

A call is entered into the session and sent under one lock, so that a connection that is lost
meanwhile either finds it in the table or refuses it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..protocol.messages import notification
from .call import Call
from .errors import Cancelled, Disconnected
from .link import Link
from .purity import Purity
from .session import Session


class Line:
    """Open while there is a link; closing and over are for good."""

    def __init__(self, *, can_resume: bool, ring: Callable[[], None]) -> None:
        self.session = Session()
        self.purity = Purity()
        self.link: Link | None = None  # None while there is no way to the supervisor
        self.can_resume = can_resume
        self.is_closing = False
        self.is_over = False
        self.deadline = 0.0  # of closing, monotonic
        self.why = "the connection was closed"
        self._ring = ring
        # Reentrant: the garbage collector may run a finalizer that sends, in the midst of a send.
        self._lock = threading.RLock()

    def check_open(self) -> None:
        """Raise Disconnected when nothing can be asked any more."""
        if self.is_closing or self.is_over:
            raise Disconnected(self.why, executed="no")

    def start(self, call: Call) -> None:
        """Enter a call and send it; while the supervisor is away it waits for its return."""
        with self._lock:
            self.check_open()
            self.session.open(call)
            if self.link is None:
                self._ring()
            else:
                self._send(self.link, call)

    def notify(self, method: str, params: Sequence[Any]) -> None:
        """Tell something; while the supervisor is away it is lost."""
        link = self.link
        if link is not None:
            link.send(notification(method, params))

    def call_off(self, call: Call) -> bool:
        """Nobody wants this job any more: it is not sent again, and ends here if the supervisor
        is away. False then; True says that the supervisor is there to be told.
        """
        with self._lock:
            call.is_unwanted = True
            if self.link is not None:
                return True
        self._end_unwanted([call])
        return False

    def lose(self) -> None:
        """The link broke: mark what cannot have arrived whole."""
        with self._lock:
            link, self.link = self.link, None
            unsent = link.unsent() if link is not None else set()
            pending = self.session.pending
            for call in pending:
                if call.msgid in unsent:
                    call.is_sent = False
        if self.can_resume:
            self._end_unwanted([call for call in pending if call.is_unwanted])

    def resume(self, link: Link) -> list[Call]:
        """Go on over a new link: send what may be sent again, return what may not."""
        doubtful = []
        with self._lock:
            for call in self.session.pending:
                if self.purity.may_repeat(call):
                    self._send(link, call)
                else:
                    doubtful.append(call)
            self.link = link
        return doubtful

    def end(self, why: str) -> None:
        """No link will come any more: whoever waits is told."""
        with self._lock:
            self.why = why
            self.is_over = True
            self.link = None
        self.fail_all(lambda call: disconnected(why, call))
        self.session.end_listening()
        self.session.budget.wake()

    def fail_all(self, error: Callable[[Call], Disconnected]) -> None:
        """End every call that is under way."""
        for call in self.session.pending:
            self.session.fail(call, error(call))

    def _end_unwanted(self, calls: list[Call]) -> None:
        for call in calls:
            data = {"executed": "maybe" if call.is_sent else "no", "reason": "client"}
            text = "cancelled while the supervisor was away"
            self.session.fail(call, Cancelled(text, data=data, plugin=call.plugin, job=call.job))

    def _send(self, link: Link, call: Call) -> None:
        call.is_sent = link.send(call.message, call.msgid)
        if not self.can_resume:
            call.message, call.parts = b"", []  # never sent again: let go of the payload


def disconnected(why: str, call: Call) -> Disconnected:
    """What the caller of an unanswered call is told."""
    executed = "maybe" if call.is_sent else "no"
    what = f"job {call.job}" if call.job else call.method
    text = (
        f"{what} had been sent: it may have run, its answer will not come"
        if call.is_sent
        else f"{what} had not been sent: it did not run"
    )
    return Disconnected(
        f"{why}\n  {text}", executed=executed, plugin=call.plugin or None, job=call.job or None
    )
