"""One open transport: bytes out from any thread, bytes in for the one that reads.

Never blocks on a write. A caller writes directly when nothing waits before it; what the kernel
does not take is left to the reader's thread. Must not know what the bytes mean.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from ..protocol.limits import READ_BYTES
from .transport import Transport

_READS_A_TURN = 16
_BUFFERS_A_WRITE = 256  # IOV_MAX is 1024


class LinkLost(Exception):
    """The peer closed its end, or the connection broke."""


class Link:
    """The out-buffer and the two descriptors.

    `take_in` is called with what was read, `wake` when the reader should look at `wants_write`.
    """

    def __init__(
        self,
        transport: Transport,
        take_in: Callable[[bytes], None],
        wake: Callable[[], None],
    ) -> None:
        self.transport = transport
        self._take_in = take_in
        self._wake = wake
        self._out: deque[tuple[bytes | memoryview, int]] = deque()
        # Reentrant: the garbage collector may run a finalizer that sends, in the midst of a send.
        self._lock = threading.RLock()
        self._is_flushing = False
        self._is_ending = False
        self._is_deaf = False  # the peer reads no more

    def send(self, chunk: bytes, tag: int = -1) -> bool:
        """Queue one message and write what the kernel takes. `tag` names it in `unsent`.

        False after `end_input`: nothing can be said any more.
        """
        with self._lock:
            if self._is_ending:
                return False
            self._out.append((chunk, tag))
            if len(self._out) == 1 and not self._is_flushing:
                self._flush()
                if self._out:
                    self._wake()
            return True

    @property
    def wants_write(self) -> bool:
        """Is there something that the kernel did not take yet?"""
        return bool(self._out) and not self._is_deaf

    def on_writable(self) -> None:
        """Write on."""
        with self._lock:
            self._flush()

    def on_readable(self) -> None:
        """Read what is there. Raises LinkLost at the end, Fatal when the peer talks nonsense."""
        for _ in range(_READS_A_TURN):
            try:
                data = os.read(self.transport.read_fd, READ_BYTES)
            except BlockingIOError:
                return
            except OSError as err:
                raise LinkLost(str(err)) from None
            if not data:
                raise LinkLost("end of stream")
            self._take_in(data)
            if len(data) < READ_BYTES:
                return

    def end_input(self) -> None:
        """Close our end of the talk once everything queued has been written."""
        with self._lock:
            self._is_ending = True
            if not self.wants_write:
                self.transport.end_input()
        self._wake()

    def unsent(self) -> set[int]:
        """Tags of the messages that the peer cannot have received whole."""
        with self._lock:
            return {tag for _, tag in self._out}

    def _flush(self) -> None:
        self._is_flushing = True
        try:
            while self._out and not self._is_deaf:
                written = os.writev(self.transport.write_fd, self._next_buffers())
                self._drop(written)
        except BlockingIOError:
            return
        except OSError:
            # Nobody reads there any more. What was answered may still lie in our pipe: the end
            # of that is the end of the link, not this.
            self._is_deaf = True
        finally:
            self._is_flushing = False
        if self._is_ending:
            self.transport.end_input()

    def _next_buffers(self) -> list[bytes | memoryview]:
        return [self._out[i][0] for i in range(min(len(self._out), _BUFFERS_A_WRITE))]

    def _drop(self, count: int) -> None:
        while count:
            chunk, tag = self._out[0]
            if count < len(chunk):
                self._out[0] = (memoryview(chunk)[count:], tag)
                return
            count -= len(chunk)
            self._out.popleft()
