"""Requests and their one answer each (R3), with one client.

A handler returns the packed result, raises a Fault, returns None when the answer comes later, or
returns a coroutine of one of these. Knows no method from another.
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
    open_message,
    response_raw,
)

if TYPE_CHECKING:
    from .session import Session

Answer = bytes | None | Coroutine[Any, Any, bytes | None]
Handler = Callable[["Session", Message], Answer]


class Dialogue:
    """What a session was asked and has not answered yet."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._service = session.service
        self._msgids: set[int] = set()
        self._strays = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, raw: bytes) -> None:
        """One message of the client's, whole. Raises Fatal."""
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
        else:
            self._stray()

    def _stray(self) -> None:
        """R11: a client is never asked, so its response answers nothing: counted (R10)."""
        self._strays += 1
        if self._strays > limits.STRAY_RESPONSES:
            text = f"sent {self._strays} answers, and was asked nothing"
            raise Fatal(FatalCode.FLOOD, text)

    def _check_msgid(self, msgid: int) -> None:
        if msgid in self._msgids:
            raise Fatal(FatalCode.DUPLICATE_MSGID, f"msgid {msgid} is outstanding already")
        self._msgids.add(msgid)

    def _request(self, message: Message) -> None:
        handler = self._service.requests.get(message.method)
        if handler is None:
            text = f"unknown method {message.method[:80]!r}"
            self.refuse(message.msgid, Fault.new(Code.METHOD_NOT_FOUND, text))
            return
        try:
            answer = handler(self._session, message)
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
        task = self._service.loop.create_task(self._await(msgid, answer))
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
        self._service.narrate("error", "", "".join(traceback.format_exception(bug)).rstrip())
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
        handler = self._service.notifications.get(message.method)
        if handler is not None:
            try:
                handler(self._session, message)
            except Fault as fault:
                self._service.narrate(
                    "debug", "", f"{self._session.peer}: {message.method}: {fault.message}"
                )

    # -- answers

    def respond(self, msgid: int, result: bytes) -> None:
        """The one response to a request; `result` is packed. Too large is an error instead."""
        message = response_raw(msgid, result)
        if len(message) > limits.MESSAGE_BYTES:
            text = f"an answer of {len(result)} bytes, a message holds {limits.MESSAGE_BYTES}"
            self.refuse(msgid, Fault.new(Code.TOO_LARGE, text))
            return
        self._msgids.discard(msgid)
        self._session.channel.send(message)

    def refuse(self, msgid: int, fault: Fault) -> None:
        """The one response to a request that failed."""
        self._msgids.discard(msgid)
        self._session.channel.send(failure(msgid, fault))

    def close(self) -> None:
        """Nobody is left to be answered."""
        self._msgids.clear()
        for task in list(self._tasks):
            task.cancel()
