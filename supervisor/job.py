"""A job: one call, from its submission to its one outcome. It decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..protocol.errors import Fault
from .release import Release
from .states import JOB, JobState, advance

if TYPE_CHECKING:
    from .timers import Timer
    from .worker import Worker


class Job:
    """One call. Mutable and slotted: this is the hot path."""

    __slots__ = (
        "args", "attempts", "cancel_reason", "deaths", "errors", "fault",
        "generation", "id", "idempotent", "is_accepted", "is_durable", "is_held", "item_seq", "key",
        "kills", "method", "options", "owner", "plugin", "queued_at", "queued_s", "ran_s",
        "release", "result", "seq", "started_at", "state", "timeout_s", "timer", "worker",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - the facts of a record
        self,
        job_id: str,
        plugin: str,
        method: str,
        args: bytes,
        *,
        key: str | None = None,
        idempotent: bool = False,
        timeout_s: float | None = None,
        owner: Any = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.id = job_id
        self.plugin = plugin
        self.method = method
        self.args = args
        self.key = key
        self.idempotent = idempotent
        self.timeout_s = timeout_s
        self.owner = owner  # whoever is answered: opaque to the core
        self.options = options  # passed on to the worker: progress, stream
        self.seq = 0  # its place among the plugin's jobs
        self.is_durable = False  # the journal is to keep it
        self.is_accepted = False  # its caller may be told so: it has its place, and the journal it
        self.is_held = False  # lent, but not sent before the journal has that
        self.state = JobState.QUEUED
        self.attempts = 0
        self.errors = 0
        self.deaths: tuple[int, ...] = ()  # generations whose workers died unexplained under it
        self.kills = 0  # workers that were killed for their memory under it
        self.cancel_reason: str | None = None  # asked for while it runs
        self.item_seq = 0  # items already sent to the caller
        self.worker: Worker | None = None
        self.generation = 0
        self.release: Release | None = None
        self.queued_at = 0.0
        self.queued_s = 0.0
        self.started_at = 0.0
        self.ran_s = 0.0
        self.result: bytes | None = None
        self.fault: Fault | None = None
        self.timer: Timer | None = None

    def turn(self, event: str) -> None:
        """Take one step of the job's machine."""
        self.state = advance(JOB, self.state, event)

    @property
    def has_ended(self) -> bool:
        """Has the caller its outcome?"""
        return not JOB[self.state]
