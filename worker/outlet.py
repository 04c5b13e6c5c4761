"""The way to the supervisor: whole messages, one after the other, from any thread.

Knows bytes only. A supervisor that is gone is not an error here: the end of input, which every
worker sees, is what ends it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

from ..protocol import messages
from ..protocol.errors import Fault
from .stdio import Pipes


class Outlet:
    """Writes messages under one lock."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._lock = threading.Lock()
        self._is_open = True
        os.register_at_fork(after_in_child=self._forget)

    def send(self, message: bytes) -> None:
        """Write one whole message; wait while the pipe is full."""
        with self._lock:
            if not self._is_open:
                return
            try:
                written = os.write(self._pipes.writing, message)
                if written < len(message):
                    self._write_rest(memoryview(message)[written:])
            except OSError:
                self._is_open = False

    def _write_rest(self, view: memoryview) -> None:
        while view:
            view = view[os.write(self._pipes.writing, view) :]

    def notify(self, method: str, params: Sequence[Any]) -> None:
        """Send a notification of plain values."""
        self.send(messages.notification(method, params))

    def refuse(self, msgid: int, fault: Fault) -> None:
        """Answer a request with an error."""
        self.send(messages.failure(msgid, fault))

    def _forget(self) -> None:
        # Another thread may have held the lock at the fork; what it guards is closed there.
        self._is_open = False
        self._lock = threading.Lock()
