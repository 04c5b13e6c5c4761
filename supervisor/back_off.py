"""How long to wait before the next try."""

from __future__ import annotations

from .spec import PluginSpec

MAX_DOUBLINGS = 32  # far beyond any limit, far below what a float holds


def back_off_s(spec: PluginSpec, times: int) -> float:
    """Seconds, after so many failures in a row: doubling, within `restart`."""
    return min(spec.restart_max_s, spec.restart_min_s * 2.0 ** min(times, MAX_DOUBLINGS))
