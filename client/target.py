"""Where a job goes: a plugin, one of its methods, the options. And the call that it becomes.

What both handles, the one for threads and the one for asyncio, have in common.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

from ..protocol.messages import pack
from ..protocol.payload import pack_args
from .call import Call
from .future import JobFuture
from .kinds import sendable
from .options import RunOptions

if TYPE_CHECKING:
    from .connection import Connection


class Target:
    """Immutable: every change makes another handle."""

    def __init__(self, connection: Connection, plugin: str, owner: object) -> None:
        self.plugin = plugin
        self._method = "run"
        self._options = RunOptions()
        self._connection = connection
        self._owner = owner  # keeps the connection open while a handle is in use
        self._head = [pack(plugin), pack("run")]

    def method(self, name: str) -> Self:
        """The plugin's method of that name."""
        other = copy.copy(self)
        other._method = name
        other._head = [pack(self.plugin), pack(name)]
        return other

    def keyed(self, key: str) -> Self:
        """Same key: same worker, in order, own state."""
        return self.options(key=key)

    def options(self, **changes: Any) -> Self:
        """With run options: `id`, `idempotent`, `timeout_ms`, `key`, … (see `RunOptions`)."""
        other = copy.copy(self)
        other._options = self._options.with_(changes)
        return other

    def _for_each(self, timeout_s: float | None) -> Self:
        """The handle that `map` uses for every item."""
        if self._options.id is not None:
            raise ValueError("an id names one job: map has many")
        other = copy.copy(self)
        other._options = self._options.with_timeout(timeout_s)
        return other

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.plugin}.{self._method}>"

    def _job(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: RunOptions,
        *,
        progress: bool = False,
        stream: int = 0,
    ) -> tuple[Call, JobFuture]:
        """One job, ready to be sent. Raises TypeError for what cannot travel."""
        args, kwargs, restore = sendable(args, kwargs)
        job = options.id or self._connection.session.new_job_id()
        future = JobFuture(self._connection, job, self.plugin, restore)
        progress = progress or options.on_progress is not None
        wire = options.wire(job, progress=progress, stream=stream)
        call = Call("run", [*self._head, pack_args(args, kwargs), pack(wire)], future)
        future.sent_as(call)
        call.job, call.plugin, call.target = job, self.plugin, self._method
        call.is_idempotent = options.idempotent
        call.size = sum(map(len, call.parts))
        if progress or stream:
            call.hears = future
        if options.on_progress is not None:
            future.on_progress(options.on_progress)
        return call, future
