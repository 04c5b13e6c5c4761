"""What a broken law is, and how one is stated."""

from __future__ import annotations

EPSILON = 1e-9
LONGEST_GRACE_S = 0.1  # the longest kill_grace of the specs in sim_people.py


class Violation(AssertionError):
    """The core broke a law."""


def require(holds: bool, law: str) -> None:
    """Raise unless it holds."""
    if not holds:
        raise Violation(law)
