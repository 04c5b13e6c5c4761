"""Hangs where it is told to, until the FIFO that it was given is opened for writing."""

from changeover.worker import Plugin
from changeover.worker.context import Context


def hang(fifo: str) -> str:
    print("hanging")
    with open(fifo) as file:
        return file.read()


class Hanger(Plugin):
    version = "1.0.0"

    def on_load(self, ctx: Context) -> None:
        self.config = ctx.config
        if "on_load" in ctx.config:
            hang(ctx.config["on_load"])

    def run(self, fifo: str) -> str:
        return hang(fifo)

    def on_unload(self) -> None:
        if "on_unload" in self.config:
            hang(self.config["on_unload"])
