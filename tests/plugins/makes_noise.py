"""Writes where it should not, in every way, and much of it; then still answers."""

import ctypes
import os

from changeover.worker import plugin


@plugin(version="1.0.0", pure=True)
def makes_noise(flood_bytes: int = 0, payload: bytes = b"") -> bytes:
    libc = ctypes.CDLL(None)
    print("a print")
    libc.puts(b"a puts")
    libc.fflush(None)
    os.write(1, b"a write\n")
    chunk = b"x" * (1 << 20)
    while flood_bytes > 0:
        flood_bytes -= os.write(2, chunk[:flood_bytes])
    os.write(2, b"\nafter the flood\n")
    os.close(1)
    os.close(2)
    return payload
