"""Leaves a descendant that is neither its child nor in its session: a daemon's double fork."""

import os
import signal

from changeover.worker import plugin


@plugin(version="1.0.0")
def double_forks(fifo: str) -> str:
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            with open(fifo, "w") as held:
                held.write("here\n")
                held.flush()
                signal.pause()
        os._exit(0)
    os.waitpid(child, 0)
    return "left a daemon"
