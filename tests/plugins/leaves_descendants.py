"""Leaves a child in its group, one in another session, and a daemon; all three hold the FIFO."""

import os
import signal
import subprocess

from changeover.worker import plugin

CHILD = ["sh", "-c", 'exec >"$0"; echo here; exec sleep 1000']


@plugin(version="1.0.0")
def leaves_descendants(fifo: str) -> int:
    subprocess.Popen([*CHILD, fifo])  # with our stderr
    subprocess.Popen([*CHILD, fifo], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open(fifo, "w") as held:
                held.write("here\n")
                held.flush()
                signal.pause()
        os._exit(0)
    return os.getpid()
