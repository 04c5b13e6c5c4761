"""Is stuck in C and holds the GIL, until the test closes its end of the FIFO."""

import ctypes
import os

from changeover.worker import plugin

holds_the_gil = ctypes.PyDLL(None)


@plugin(version="1.0.0")
def spins_in_c(fifo: str) -> None:
    fd = os.open(fifo, os.O_RDONLY)
    while holds_the_gil.read(fd, ctypes.create_string_buffer(1), 1) != 0:
        pass
    os.close(fd)
