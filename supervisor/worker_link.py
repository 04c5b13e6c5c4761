"""One worker as the shell sees it: its process, its channel, and who waits for which answer.

It turns messages into facts for the core and orders into messages. It decides nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..protocol import limits
from ..protocol.errors import Code, Fatal, FatalCode, Fault
from ..protocol.messages import (
    NIL,
    REQUEST,
    RESPONSE,
    Message,
    Packed,
    failure,
    notification,
    open_message,
    pack,
    pack_map,
    request_raw,
    unpack,
)
from .channel import Channel, Patience
from .job import Job
from .log_ring import LEVELS
from .worker import Worker

if TYPE_CHECKING:
    from .crew import Crew
    from .launch import Started

PATIENCE = Patience(unread_s=None, unread_bytes=None)  # a job's own clock runs, and we must read
RESULT_BYTES = limits.MESSAGE_BYTES - 1024  # its record must fit into a message too
RAW_ANSWERS = ("export_state", "flush")  # passed on undecoded


class WorkerLink:
    """Speaks with one worker over its pipes."""

    def __init__(self, crew: Crew, worker: Worker, started: Started) -> None:
        self.worker = worker
        self._crew = crew
        self._jobs: dict[int, str] = {}
        self._asked: dict[int, str] = {}
        self._msgid = 0
        self._strays = 0
        self.broke = ""  # how it broke the protocol
        self._notifications: dict[str, Callable[[list[bytes]], None]] = {
            "progress": self._progress,
            "item": self._item,
            "log": self._log,
            "extend": self._extend,
        }
        self.channel = Channel(
            crew.loop,
            started.stdout_fd,
            started.stdin_fd,
            on_message=self._message,
            on_end=self._ended,
            on_fatal=self._fatal,
            patience=PATIENCE,
        )
        self.channel.start()

    # -- to the worker

    def ask(self, method: str, params: list[Any]) -> None:
        """Send a control request."""
        msgid = self._next_msgid()
        self._asked[msgid] = method
        parts = [pack_map(p) if isinstance(p, dict) else pack(p) for p in params]
        self.channel.send(request_raw(msgid, method, parts))

    def dispatch(self, job: Job) -> None:
        """Send a job; its args go as the bytes they came as."""
        msgid = self._next_msgid()
        self._jobs[msgid] = job.id
        options: dict[str, Any] = {"attempt": job.attempts}
        if job.timer is not None:  # what is left of it
            left_s = max(0.0, job.timer.when - self._crew.loop.time())
            options["timeout_ms"] = math.ceil(left_s * 1000)
        if job.options:
            options.update(job.options)
        if "stream" in options:  # a re-run yields the items again that were sent already
            options["stream"] = job.item_seq + max(caller.credits for caller in job.owner)
        parts = [pack(job.id), pack(job.method), job.args, pack(options)]
        self.channel.send(request_raw(msgid, "job", parts))

    def tell(self, method: str, params: list[Any]) -> None:
        """Send a notification."""
        self.channel.send(notification(method, params))

    def close_input(self) -> None:
        """End of input, once the worker has taken what was sent before."""
        self.channel.when_flushed(self.channel.close_output)

    def _next_msgid(self) -> int:
        self._msgid = (self._msgid + 1) & limits.MSGID
        return self._msgid

    # -- from the worker

    def _message(self, raw: bytes) -> None:
        try:
            message = open_message(raw)
        except Fault as fault:
            self._unreadable(fault)
            return
        if message.kind == RESPONSE:
            self._response(message)
        elif message.kind == REQUEST:
            unknown = Fault.new(Code.METHOD_NOT_FOUND, f"a worker may not ask {message.method!r}")
            self.channel.send(failure(message.msgid, unknown))
        else:
            self._notification(message)

    def _unreadable(self, fault: Fault) -> None:
        """Too deep: if it is a job's answer, that job failed and nothing else."""
        if fault.msgid is None or fault.kind != RESPONSE:
            if fault.msgid is not None:
                self.channel.send(failure(fault.msgid, fault))
            return
        job_id = self._jobs.pop(fault.msgid, None)
        if job_id is not None:
            self._invalid(job_id, fault.message)
        elif fault.msgid in self._asked:
            self._crew.replied(self.worker, self._asked.pop(fault.msgid), fault, None)
        else:
            self._stray()

    def _invalid(self, job_id: str, why: str) -> None:
        invalid = Fault.new(Code.RESULT_INVALID, why)
        self._crew.answered(self.worker, job_id, invalid, NIL)

    def _response(self, message: Message) -> None:
        fault = _fault(message.error) if message.error is not None else None
        job_id = self._jobs.pop(message.msgid, None)
        if job_id is not None:
            if len(message.result) > RESULT_BYTES:
                self._invalid(job_id, f"a result of {len(message.result)} bytes")
            else:
                self._crew.answered(self.worker, job_id, fault, message.result)
            return
        method = self._asked.pop(message.msgid, None)
        if method is None:
            self._stray()
        elif method in RAW_ANSWERS:
            self._crew.replied(self.worker, method, fault, Packed(message.result))
        else:
            self._crew.replied(self.worker, method, fault, _decoded(message.result))

    def _stray(self) -> None:
        self._strays += 1
        if self._strays > limits.STRAY_RESPONSES:
            raise Fatal(FatalCode.FLOOD, f"sent {self._strays} answers that nobody waits for")

    def _notification(self, message: Message) -> None:
        handler = self._notifications.get(message.method)
        if handler is None:
            return  # R10: an unknown notification is ignored
        try:
            handler(message.params)
        except (Fault, ValueError, TypeError, IndexError, OverflowError):
            self._stray()  # one of ours, but not in its shape

    def _progress(self, params: list[bytes]) -> None:
        job = self._job(params[0])
        if job is not None:
            self._crew.progress(job, [params[0], _small(params[1])])

    def _item(self, params: list[bytes]) -> None:
        job = self._job(params[0])
        if job is not None:
            self._crew.item(job, int(unpack(_small(params[1]))), params[:3])

    def _job(self, raw: bytes) -> Job | None:
        """The job, while somebody waits for it (R4: nothing comes after the response)."""
        job = self.worker.jobs.get(str(unpack(_small(raw))))
        return None if job is None or job.has_ended else job

    def _log(self, params: list[bytes]) -> None:
        level, text = unpack(_small(params[0])), str(unpack(_small(params[1])))
        self._crew.worker_log(self.worker, level if level in LEVELS else "info", text)

    def _extend(self, params: list[bytes]) -> None:
        extra_ms = unpack(_small(params[1]))
        self._crew.extended(self.worker, max(0.0, float(extra_ms) / 1000))

    def _ended(self) -> None:
        """Its output is at an end; the exit follows, or it can never answer."""
        self._crew.output_ended(self.worker)

    def _fatal(self, fatal: Fatal) -> None:
        what = fatal.message
        if fatal.code == FatalCode.NOT_A_MESSAGE:
            what = what.replace("not a message:", "wrote to stdout:")
        self._crew.broke_protocol(self.worker, what)

    def close(self) -> None:
        """Let go of the pipes."""
        self.channel.close()


def _fault(value: Any) -> Fault:
    """An error of the worker's, with what every caller may look for."""
    fault = Fault.of(value)
    named = {str(key): item for key, item in fault.data.items()}
    fault.data = {**Fault.new(fault.code, "").data, **named}
    return fault


def _small(raw: bytes) -> bytes:
    """What is decoded here is short, whatever a worker sends: it could be a bomb."""
    if len(raw) > limits.OPTIONS_BYTES:
        raise ValueError(f"{len(raw)} bytes")
    return raw


def _decoded(raw: bytes) -> Any:
    """The answer to a control request; text for what nobody can read."""
    if len(raw) > limits.ERROR_BYTES:
        return f"{len(raw)} bytes"
    try:
        return unpack(raw)
    except Fault:
        return os.fsdecode(raw[:60])
