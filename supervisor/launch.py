"""What the launcher is asked for and what it hands back: plain records, and the error.

Knows the command line and the environment of a worker, not how a process is made.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .containment import Containment
from .environment import passed

Wrapper = Literal["", "launcher", "bwrap"]

# Failures that say something about what was asked for; every other errno is the machine's
# state (EMFILE, ENFILE, EAGAIN, ENOMEM, ENOSPC, ETXTBSY, EIO, ...) and worth another attempt.
_BAD_CONTENT = {
    errno.E2BIG,
    errno.EACCES,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOEXEC,
    errno.ENOTDIR,
    errno.EPERM,
}
_HINTS = {
    errno.EACCES: "may it be executed? chmod +x, and no noexec mount",
    errno.ENOENT: "it is not there, or the interpreter in its first line is not",
    errno.ENOEXEC: "neither a program nor a script that begins with #!",
    errno.EMFILE: "this process has no descriptor left: raise LimitNOFILE / ulimit -n",
    errno.ENFILE: "this machine has no descriptor left",
    errno.EAGAIN: "the limit on processes is reached: TasksMax / ulimit -u",
    errno.ENOMEM: "no memory left for another process",
}


class SpawnError(Exception):
    """A worker could not be started.

    `bad_luck` tells the machine's state (try again later) from bad content (do not).
    """

    def __init__(self, message: str, *, bad_luck: bool) -> None:
        super().__init__(message)
        self.message = message
        self.bad_luck = bad_luck

    @classmethod
    def of(cls, what: str, err: OSError) -> SpawnError:
        """From what the kernel said when `what` was started."""
        number = err.errno
        if number is None:  # a TimeoutError
            return cls(f"cannot start {what}: {str(err) or type(err).__name__}", bad_luck=True)
        reason = f"{os.strerror(number)} ({errno.errorcode.get(number, number)})"
        hint = f"; {_HINTS[number]}" if number in _HINTS else ""
        return cls(f"cannot start {what}: {reason}{hint}", bad_luck=number not in _BAD_CONTENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """One worker to start. `worker` is unique for ever: it is the tag of its descendants."""

    plugin: str
    worker: str  # "<supervisor id>/<worker id>"
    slot: int
    start: Literal["exec", "spawn", "forkserver"] = "exec"
    command: tuple[str, ...] = ()  # a program, with the staged path in its place
    python: str = ""  # another interpreter, which needs the `runtime` (`runtime.py`)
    runtime: str = ""
    source: str = ""  # the staged path
    shown: str = ""  # the path that people know
    object: str = ""
    pickled: bool = False  # `source` holds a callable given from code
    env: Mapping[str, str] = field(default_factory=dict)  # "{slot}" stands for `slot`
    env_pass: tuple[str, ...] = ()  # what a contained worker gets of our environment, too
    containment: Containment = field(default_factory=Containment)
    launcher: tuple[str, ...] = ()  # stands before everything else on its command line
    preload: tuple[str, ...] = ()  # forkserver: third-party modules
    cwd: str | None = None
    state_dir: str = ""
    tmp_dir: str = ""

    @property
    def supervisor_id(self) -> str:
        """The part of the tag that all workers of this supervisor share."""
        return self.worker.partition("/")[0]

    def arguments(self) -> list[str]:
        """What the Python worker is told on its command line, after the module's name."""
        if self.pickled:
            return ["--pickled", self.source]
        named = ["--object", self.object] if self.object else []
        shown = ["--shown", self.shown] if self.shown else []
        return [self.source, *named, *shown]

    def argv(self) -> list[str]:
        """The whole command line of an executed worker."""
        if self.command:
            return self.wrapped(*self.command)
        if self.python:
            return self.wrapped(self.python, self.runtime, *self.arguments())
        return self.wrapped(sys.executable, "-P", "-m", "changeover.worker", *self.arguments())

    def wrapped(self, *argv: str) -> list[str]:
        """Around that command line, what launches and what contains it."""
        return [*self.launcher, *self.containment.prefix(), *argv]

    @property
    def wrapper(self) -> Wrapper:
        """Who the process that we start is, if it is not the worker itself."""
        if self.containment.level == "sandboxed":
            return "bwrap"
        return "launcher" if self.launcher else ""

    def withheld(self) -> set[str]:
        """The variables of our environment that the worker has not."""
        return set(os.environ) - set(self.environment())

    def environment(self) -> dict[str, str]:
        """The supervisor's own environment, or what is let through of it, the plugin's `env`,
        and what names the worker.
        """
        slot = str(self.slot)
        added = {key: value.replace("{slot}", slot) for key, value in self.env.items()}
        named = {
            "CHANGEOVER_PROTOCOLS": "1",
            "CHANGEOVER_PLUGIN": self.plugin,
            "CHANGEOVER_WORKER": self.worker,
            "CHANGEOVER_SLOT": slot,
        }
        if self.state_dir:
            named["CHANGEOVER_STATE_DIR"] = self.state_dir
        if self.tmp_dir:
            named["TMPDIR"] = self.tmp_dir
        return {**self._inherited(), **added, **named}

    def _inherited(self) -> Mapping[str, str]:
        is_trusted = self.containment.level == "trusted"
        return os.environ if is_trusted else passed(os.environ, self.env_pass)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A running worker. The three pipe ends are non-blocking and belong to the caller.

    The rest belongs to `Process`: a child of ours has `popen`, a child of the fork server
    a pipe on which its exit status will come.
    """

    worker: str
    pid: int
    pidfd: int
    stdin_fd: int
    stdout_fd: int
    stderr_fd: int
    popen: subprocess.Popen[bytes] | None = None
    status_fd: int = -1
    wrapper: Wrapper = ""  # it is the parent of the worker, not the worker
