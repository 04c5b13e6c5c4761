"""What a worker does to itself so that it neither outlives its supervisor nor hides its end."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def harden() -> bool:
    """Apply everything. Answers whether SIGUSR2 prints stacks.

    Linux only where it says so; call it on the main thread, before the plugin is imported.
    """
    _no_core_dumps()
    _die_with_parent()
    # Ctrl-C in the middle of our own code would only print a traceback of ours.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _print_stacks()


def _no_core_dumps() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _die_with_parent() -> None:
    """Linux: SIGKILL for us when the process (in truth: the thread) that started us ends."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    # The module below ctypes: ctypes itself would add 3 ms to a start of 10.
    import _ctypes

    this_program = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
    prctl = _ctypes.dlsym(this_program, "prctl")
    _ctypes.call_cdeclfunction(prctl, (_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked


def _print_stacks() -> bool:
    # A descriptor of its own: the plugin may close fd 2.
    log = os.dup(2)
    faulthandler.enable(log)
    faulthandler.register(signal.SIGUSR2, log, all_threads=True, chain=False)
    return True
