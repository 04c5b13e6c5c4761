"""Supervisors for tests of what goes wrong: shared by many tests, or to be killed by one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from changeover.client import Changeover, connect
from changeover.client.handle import PluginHandle
from changeover.client.watch import Watch

from .wire import Supervisor

COMMAND = [sys.executable, "-P", "-m", "changeover.supervisor"]
DEADLINE_S = 30.0
MAY_MOUNT = ["unshare", "--user", "--map-root-user", "--mount"]


def need_mounts() -> None:
    """Skip the test where file systems cannot be mounted."""
    if subprocess.run([*MAY_MOUNT, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow mounts in a user namespace")


def need_level(level: str) -> None:
    """Skip the test where this machine cannot contain a worker so."""
    said = subprocess.run([*COMMAND, "doctor", "--json"], check=True, capture_output=True)
    why_not = json.loads(said.stdout)["levels"][level]["why_not"]
    if why_not:
        pytest.skip(f"{level}: {why_not}")


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


class Service(Supervisor):
    """The supervisor of a folder, with a config, for our own client and commands."""

    def __init__(self, folder: Path, plugins: str, *, wrapper: Sequence[str] = ()) -> None:
        config = folder / "changeover.toml"
        config.write_text(plugins)
        super().__init__(folder, "-c", str(config), wrapper=wrapper)

    def client(self) -> Changeover:
        """One that does not look for another supervisor."""
        return connect(self.path, reconnect=0)

    def begin(self, *line: str) -> subprocess.Popen[str]:
        """A command that takes its time."""
        return subprocess.Popen(
            [*COMMAND, *line, "-s", self.path],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *line: str) -> int:
        """A command; its exit code."""
        command = self.begin(*line)
        command.communicate(timeout=DEADLINE_S)
        return command.returncode
