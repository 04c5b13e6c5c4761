"""A `changeover serve` of a test's own, on a socket: to be signalled, killed, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from changeover.client import Changeover, connect
from changeover.client.handle import PluginHandle
from changeover.client.watch import Watch

COMMAND = [sys.executable, "-P", "-m", "changeover.supervisor"]
DEADLINE_S = 30.0
MAY_MOUNT = ["unshare", "--user", "--map-root-user", "--mount"]


def need_mounts() -> None:
    """Skip the test where file systems cannot be mounted."""
    if subprocess.run([*MAY_MOUNT, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow mounts in a user namespace")


@contextmanager
def added(co: Changeover, name: str, **keys: Any) -> Iterator[PluginHandle]:
    """A plugin of a supervisor that many tests share, until the end of the block."""
    co.add(name, keys)
    try:
        yield co[name]
    finally:
        for job in co.jobs(name):  # after a failure: what hangs would hang the removal too
            co.cancel(job["job"], kill=True)
        co.request("remove", name, {}, timeout=DEADLINE_S)


def worker_pid(co: Changeover, name: str) -> int:
    """Of the plugin's first worker."""
    pid: int = co.status()["plugins"][name]["workers"][0]["pid"]
    return pid


def await_said(log: Watch, words: str) -> None:
    """Until the supervisor has said so, since the watch over its log began."""
    assert any(words in event.params[2] for event in log)


class Service:
    """The supervisor of a folder: `folder/s.sock`, `folder/state`. Killed with the block."""

    def __init__(self, folder: Path, plugins: str, *, wrapper: Sequence[str] = ()) -> None:
        keys = {"socket": folder / "s.sock", "state_dir": folder / "state", "settle": "50ms"}
        head = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
        self.folder = folder
        self.config = folder / "changeover.toml"
        self.config.write_text(f'[supervisor]\n{head}[log]\nformat = "text"\n{plugins}')
        self.lines: list[str] = []
        self._more = threading.Condition()
        self.process = subprocess.Popen(
            [*wrapper, *COMMAND, "serve", "-c", str(self.config)],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                with self._more:
                    self.lines.append(line)
                    self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def await_line(self, words: str, count: int = 1) -> None:
        """Until the supervisor has said so, so many times."""
        with self._more:
            assert self._more.wait_for(
                lambda: sum(words in line for line in self.lines) >= count, DEADLINE_S
            ), "".join(self.lines)

    def refuses(self) -> str:
        """It does not start: all that it said."""
        assert self.process.wait(DEADLINE_S) == 2, "".join(self.lines)
        self._reader.join()
        return "".join(self.lines)

    def connect(self) -> Changeover:
        """As a client that does not look for another supervisor."""
        self.await_line("listening")
        return connect(str(self.folder / "s.sock"), reconnect=0)

    def run(self, *line: str) -> subprocess.CompletedProcess[str]:
        """A verb, in a process of its own."""
        return subprocess.run(
            [*COMMAND, *line, "-s", str(self.folder / "s.sock")],
            capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip

    def begin(self, *line: str) -> subprocess.Popen[str]:
        """A verb that takes its time."""
        return subprocess.Popen(
            [*COMMAND, *line, "-s", str(self.folder / "s.sock")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and wait; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL if error else signal.SIGTERM)
        try:
            self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
            self._reader.join()
