"""bubblewrap: whether it can make a sandbox here, found out by making one.

Having the program says little: it fails under default Docker and under some AppArmor rules.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys

from .children import Children
from .containment import Containment
from .descriptors import Descriptors, readable
from .tagged import kill

INSTALL = 'no program "bwrap" in PATH: apt-get install bubblewrap (dnf, pacman: the same name)'
_PATIENCE_S = 10.0
_WORDS = 4096


async def why_not(children: Children, *, network: bool) -> str:
    """Why no sandbox can be made here, or "" if one just was."""
    if shutil.which("bwrap") is None:
        return INSTALL
    sandbox = Containment(level="sandboxed", network=network).sandbox()
    with Descriptors() as ends:
        said_r, said_w = ends.pipe()
        os.set_blocking(said_r, False)
        popen = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [*sandbox, sys.executable, "-I", "-S", "-c", ""],
            stdin=subprocess.DEVNULL, stdout=said_w, stderr=said_w, start_new_session=True,
        )  # fmt: skip
        pidfd = ends.add(children.adopt(popen))
        is_late = False
        try:
            await asyncio.wait_for(readable(pidfd), _PATIENCE_S)
        except TimeoutError:
            is_late = True
        finally:
            kill(pidfd)
            await readable(pidfd)
            ended = children.reap(popen.pid, pidfd)
            popen.returncode = ended.code
        if ended.status == 0:
            return ""
        how = f"did not come to an end within {_PATIENCE_S:g} s" if is_late else str(ended)
        return f"bwrap cannot make a sandbox here: {_last_line(said_r) or how}"


def _last_line(fd: int) -> str:
    try:
        lines = os.read(fd, _WORDS).decode(errors="replace").strip().splitlines()
    except BlockingIOError:
        return ""
    return lines[-1] if lines else ""
