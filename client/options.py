"""What can be said about a job beside its arguments: the options of `run`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from .future import ProgressCallback


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """One handle's settings. None = not said.

    `id` is also the idempotency key: the same id and arguments are the same job. `timeout_ms`
    covers queue, holds, runs and re-runs. Jobs of one `key` run in order on one worker.
    `credits` is how many items of a stream may be on their way. `flush`: what a filter gives
    back before a cut is wanted here, as the notification `flushed`.
    """

    id: str | None = None
    timeout_ms: int | None = None
    key: str | None = None
    idempotent: bool = False
    block_ms: int | None = None
    on_disconnect: str | None = None
    on_progress: ProgressCallback | None = None
    credits: int = 8
    flush: bool = False

    def with_(self, changes: dict[str, Any]) -> RunOptions:
        """A copy with changes. Raises TypeError for a name that is no option."""
        known = {field.name for field in dataclasses.fields(self)}
        for name in changes.keys() - known:
            from difflib import get_close_matches

            close = get_close_matches(name, known, 1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"no run option is called {name!r}{hint}")
        if changes.get("credits", 1) < 1:
            raise ValueError(f"credits must be at least 1, not {changes['credits']}")
        return dataclasses.replace(self, **changes)

    def with_timeout(self, timeout_s: float | None) -> RunOptions:
        """A copy with the deadline given in seconds, where it is given."""
        if timeout_s is None:
            return self
        if not timeout_s > 0:
            raise ValueError(f"timeout must be longer than zero, not {timeout_s!r}")
        return dataclasses.replace(self, timeout_ms=math.ceil(timeout_s * 1000))

    @property
    def timeout_s(self) -> float | None:
        """The deadline in seconds."""
        return None if self.timeout_ms is None else self.timeout_ms / 1000

    def wire(self, job: str, *, progress: bool, stream: int) -> dict[str, Any]:
        """The options map of `run`."""
        options: dict[str, Any] = {"id": job, "record": True}
        if self.timeout_ms is not None:
            options["timeout_ms"] = self.timeout_ms
        if self.key is not None:
            options["key"] = self.key
        if self.idempotent:
            options["idempotent"] = True
        if self.block_ms is not None:
            options["block_ms"] = self.block_ms
        if self.on_disconnect is not None:
            options["on_disconnect"] = self.on_disconnect
        if self.flush:
            options["flush"] = True
        if progress:
            options["progress"] = True
        if stream:
            options["stream"] = stream
        return options
