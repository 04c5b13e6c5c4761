"""What can go wrong for a caller: one root, with the facts as attributes.

"The plugin raised", "the worker died" and "the supervisor refused" are three types. Knows the
codes of the wire; must not know connections or futures.
"""

from __future__ import annotations

import concurrent.futures
from typing import Any, Self

from ..protocol.errors import TRAITS, Code


class ChangeoverError(Exception):
    """Root of everything that this package raises.

    `code` and `data` are what came over the wire; `job`, `plugin` and `release` (its number)
    are None where there was no such thing; `executed` says whether the job ran: `no`, `maybe`
    or `yes`.
    """

    code: int = Code.INTERNAL

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        data: dict[str, Any] | None = None,
        plugin: str | None = None,
        job: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.data: dict[str, Any] = dict(data or {})
        self.code = type(self).code if code is None else code
        self.plugin: str | None = self.data.get("plugin", plugin)
        self.job: str | None = self.data.get("job", job)
        self.release: int | None = self.data.get("release")

    @property
    def executed(self) -> str:
        """`no`, `maybe` or `yes`."""
        return str(self.data.get("executed", TRAITS.get(self.code, (False, "yes"))[1]))

    @property
    def retryable(self) -> bool:
        """May the same call succeed later?"""
        return bool(self.data.get("retryable", TRAITS.get(self.code, (False, ""))[0]))

    @property
    def reason(self) -> str:
        """One word for why, where the code has several: `killed_at_drain`, `late`, …"""
        return str(self.data.get("reason", ""))

    def __str__(self) -> str:
        text = self.message
        if self.plugin and not text.startswith(f"{self.plugin}:"):
            text = f"{self.plugin}: {text}"
        details = self._details().strip("\n")
        return f"{text}\n{details}" if details else text

    def _details(self) -> str:
        return ""


class PluginError(ChangeoverError):
    """The plugin raised, answered an error, or gave a result that cannot travel."""

    code = Code.JOB_FAILED

    @property
    def type(self) -> str:
        """Name of the exception in the worker."""
        return str(self.data.get("type", ""))

    @property
    def traceback(self) -> str:
        """The traceback in the worker, its paths those of the source."""
        return str(self.data.get("traceback", ""))

    def _details(self) -> str:
        return self.traceback


class _WorkerEnded(ChangeoverError):
    """What is known of a worker that died."""

    @property
    def signal(self) -> str | None:
        """The signal's name (`SIGSEGV`), if one ended it."""
        return self.data.get("signal")

    @property
    def exit(self) -> int | None:
        """The exit status, if it left by itself."""
        return self.data.get("exit")

    @property
    def stderr_tail(self) -> str:
        """The last lines that it wrote to stderr."""
        tail = self.data.get("stderr_tail") or ""
        return "\n".join(map(str, tail)) if isinstance(tail, list) else str(tail)

    def _details(self) -> str:
        return self.stderr_tail


_LOST = {
    "killed_at_drain": "  its release was replaced, and the job still ran at drain_timeout",
    "memory": "  we killed it: it was above the plugin's limit, `memory`",
    "stopped": "  the supervisor stopped, and the job still ran at stop_timeout or --now",
}


class WorkerLost(_WorkerEnded):
    """The worker died under the job. `reason`: crashed, killed_at_drain, memory, protocol, …"""

    code = Code.WORKER_LOST

    def _details(self) -> str:
        # The signal alone would look like the worker's own fault.
        return "\n".join(filter(None, (_LOST.get(self.reason), self.stderr_tail)))


class Poisoned(_WorkerEnded):
    """This job ended as many workers as `poison` allows; it is not tried again."""

    code = Code.POISONED


class JobTimeout(ChangeoverError, TimeoutError):
    """The job's deadline passed. `reason`: timeout."""

    code = Code.DEADLINE

    @classmethod
    def unanswered(cls, job: str, plugin: str) -> Self:
        """It passed, and nobody said so."""
        return cls(
            f"no answer for job {job} well after its deadline: the supervisor hangs\n"
            "  the job may have run",
            data={"executed": "maybe", "reason": "timeout"},
            plugin=plugin,
            job=job,
        )

    @classmethod
    def unsent(cls, job: str, plugin: str, waited_s: float) -> Self:
        """It passed while the session had no room."""
        return cls(
            f"job {job} waited {waited_s:g} s for room in the session and was not sent",
            data={"executed": "no", "reason": "timeout"},
            plugin=plugin,
            job=job,
        )


class Cancelled(ChangeoverError, concurrent.futures.CancelledError):
    """Somebody cancelled the job. `reason`: client, disconnected."""

    code = Code.CANCELLED


class Busy(ChangeoverError):
    """The queue or the session is full; the job was not taken. Try again later."""

    code = Code.BUSY


class Unavailable(ChangeoverError):
    """The plugin has failed or is closed, or all of it is stopping; the job was not taken."""

    code = Code.UNAVAILABLE


class NotFound(ChangeoverError, LookupError):
    """No such plugin, method, job or release."""

    code = Code.NOT_FOUND


class Conflict(ChangeoverError):
    """The id is in use for another call, or the name for another plugin."""

    code = Code.CONFLICT


class Denied(ChangeoverError):
    """This connection may not ask for that."""

    code = Code.DENIED


class TooLarge(ChangeoverError):
    """One call beyond a limit of the wire; nothing else is disturbed."""

    code = Code.TOO_LARGE


class InvalidRequest(ChangeoverError):
    """The supervisor does not know the request or cannot take its parameters."""

    code = Code.INVALID_REQUEST


class Refused(ChangeoverError):
    """A release was refused, or rolled back: the one before still serves.

    `document` is what the supervisor said of the changeover, and its fields are attributes.
    """

    code = Code.CHANGE_FAILED

    def __init__(
        self, message: str = "", *, document: dict[str, Any] | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.document: dict[str, Any] = dict(document or self.data)
        self.outcome = str(self.document.get("outcome", "refused"))
        self.stage = self.document.get("stage")
        self.cause = self.document.get("cause")
        self.from_ = self.document.get("from")
        self.to = self.document.get("to")
        self.phases = self.document.get("phases")


class Disconnected(ChangeoverError, ConnectionError):
    """The connection ended before the answer. `executed` is `maybe` for what had been sent."""

    def __init__(self, message: str = "", *, executed: str = "maybe", **facts: Any) -> None:
        data = {"executed": executed, "retryable": executed == "no", **(facts.pop("data", {}))}
        super().__init__(message, data=data, **facts)


class NoSupervisor(Disconnected):
    """Nobody listens there."""

    def __init__(self, message: str = "", *, path: str = "", **facts: Any) -> None:
        super().__init__(message, **{"executed": "no", **facts})
        self.path = path

    @classmethod
    def at(cls, path: str) -> NoSupervisor:
        """The words for people."""
        return cls(
            f"no supervisor at {path}\n"
            "  start one: changeover serve       or name it: -s PATH / $CHANGEOVER_SOCKET",
            path=path,
        )
