"""Closes stdin, stdout and stderr under the runtime, after writing to them in two ways."""

import ctypes
import os

from changeover.worker import plugin


@plugin(version="1.0.0")
def closes_fds() -> str:
    print("a print")
    ctypes.CDLL(None).puts(b"a puts")
    for fd in (0, 1, 2):
        os.close(fd)
    return "closed"
