"""Gets ready, and reads nothing any more once it has a job that is not small, or told to behave."""

import fcntl
import os
import select
import signal
import sys
import termios
from typing import Any

from raw_worker import RawWorker

SMALL = 4096


class NeverReads(RawWorker):
    def serve(self) -> None:
        while _awaited() <= SMALL and (data := os.read(0, SMALL)):
            self.unpacker.feed(data)
            for message in self.unpacker:
                self.take(message)
        if _awaited() > SMALL:
            signal.pause()

    def on_job(self, msgid: int, job: str, method: str, args: Any, *rest: Any) -> None:
        if args == ["behave"]:
            self.answer(msgid, "behaved")
        else:
            signal.pause()


def _awaited() -> int:
    """How many bytes there are, once there are any, or the end."""
    select.select([0], [], [])
    return int.from_bytes(fcntl.ioctl(0, termios.FIONREAD, bytes(4)), sys.byteorder)


NeverReads().serve()
