"""A generation: the workers that one changeover brought up, and how they answer their deaths."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ..protocol.plugin_version import PluginVersion
from .release import Loaded, Release
from .spec import PluginSpec
from .states import RESTART, Restart, WorkerState, advance
from .worker import Worker

if TYPE_CHECKING:
    from .timers import Timer


class Generation:
    """The workers that one changeover brought up."""

    def __init__(self, number: int, release: Release, spec: PluginSpec, reason: str) -> None:
        self.number = number
        self.release = release
        self.spec = spec
        self.reason = reason
        self.workers: dict[int, Worker] = {}  # by slot: the one that serves or will
        self.leaving: set[Worker] = set()  # being stopped or killed, not reaped yet
        self.restart = Restart.RUNNING
        self.back_off: Timer | None = None  # when the next worker is started
        self.unlucky = 0  # starts that failed by bad luck since the last that succeeded
        self.excesses: list[float] = []  # when we killed its workers for their memory, of late
        self.loaded = Loaded(concurrency=spec.concurrency)
        self.loaded_at = 0.0
        self.done = 0
        self.failed = 0

    def turn(self, event: str) -> None:
        """Take one step of the restart policy's machine."""
        self.restart = advance(RESTART, self.restart, event)

    @property
    def is_alive(self) -> bool:
        """Is any of its processes not reaped yet?"""
        return bool(self.leaving) or any(w.is_alive for w in self.workers.values())

    @property
    def borrowed(self) -> int:
        """Jobs that its workers hold, answered or not."""
        return sum(len(w.jobs) for w in self.workers.values()) + sum(
            len(w.jobs) for w in self.leaving
        )

    def ready(self) -> list[Worker]:
        """The workers that can take jobs."""
        return [w for w in self.workers.values() if w.state is WorkerState.READY]

    def __repr__(self) -> str:
        return f"<generation {self.number} {self.release}>"


def plugin_version(name: str, generation: Generation, loaded_at: datetime) -> PluginVersion:
    """The seed's record of what a generation runs."""
    return PluginVersion(
        id=name,
        version=generation.loaded.version,
        hash=generation.release.hash,
        loaded_at=loaded_at,
    )
