"""Gets ready, and then reads nothing any more: what is sent to it stays with the sender."""

import signal
from typing import Any

from raw_worker import RawWorker


class NeverReads(RawWorker):
    def on_job(self, msgid: int, job: str, method: str, args: Any, *rest: Any) -> None:
        if args == ["behave"]:
            self.answer(msgid, "behaved")
        else:
            signal.pause()


NeverReads().serve()
