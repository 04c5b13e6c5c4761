"""The guard: a tiny process that outlives this one, to kill what our workers leave behind.

A worker ends with its supervisor by itself (PR_SET_PDEATHSIG, the end of its input); what it has
started does not. The guard holds a pipe from us, and at its end it kills every process with our
tag. Honest limit: a descendant that clears its environment is not found.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable

from . import tagged
from .children import Children
from .descriptors import Descriptors, readable

_AGAIN_S = (0.1, 30.0)  # the first and the longest wait before it is started again
_END_S = 5.0


class Guard:
    """Started by `start`, and again whenever it has died. `say` is told what went wrong."""

    def __init__(self, children: Children, supervisor_id: str, say: Callable[[str], None]) -> None:
        self._children = children
        self._id = supervisor_id
        self._say = say
        self._keeping: asyncio.Task[None] | None = None
        self._pipe = -1  # its input: it ends with us

    def start(self) -> None:
        """Have one from now on. On the main thread's loop: the guard is a child of ours."""
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Let it look for what is left, and end."""
        if self._keeping is None:
            return
        if self._pipe < 0:  # there is none just now
            self._keeping.cancel()
        else:
            self._release()
        await asyncio.wait({self._keeping}, timeout=_END_S)

    def _release(self) -> None:
        pipe, self._pipe = self._pipe, -1
        os.close(pipe)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        soonest_s, longest_s = _AGAIN_S
        wait_s = soonest_s
        while True:
            began = loop.time()
            try:
                how = await self._one()
            except OSError as error:
                how = f"cannot be started: {error.strerror}"
            if not how:
                return
            if loop.time() - began > longest_s:
                wait_s = soonest_s
            self._say(
                f"the guard {how}; started again in {wait_s:g} s\n"
                "  until then a `kill -9` of this supervisor would leave what workers have started"
            )
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, longest_s)

    async def _one(self) -> str:
        """One guard, to its end; how it ended unless we let it go."""
        with Descriptors() as ends:
            theirs, ours = ends.pipe()
            popen = self._start(theirs)
            pidfd = ends.add(self._children.adopt(popen))
            ends.close(theirs)
            ends.take(ours)
            self._pipe = ours
            await readable(pidfd)
            ended = self._children.reap(popen.pid, pidfd)
            popen.returncode = ended.code
            if self._pipe < 0:
                return ""
            self._release()
            return str(ended)

    def _start(self, stdin: int) -> subprocess.Popen[bytes]:
        own_tag = os.fsdecode(tagged.TAG.rstrip(b"="))  # ours, where we run in a worker ourselves
        return subprocess.Popen(
            [sys.executable, "-I", "-S", tagged.__file__, self._id],
            stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            env={key: value for key, value in os.environ.items() if key != own_tag},
            start_new_session=True,
        )  # fmt: skip
