"""Leaves a child behind, in its own group or in another session, that holds the FIFO and stderr."""

import subprocess

from changeover.worker import plugin

CHILD = ["sh", "-c", 'exec >"$0"; echo here; exec sleep 1000']


@plugin(version="1.0.0")
def leaks_child(fifo: str, session: bool = False) -> str:
    subprocess.Popen([*CHILD, fifo], start_new_session=session)
    return "left a child"
