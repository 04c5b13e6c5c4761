"""How long a plugin is not recycled, after that was in vain. It decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 600.0
MAX_DOUBLINGS = 16  # far beyond the longest pause, far below what a float holds


@dataclass(slots=True)
class Rest:
    """Pauses, each in a row twice as long as the one before."""

    times: int = 0  # in a row
    until: float = 0.0
    generation: int = 0  # which one served when it began

    def begin(self, now: float, generation: int) -> float:
        """Not again so soon. Returns the seconds."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.times, MAX_DOUBLINGS))
        self.times += 1
        self.until, self.generation = now + pause_s, generation
        return pause_s
