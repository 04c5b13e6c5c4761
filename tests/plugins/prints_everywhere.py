"""Writes to stdout in every way it can: Python, the descriptor, C, a child."""

import ctypes
import os
import subprocess
import sys

from changeover.worker import plugin

print("printed at import")
libc = ctypes.CDLL(None)


@plugin(version="1.0.0")
def write(word: str) -> str:
    print(f"print {word}")
    sys.stdout.write(f"stdout {word}\n")
    os.write(1, f"fd {word}\n".encode())
    libc.puts(f"puts {word}".encode())
    libc.fflush(None)
    subprocess.run(["echo", f"echo {word}"], check=True)
    read = sys.stdin.read()
    return f"{word}{read}"
