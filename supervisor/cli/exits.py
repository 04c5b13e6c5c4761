"""The exit codes, and which error means which.

A script tells by them whether anything was changed and whether to try again.
"""

from __future__ import annotations

from ...client import errors
from ...protocol.errors import Code

FAILED = 1
USAGE = 2
NO_SUPERVISOR = 3
NOT_FOUND = 4
REFUSED = 5
ROLLED_BACK = 6
NOT_IN_TIME = 7
INTERRUPTED = 130

_CODES: tuple[tuple[type[errors.ChangeoverError], int], ...] = (
    (errors.NoSupervisor, NO_SUPERVISOR),
    (errors.NotFound, NOT_FOUND),
    (errors.Busy, REFUSED),
    (errors.Denied, REFUSED),
    (errors.Conflict, REFUSED),
    (errors.TooLarge, REFUSED),
    (errors.JobTimeout, NOT_IN_TIME),
)
# What became of a changeover: an outcome in the result of `reload` and `rollback`.
OUTCOMES = {
    "done": 0,
    "unchanged": 0,
    "refused": REFUSED,
    "superseded": REFUSED,
    "rolled_back": ROLLED_BACK,
}


def exit_code(error: errors.ChangeoverError) -> int:
    """The code that an error ends the command with."""
    if isinstance(error, errors.Refused):
        return OUTCOMES.get(error.outcome, REFUSED)
    if error.code == Code.INVALID_PARAMS and error.job is None:
        return USAGE  # of a verb; a job that does not take its arguments has failed
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)
