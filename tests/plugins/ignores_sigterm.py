"""Does not end when asked to."""

import signal

from changeover.worker import plugin

signal.signal(signal.SIGTERM, signal.SIG_IGN)


@plugin(version="1.0.0")
def ignores_sigterm() -> str:
    return "still here"
