"""A private supervisor beside this process: its pipes, and how it is ended.

It runs in a session of its own, so that Ctrl-C reaches the caller alone. Its stderr is ours.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .pump import set_nonblocking

# -c: a changeover.toml that happens to lie in the current folder is not this supervisor's.
COMMAND = (
    *(sys.executable, "-P", "-m", "changeover.supervisor"),
    *("serve", "--stdio", "-c", os.devnull),
)
_REAP_S = 10.0


class ChildTransport:
    """`changeover serve --stdio` as a transport. Leaves no process behind."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, *_arguments(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.write_fd, self.read_fd = self._stdin.fileno(), self._stdout.fileno()
        set_nonblocking(self.write_fd, self.read_fd)

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self._process.pid

    def end_input(self) -> None:
        """Close its stdin: it finishes what it accepted and leaves."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    def kill(self) -> None:
        """End it and everything it started, at once."""
        if self._process.returncode is not None:
            return
        family = list(_descendants(self._process.pid))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pidfd in family:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)

    def close(self, timeout_s: float) -> None:
        """Close both pipes, wait that long for it to leave, then kill it; reap it."""
        self.end_input()
        self._stdout.close()
        if not self._exits_within(timeout_s):
            self.kill()
        self._process.wait(_REAP_S)

    def forget(self) -> None:
        """In a forked child: it is not ours to wait for."""
        self.end_input()
        self._stdout.close()
        self._process.returncode = 0

    def _exits_within(self, timeout_s: float) -> bool:
        pidfd = os.pidfd_open(self._process.pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(timeout_s * 1000))
        finally:
            os.close(pidfd)

    def epitaph(self) -> str:
        """How it ended; known after `close`."""
        status = self._process.returncode
        who = f"the supervisor (pid {self._process.pid})"
        if status is None:
            return f"{who} closed its end"
        if status < 0:
            return f"{who} died of {signal.Signals(-status).name}"
        return f"{who} exited with status {status}"


def _arguments(options: Mapping[str, Any]) -> Iterator[str]:
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _arguments({f"{key}.{name}": item for name, item in value.items()})
        else:
            yield from ("-o", f"{key}={_toml(value)}")


def _toml(value: Any) -> str:
    """A value as TOML: a str in quotes says that it is one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else str(value)
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def _descendants(pid: int) -> Iterator[int]:
    """pidfds of every living process below `pid`; a pid that was reused meanwhile is left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(int(entry.name))) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    below = list(children.get(pid, ()))
    for child in below:  # grows while it is walked
        below += children.get(child, ())
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(child)
            if _parent(child) is not None:
                yield pidfd
            else:
                os.close(pidfd)


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])
