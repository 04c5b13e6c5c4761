"""How many jobs a plugin ends in a second, and how long they take."""

from __future__ import annotations

from collections import deque

WINDOW_S = 10.0


class Rates:
    """The newest jobs only: bounded in number and in time."""

    def __init__(self) -> None:
        self._ended: deque[tuple[float, float]] = deque(maxlen=1024)

    def count(self, now: float, took_s: float) -> None:
        """A job ended `took_s` after it was accepted."""
        self._ended.append((now, took_s))

    def facts(self, now: float) -> dict[str, float | None]:
        """`jobs_per_s` and `p95_s` (None without a job) of the last ten seconds."""
        recent = [(when, took_s) for when, took_s in self._ended if now - when <= WINDOW_S]
        if not recent:
            return {"jobs_per_s": 0.0, "p95_s": None}
        span_s = max(now - recent[0][0], 1.0) if len(recent) == 1024 else WINDOW_S
        times = sorted(took_s for _, took_s in recent)
        p95_s = times[min(len(times) - 1, int(len(times) * 0.95))]
        return {"jobs_per_s": round(len(recent) / span_s, 1), "p95_s": round(p95_s, 6)}
