"""Leaving in time: the supervisor is gone or said `exit`, and plugin code may still be running."""

from __future__ import annotations

import os
import threading

GRACE_S = 0.5  # a worker is gone within a second of its supervisor
UNLOADED_GRACE_S = 5.0  # it said goodbye in order: libraries may take their time at exit
STUCK = 3


class Departure:
    """Ends the process hard if it has not ended by itself in time."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def begin(self, grace_s: float) -> None:
        """Start the clock; once."""
        if self._timer is None:
            self._timer = threading.Timer(grace_s, _leave, (grace_s,))
            self._timer.daemon = True
            self._timer.start()


def _leave(grace_s: float) -> None:
    text = f"changeover worker: still busy {grace_s} s after the end of input, leaving\n"
    try:
        os.set_blocking(2, False)  # nobody may be reading the log any more
        os.write(2, text.encode())
    finally:
        os._exit(STUCK)
