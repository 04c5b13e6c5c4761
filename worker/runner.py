"""One job, from its packed arguments to its packed answer.

Knows nothing of pipes that are read and of threads; whoever calls it decides where the plugin's
code runs.
"""

from __future__ import annotations

from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from ..protocol import messages
from ..protocol.errors import Code, Fault
from ..protocol.payload import unpack_args
from .blame import blame, is_ours_alone
from .job import TIMEOUT, Cancelled, Job
from .outlet import Outlet
from .release import Release
from .results import pack_within
from .streams import Collected, Streamed, drive

if TYPE_CHECKING:
    from .call import Call
    from .coroutines import Coroutines
    from .method import Method

_LATE = (TIMEOUT, "late")
_PLAIN = (bytes, str, int, float, bool, type(None))


class Runner:
    """Runs calls of one plugin. Threads may share it."""

    def __init__(
        self,
        methods: dict[str, Method],
        release: Release,
        outlet: Outlet,
        coroutines: Callable[[], Coroutines],
    ) -> None:
        self._methods = methods
        self._release = release
        self._outlet = outlet
        self._coroutines = coroutines

    def answer(self, call: Call) -> bytes:
        """Run the call; its whole response, whatever happened."""
        try:
            method = self._method(call.method_name)
            result = self._outcome(call, method)
            raw = pack_within(result, "result", lambda: self._where(method))
            return messages.response_raw(call.msgid, raw)
        except Fault as fault:
            fault.data.setdefault("job", call.job.id)
            return messages.failure(call.msgid, fault)

    def _method(self, name: str) -> Method:
        method = self._methods.get(name)
        if method is None:
            raise Fault.new(Code.NOT_FOUND, f"no method {name:.60}{self._did_you_mean(name)}")
        return method

    def _did_you_mean(self, name: str) -> str:
        import difflib

        close = difflib.get_close_matches(name, self._methods, 1)
        return f"; did you mean {close[0]}?" if close else f"; there is {', '.join(self._methods)}"

    def _outcome(self, call: Call, method: Method) -> Any:
        if call.job.is_cancelled:
            raise _cancelled(call.job, "no")
        try:
            args, kwargs = unpack_args(call.args)
        except ValueError as err:
            raise Fault.new(Code.INVALID_PARAMS, str(err)) from None
        try:
            result = method.call(args, kwargs, call.job)
            return result if type(result) in _PLAIN else self._finished(result, call, method)
        except Fault:
            raise
        except BaseException as exc:  # noqa: BLE001  the plugin's: SystemExit is no reason to go
            raise self._fault(exc, call.job, method) from None

    def _finished(self, result: Any, call: Call, method: Method) -> Any:
        """Run what the call only made: a coroutine, a generator of either kind."""
        if isinstance(result, CoroutineType):
            result = self._coroutines().run(result, call.job)
        elif isinstance(result, AsyncGeneratorType):
            result = self._coroutines().drawn(result, call.job)
        if isinstance(result, GeneratorType):
            return drive(result, call.job, self._sink(call, method))
        return result

    def _sink(self, call: Call, method: Method) -> Collected | Streamed:
        if call.credits is None:
            return Collected()

        def pack(item: Any) -> bytes:
            return pack_within(item, "item", lambda: self._where(method), inside=1)

        return Streamed(call.job, call.credits, self._outlet, pack)

    def _where(self, method: Method) -> str:
        where = self._release.place(*method.defined_at) if method.defined_at else ""
        return f"{method.name}, {where}" if where else method.name

    def _fault(self, exc: BaseException, job: Job, method: Method) -> Fault:
        is_end = isinstance(exc, Cancelled) or type(exc).__name__ == "CancelledError"
        if is_end and job.is_cancelled:
            return _cancelled(job, "maybe")
        if isinstance(exc, TypeError) and method.is_python and is_ours_alone(exc):
            return Fault.new(Code.INVALID_PARAMS, str(exc))
        return blame(exc, self._release)


def _cancelled(job: Job, executed: str) -> Fault:
    reason = job.reason or "client"
    if reason in _LATE:
        text = f"ended by its deadline ({reason})"
        return Fault.new(Code.DEADLINE, text, reason=reason, executed=executed)
    return Fault.new(Code.CANCELLED, f"cancelled: {reason}", reason=reason, executed=executed)
