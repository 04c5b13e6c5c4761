"""The conversation with a supervisor, without I/O, threads or a clock.

Bytes come in through `feed`; whoever waits is told. Both facades (threads and asyncio) stand on
this one table. A session outlives its connection: after a restart of the supervisor the same
calls are sent again, under the same ids.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from typing import Any

from ..protocol.errors import Fault
from ..protocol.framing import Splitter
from ..protocol.limits import MESSAGE_BYTES, MSGID
from ..protocol.messages import NOTIFICATION, RESPONSE, Message, open_message, request_raw, unpack
from .budget import Budget
from .call import Call, JobWaiter
from .errors import ChangeoverError, TooLarge
from .faults import error_of

log = logging.getLogger("changeover.client")

Listener = Callable[[str, list[Any]], None]


class Session:
    """Ids, the table of calls, and where each incoming message goes."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget if budget is not None else Budget()
        self.message_bytes = MESSAGE_BYTES
        self.goaway = ""  # what the supervisor said before it left
        self.strays = 0  # answers that nobody waited for
        self._pending: dict[int, Call] = {}
        self._hearing: dict[str, list[JobWaiter]] = {}
        self._listeners: list[Listener] = []
        self._msgids = itertools.count()
        self._jobs = itertools.count(1)
        self._prefix = os.urandom(6).hex()
        self._splitter = Splitter()

    def new_job_id(self) -> str:
        """An id that no other session has."""
        return f"{self._prefix}-{next(self._jobs)}"

    def open(self, call: Call) -> None:
        """Give the call an id, pack it and enter it into the table.

        Raises TooLarge beyond the limit of a message: the supervisor would end the connection.
        """
        call.msgid = self._free_msgid()
        call.message = request_raw(call.msgid, call.method, call.parts)
        if len(call.message) > self.message_bytes:
            raise TooLarge(
                f"a message of {len(call.message)} bytes, the limit is {self.message_bytes}",
                plugin=call.plugin or None,
                job=call.job or None,
            )
        self._pending[call.msgid] = call
        if call.hears is not None:
            self._hearing.setdefault(call.job, []).append(call.hears)

    def feed(self, data: bytes) -> None:
        """Take bytes as they were read and tell whom they concern.

        Raises Fatal when the peer breaks the protocol; what was whole before has been told.
        """
        self._splitter.feed(data)
        for raw in self._splitter:
            try:
                message = open_message(raw)
            except Fault as fault:
                self._tell_failed(fault)
            else:
                self._route(message)

    @property
    def pending(self) -> list[Call]:
        """The calls without an answer, in the order in which they were made."""
        return list(self._pending.copy().values())

    @property
    def is_idle(self) -> bool:
        """Does nobody wait for an answer?"""
        return not self._pending

    def fail(self, call: Call, error: ChangeoverError) -> None:
        """End a call with an error of ours, unless it has been answered."""
        if self._take(call.msgid) is not None:
            call.waiter.fail(error)

    def start_over(self) -> None:
        """A new connection: what was half received will not go on."""
        self._splitter = Splitter()
        self.goaway = ""

    def end_listening(self) -> None:
        """Nothing will be told any more: listeners hear an event without a name."""
        for listener in self._listeners:
            listener("", [])

    def listen(self, listener: Listener) -> None:
        """Hand every notification that is not about one job to `listener`."""
        self._listeners = [*self._listeners, listener]

    def _free_msgid(self) -> int:
        msgid = next(self._msgids) & MSGID
        while msgid in self._pending:
            msgid = next(self._msgids) & MSGID
        return msgid

    def _take(self, msgid: int) -> Call | None:
        """Out of the table: from here on the call is the taker's to tell. Atomic under the GIL."""
        call = self._pending.pop(msgid, None)
        if call is None:
            return None
        if call.hears is not None:
            self._stop_hearing(call.job, call.hears)
        if call.size:
            self.budget.give(call.size)
        return call

    def _stop_hearing(self, job: str, waiter: JobWaiter) -> None:
        waiters = [known for known in self._hearing.get(job, ()) if known is not waiter]
        if waiters:
            self._hearing[job] = waiters
        else:
            self._hearing.pop(job, None)

    def _route(self, message: Message) -> None:
        if message.kind == RESPONSE:
            self._answer(message)
        elif message.kind == NOTIFICATION:
            self._notice(message)
        # A request to a client does not exist (R11): nobody would understand the answer.

    def _answer(self, message: Message) -> None:
        call = self._take(message.msgid)
        if call is None:
            self.strays += 1
        elif message.error is None:
            call.waiter.answer(message.result)
        else:
            fault = Fault.of(message.error)
            call.waiter.fail(error_of(fault, plugin=call.plugin or None, job=call.job or None))

    def _tell_failed(self, fault: Fault) -> None:
        call = self._take(fault.msgid) if fault.msgid is not None else None
        if call is None:
            self.strays += 1
        else:
            call.waiter.fail(error_of(fault, plugin=call.plugin or None, job=call.job or None))

    def _notice(self, message: Message) -> None:
        try:
            self._notify(message.method, message.params)
        except (AttributeError, Fault, LookupError, TypeError, ValueError) as err:
            log.warning("the supervisor sent %s, which is not readable: %s", message.method, err)

    def _notify(self, method: str, params: list[bytes]) -> None:
        if method == "progress":
            self._tell_progress(unpack(params[0]), unpack(params[1]))
        elif method == "item":
            self._tell_item(unpack(params[0]), unpack(params[1]), params[2])
        else:
            values = [unpack(param) for param in params]
            if method == "goaway":
                self.goaway = f"{values[1]} (code {values[0]})"
            for listener in self._listeners:
                listener(method, values)

    def _tell_progress(self, job: str, report: Any) -> None:
        for waiter in self._hearing.get(job, ()):
            waiter.take_progress(report)

    def _tell_item(self, job: str, seq: int, raw: bytes) -> None:
        for waiter in self._hearing.get(job, ()):
            waiter.take_item(seq, raw)
