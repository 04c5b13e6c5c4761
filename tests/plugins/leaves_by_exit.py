"""Leaves by sys.exit where it is told to: import, on_load, run."""

import os
import sys

from changeover.worker import Plugin
from changeover.worker.context import Context

if os.environ.get("LEAVE_AT") == "import":
    sys.exit(3)


class Leaver(Plugin):
    version = "1.0.0"

    def on_load(self, ctx: Context) -> None:
        if os.environ.get("LEAVE_AT") == "on_load":
            sys.exit("?")

    def run(self, how: str = "sys.exit") -> None:
        if how == "os._exit":
            os._exit(7)
        sys.exit(5)
