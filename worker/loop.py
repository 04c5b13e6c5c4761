"""The worker's one loop: read a message, do what it says, answer.

Jobs and hooks run on the main thread (jobs on a pool with `concurrency` above 1); `ping`,
`cancel`, `more` and `exit` are dealt with by whoever reads, see `inlet.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Union

from ..protocol import messages
from ..protocol.errors import Code, Fault
from ..protocol.messages import NOTIFICATION, REQUEST, Message
from .call import Call
from .credits import Credits
from .departure import GRACE_S, UNLOADED_GRACE_S, Departure
from .inlet import Inlet
from .job import Job
from .life import Life
from .outlet import Outlet
from .pool import Pool
from .stdio import Pipes

Work = Union[Call, Message]
DONE, BROKEN = 0, 1


class Loop:
    """Serves one supervisor until the end of input."""

    def __init__(self, pipes: Pipes, life: Life, outlet: Outlet) -> None:
        self._life = life
        self._outlet = outlet
        self._inlet: Inlet[Work] = Inlet(pipes, self._opened, self._ended)
        self._departure = Departure()
        self._calls: dict[str, Call] = {}
        self._pool: Pool[Call] | None = None
        self._at_once: dict[str, Callable[[list[bytes]], None]] = {
            "cancel": self._cancel,
            "more": self._more,
            "exit": lambda _: self._inlet.leave(),
        }

    def serve(self) -> int:
        """Run until there is no more input; the exit code."""
        work = self._inlet.next()
        while work is not None:
            if isinstance(work, Call):
                self._run(work)
            else:
                self._serve_request(work)
            work = self._inlet.next()
        self._depart()
        return BROKEN if self._inlet.fault else DONE

    def _run(self, call: Call) -> None:
        if self._life.concurrency == 1:
            with self._inlet:
                answer = self._answer(call)
            self._finish(call, answer)
            return
        if self._pool is None:
            self._pool = Pool(
                self._life.concurrency, lambda call: self._finish(call, self._answer(call))
            )
        self._pool.put(call)

    def _answer(self, call: Call) -> bytes:
        try:
            return self._life.runner.answer(call)
        except Fault as fault:  # not loaded
            return messages.failure(call.msgid, fault)

    def _finish(self, call: Call, answer: bytes) -> None:
        # A cancel that comes now finds nothing: the answer is on its way.
        del self._calls[call.job.id]
        self._outlet.send(answer)

    def _serve_request(self, message: Message) -> None:
        try:
            handler = self._life.handlers.get(message.method)
            if handler is None:
                raise Fault.new(Code.METHOD_NOT_FOUND, f"no method {message.method}")
            if message.method == "hello":  # before the attendant exists: nothing can last yet
                result = handler(message.params)
            else:
                with self._inlet:
                    result = handler(message.params)
        except Fault as fault:
            self._outlet.refuse(message.msgid, fault)
        else:
            self._outlet.send(messages.response_raw(message.msgid, result))

    def _opened(self, raw: bytes) -> Work | None:
        """What a whole message asks of the main thread, if anything. Reading thread."""
        msgid = None
        try:
            message = messages.open_message(raw)
            if message.kind == REQUEST:
                msgid = message.msgid
                return self._opened_request(message)
            if message.kind == NOTIFICATION and message.method in self._at_once:
                self._at_once[message.method](message.params)
        except Fault as fault:
            msgid = fault.msgid if msgid is None else msgid
            if msgid is not None:
                self._outlet.refuse(msgid, fault)
        return None

    def _opened_request(self, message: Message) -> Work | None:
        if message.method == "ping":
            answer = message.params[0] if message.params else messages.NIL
            self._outlet.send(messages.response_raw(message.msgid, answer))
            return None
        return self._opened_job(message) if message.method == "job" else message

    def _opened_job(self, message: Message) -> Call:
        if len(message.params) < 3:
            raise Fault.new(Code.INVALID_PARAMS, "job takes [job, method, args, options]")
        job_id, name = messages.unpack(message.params[0]), messages.unpack(message.params[1])
        if not isinstance(job_id, str) or not isinstance(name, str):
            raise Fault.new(Code.INVALID_PARAMS, "the job and its method must be str")
        if job_id in self._calls:
            raise Fault.new(Code.INVALID_REQUEST, f"job {job_id} is here already")
        options = messages.unpack_options(message.params[3]) if len(message.params) > 3 else {}
        job = Job(
            job_id,
            self._outlet,
            attempt=_count(options, "attempt") or 1,
            timeout_ms=_count(options, "timeout_ms"),
            tells_progress=bool(options.get("progress")),
        )
        count = _count(options, "stream")
        allowed = None if count is None else Credits(count, job)
        call = Call(message.msgid, job, name, message.params[2], allowed)
        self._calls[job_id] = call
        return call

    def _cancel(self, params: list[bytes]) -> None:
        call = self._call(params)
        if call is not None:
            reason = messages.unpack(params[1]) if len(params) > 1 else None
            call.job.cancel(reason if isinstance(reason, str) else "client")

    def _more(self, params: list[bytes]) -> None:
        call = self._call(params)
        if call is not None and call.credits is not None and len(params) > 1:
            count = messages.unpack(params[1])
            call.credits.grant(count if type(count) is int else 0)

    def _call(self, params: list[bytes]) -> Call | None:
        """The job that a notification names, if it is still here."""
        job_id = messages.unpack(params[0]) if params else None
        return self._calls.get(job_id) if isinstance(job_id, str) else None

    def _ended(self) -> None:
        """The end of input: nobody waits for an answer any more. Reading thread."""
        self._departure.begin(UNLOADED_GRACE_S if self._life.is_unloaded else GRACE_S)
        for call in list(self._calls.values()):
            call.job.cancel("stopped")

    def _depart(self) -> None:
        if self._inlet.fault:
            sys.stderr.write(f"changeover worker: {self._inlet.fault}\n")
        if self._pool is not None:
            self._pool.join()
        self._life.end()


def _count(options: dict[str, Any], name: str) -> int | None:
    value = options.get(name)
    if value is None or (type(value) is int and value >= 0):
        return value
    raise Fault.new(Code.INVALID_PARAMS, f"{name} must be an integer from 0, not {value!r:.60}")
