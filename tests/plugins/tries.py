"""Tries what a contained worker must not, and tells how that went; "" is success."""

import os
import socket
import subprocess
import sys
import tempfile
from typing import Any

from changeover.worker import Plugin, plugin


class Tries(Plugin):
    name, version = "tries", "1.0.0"

    def on_load(self, ctx: Any) -> None:
        self.state_dir = ctx.state_dir

    @plugin.method
    def read(self, path: str) -> str:
        return _told(lambda: _read(path))

    @plugin.method
    def write(self, path: str) -> str:
        return _told(lambda: _write(path))

    @plugin.method
    def connect(self, port: int) -> str:
        return _told(lambda: socket.create_connection(("127.0.0.1", port), 10).close())

    @plugin.method
    def connect_abstract(self, name: str) -> str:
        with socket.socket(socket.AF_UNIX) as made:
            return _told(lambda: made.connect("\0" + name))

    @plugin.method
    def signal(self, pid: int) -> str:
        return _told(lambda: os.kill(pid, 0))

    @plugin.method
    def signal_own_child(self) -> str:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            return _told(child.kill)

    @plugin.method
    def write_own(self) -> list[str]:
        """In the state_dir and in the temporary folder."""
        return [self.write(f"{folder}/own") for folder in (self.state_dir, tempfile.gettempdir())]

    @plugin.method
    def folders(self) -> list[str]:
        return [str(self.state_dir), tempfile.gettempdir()]

    @plugin.method
    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    @plugin.method
    def process(self) -> dict[str, Any]:
        with open("/proc/self/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        with open("/proc/self/oom_score_adj") as score:
            return {
                "privileges": int(fields["NoNewPrivs"]),
                "capabilities": int(fields["CapEff"], 16),
                "nice": os.nice(0),
                "oom": int(score.read()),
            }

    @plugin.method
    def die(self, number: int) -> None:
        os.kill(os.getpid(), number)

    @plugin.method
    def leave_descendants(self, fifo: str) -> None:
        """One in another session, and a daemon; both hold the FIFO."""
        script = 'exec >"$0"; echo here; exec sleep 1000'
        subprocess.Popen(["sh", "-c", script, fifo], start_new_session=True)
        subprocess.run(["sh", "-c", f"setsid sh -c '{script}' \"$0\" &", fifo], check=True)

    @plugin.method
    def leave_nameless(self, fifo: str) -> None:
        """One that no tag can be found on."""
        script = 'exec >"$0"; echo here; exec sleep 1000'
        subprocess.Popen(["sh", "-c", script, fifo], start_new_session=True, env={})


def _read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def _write(path: str) -> None:
    with open(path, "w") as file:
        file.write("x")


def _told(attempt: Any) -> str:
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return ""
