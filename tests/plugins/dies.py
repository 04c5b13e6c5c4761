"""Ends in the middle of a job, by an exit status or a signal."""

import os

from changeover.worker import plugin


@plugin(version="1.0.0")
def dies(status: int = 0, signal: int = 0) -> None:
    if signal:
        os.kill(os.getpid(), signal)
    os._exit(status)
