"""Does not let go of a job: ignores TERM, masks every signal, is stuck in C and holds the GIL."""

import ctypes
import signal

from changeover.worker import Plugin
from changeover.worker.context import Context

holds_the_gil = ctypes.PyDLL(None)


class Clings(Plugin):
    version = "1.0.0"

    def on_load(self, ctx: Context) -> None:
        self.how = ctx.config["how"]
        if self.how == "ignores TERM":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif self.how == "masks signals":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def run(self, hold: str) -> None:
        with open(hold, "rb", buffering=0) as held:
            with open(hold + ".began", "wb", buffering=0) as began:
                began.write(b".")
            if self.how == "is stuck in C":
                holds_the_gil.read(held.fileno(), ctypes.create_string_buffer(1), 1)
            else:
                held.read(1)
