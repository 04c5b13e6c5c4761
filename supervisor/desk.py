"""What the parts of the core share: the time of the fact under way, the orders, the deadlines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from .orders import Changed, Narrate, Order
from .plugin import Plugin
from .registry import HotReloadManager
from .spec import SupervisorSpec
from .timers import Timer, Timers


class Desk:
    """One per core. `now` is set by each fact; nothing here reads a clock.

    `wall_start` is the wall clock at the monotonic time 0 of the facts, for display.
    `jitter` gives numbers in [0, 1).
    """

    def __init__(
        self, spec: SupervisorSpec, wall_start: datetime, jitter: Callable[[], float]
    ) -> None:
        self.spec = spec
        self.now = 0.0
        self.orders: list[Order] = []
        self.timers = Timers()
        self.plugins: dict[str, Plugin] = {}
        self.registry = HotReloadManager()
        self.jitter = jitter
        self.is_stopping = False
        self.has_no_time = False  # a stop that finishes nothing
        self.last_generation = 0
        self._wall_start = wall_start

    def give(self, order: Order) -> None:
        """Order the shell to do something."""
        self.orders.append(order)

    def arm(self, delay_s: float, callback: Callable[..., None], *args: object) -> Timer:
        """Call back `delay_s` seconds after the fact under way."""
        return self.timers.arm(self.now + delay_s, callback, *args)

    def wall(self, when: float | None = None) -> datetime:
        """The wall clock, for people, at a time of the facts (default: now)."""
        return self._wall_start + timedelta(seconds=self.now if when is None else when)

    def next_generation(self) -> int:
        """A number that no changeover has had."""
        self.last_generation += 1
        return self.last_generation

    def narrate(self, level: str, plugin: str, text: str) -> None:
        """Say something to people."""
        self.give(Narrate(level, plugin, text))  # type: ignore[arg-type]

    def show_plugin(self, plugin: Plugin, reason: str = "") -> None:
        """Tell those who watch that a plugin's state may have changed."""
        live = plugin.live
        facts = {
            "state": plugin.state,
            "release": live.release.number if live else None,
            "generation": live.number if live else None,
            "reason": reason,
        }
        self.give(Changed("plugin", plugin.name, facts))
