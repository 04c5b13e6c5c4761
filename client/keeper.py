"""The life of a connection, told by the one thread that reads: hello, serve, find again, leave.

Every wait here is in `Pump.pump` and has a deadline or is ended by its bell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..protocol.errors import Fatal
from ..protocol.messages import pack
from ..protocol.versions import SPOKEN
from .call import Call, Reply
from .errors import ChangeoverError, Disconnected
from .line import Line, disconnected
from .link import Link, LinkLost
from .pump import Pump
from .transport import Transport

HELLO_TIMEOUT_S = 30.0
_LAST_BREATH_S = 5.0  # for a peer that has closed its end and is about to leave
_REDIAL_FIRST_S = 0.02
_REDIAL_MOST_S = 1.0
_JOBS_AT_ONCE = 500  # in one question: ids have up to 64 bytes, its options hold 64 KiB

Dial = Callable[[], Transport]


class Keeper:
    """Keeps a `Line` going over one transport after the other.

    `redial` opens the next transport; without it a broken one is the end. `is_private`: the peer
    is ours, the end of input tells it to finish and leave.
    """

    def __init__(
        self, transport: Transport, *, redial: Dial | None, reconnect_s: float, is_private: bool
    ) -> None:
        self.pump = Pump()
        self.line = Line(can_resume=redial is not None, ring=self.pump.ring)
        self.server: dict[str, Any] = {}  # the answer to hello
        self.on_resumed: list[Callable[[], None]] = []
        self._transport: Transport | None = transport
        self._redial = redial
        self._reconnect_s = reconnect_s
        self._is_private = is_private

    def open(self, timeout_s: float) -> None:
        """Say hello over the first transport. On failure everything is closed again."""
        assert self._transport is not None
        try:
            self.line.resume(self._shake_hands(self._transport, time.monotonic() + timeout_s))
        except (LinkLost, Fatal) as err:
            why = self._drop_transport(err, _LAST_BREATH_S)
            self.bury()
            raise Disconnected(f"{why}, before it answered", executed="no") from None
        except BaseException:
            self._drop_transport(LinkLost(), 0.0)
            self.bury()
            raise

    def run(self) -> None:
        """Serve until the line closes or is lost for good, then leave nothing behind."""
        try:
            self._serve()
            self._leave()
        finally:
            self.bury()

    def kill(self) -> None:
        """End a private peer by force."""
        if self._transport is not None:
            self._transport.kill()

    def forget(self) -> None:
        """In a forked child: the parent goes on with the supervisor, here nothing can be asked."""
        self.line.why = "this process was forked from the one that had the connection"
        self.line.is_over = self.line.is_closing = True
        if self._transport is not None:
            self._transport.forget()

    def bury(self) -> None:
        """Close everything and tell whoever still waits."""
        if self._transport is not None:
            left = self.line.deadline - time.monotonic()
            self.line.why = self._drop_transport(None, max(left, 0.0))
        self.line.end(self.line.why)
        self.pump.close()

    # -- serving

    def _serve(self) -> None:
        while not self.line.is_closing:
            try:
                self.pump.pump(None)
            except (LinkLost, Fatal) as err:
                self.line.lose()
                if self._redial is None:
                    self._mourn(err)
                    return
                self._find_again(self._redial, err)

    def _leave(self) -> None:
        """Whoever waits still gets his answer, until the deadline."""
        link = self.line.link
        if link is None:
            return
        if self._is_private:
            link.end_input()
        while self._is_private or not self.line.session.is_idle or link.wants_write:
            left = self.line.deadline - time.monotonic()
            if left <= 0:
                return
            try:
                self.pump.pump(left)
            except (LinkLost, Fatal) as err:
                self.line.lose()
                self._mourn(err)
                return

    # -- hello

    def _shake_hands(self, transport: Transport, deadline: float) -> Link:
        """Open a link and agree on what is spoken. Raises LinkLost, Fatal, ChangeoverError."""
        session = self.line.session
        session.start_over()
        link = Link(transport, session.feed, self.pump.ring)
        self.pump.attach(link)
        offer = {"protocol": list(SPOKEN), "name": "changeover.client"}
        answer = self._ask(link, "hello", [offer], deadline)
        self.server = answer if isinstance(answer, dict) else {}
        limits = self.server.get("limits") or {}
        session.message_bytes = limits.get("message_bytes", session.message_bytes)
        session.budget.most_jobs = limits.get("jobs", session.budget.most_jobs)
        session.budget.most_bytes = limits.get("bytes", session.budget.most_bytes)
        return link

    def _ask(self, link: Link, method: str, params: Sequence[Any], deadline: float) -> Any:
        """Ask over a link that callers cannot use yet, and read until the answer is there."""
        reply = Reply()
        call = Call(method, [pack(param) for param in params], reply)
        self.line.session.open(call)
        link.send(call.message, call.msgid)
        try:
            while not (reply.done() or self.line.is_closing or time.monotonic() >= deadline):
                self.pump.pump(deadline - time.monotonic())
        finally:
            why = f"the supervisor did not answer {method} in time"
            self.line.session.fail(call, Disconnected(why, executed="no"))
        return reply.result()

    # -- finding it again

    def _find_again(self, redial: Dial, err: Exception) -> None:
        why = self._drop_transport(err, 0.0)
        give_up_at = time.monotonic() + self._reconnect_s
        pause_s = _REDIAL_FIRST_S
        while not self.line.is_closing:
            try:
                self._resume(redial(), why)
                return
            except (LinkLost, Fatal, ChangeoverError) as failure:
                self._drop_transport(failure, 0.0)
                if time.monotonic() >= give_up_at:
                    self._give_up(why if isinstance(failure, LinkLost) else str(failure))
                    give_up_at = 0.0  # from here on every new call is good for one try
                else:
                    self._pause(pause_s)
                    pause_s = min(2 * pause_s, _REDIAL_MOST_S)

    def _resume(self, transport: Transport, why: str) -> None:
        self._transport = transport
        deadline = time.monotonic() + HELLO_TIMEOUT_S
        link = self._shake_hands(transport, deadline)
        self._ask_about_doubtful(link, deadline)
        for call in self.line.resume(link):
            self.line.session.fail(call, disconnected(why, call))
        for hook in self.on_resumed:
            hook()

    def _ask_about_doubtful(self, link: Link, deadline: float) -> None:
        """What would not be repeated as it is: what is pure, and which jobs are known there?"""
        purity = self.line.purity
        purity.start_over()
        doubtful = [call.job for call in self.line.session.pending if not purity.may_repeat(call)]
        for start in range(0, len(doubtful), _JOBS_AT_ONCE):
            known = doubtful[start : start + _JOBS_AT_ONCE]
            purity.learn(self._ask(link, "status", [{"known": known}], deadline))

    def _give_up(self, why: str) -> None:
        """Nobody came back in time: end what waits, then sleep until somebody calls again."""
        self.line.fail_all(lambda call: disconnected(why, call))
        self.line.session.end_listening()  # who only watches asks nothing that could fail
        while self.line.session.is_idle and not self.line.is_closing:
            self.pump.pump(None)

    def _pause(self, pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while not self.line.is_closing and (left := until - time.monotonic()) > 0:
            self.pump.pump(left)

    # -- the end of a transport

    def _mourn(self, err: Exception) -> None:
        left = self.line.deadline - time.monotonic() if self.line.is_closing else _LAST_BREATH_S
        why = self._drop_transport(err, max(left, 0.0))
        if not self.line.is_closing or self.line.session.pending:
            self.line.why = why

    def _drop_transport(self, err: Exception | None, timeout_s: float) -> str:
        """Close what is left of the transport and say what became of the peer."""
        self.pump.detach()
        transport, self._transport = self._transport, None
        if transport is None:
            return self.line.why
        transport.close(timeout_s)
        said = self.line.session.goaway
        if isinstance(err, Fatal):
            return f"the supervisor broke the protocol: {err.message}"
        if said:
            return f"the supervisor ended the connection: {said}"
        return self.line.why if err is None else transport.epitaph()
