"""Whether this machine has what a level of isolation promises. It is asked before anything starts.

A mechanism that is missing is a refusal: a weaker worker would be a lie.
"""

from __future__ import annotations

import os

from . import bubblewrap, confine
from .children import Children
from .containment import Containment
from .spec import Isolation

_SINCE = {1: "5.13", 6: "6.12"}  # Linux, by Landlock's ABI


class Levels:
    """Asks the machine; a sandbox that could be made once is not tried again."""

    def __init__(self, children: Children, landlock_abi: int) -> None:
        self._children = children
        self._abi = landlock_abi
        self._made: set[bool] = set()  # with the network, without

    async def why_not(self, level: Isolation, *, network: bool) -> str:
        """What is missing here, and what to do about it; "" if nothing is."""
        if level == "trusted":
            return ""
        least_abi = Containment(level=level, network=network).least_abi
        missing = _missing_here(least_abi, self._abi)
        if missing or level == "limited" or network in self._made:
            return missing
        missing = await bubblewrap.why_not(self._children, network=network)
        if not missing:
            self._made.add(network)
        return missing

    async def refusal(self, level: Isolation, *, network: bool) -> str:
        """The same, as it is told to whoever wants a worker started."""
        missing = await self.why_not(level, network=network)
        if not missing:
            return ""
        return (
            f'isolation = "{level}" cannot be had here: {missing}\n'
            "  what this machine has: changeover doctor"
        )


def _missing_here(least_abi: int, abi: int) -> str:
    machine = os.uname().machine
    if machine not in confine.IOPRIO_SET:
        return f"the number of ioprio_set on {machine} is not known to changeover"
    if abi >= least_abi:
        return ""
    kernel = f"it takes Linux {_SINCE[least_abi]}, with landlock among its security modules"
    if not abi:
        return f"this kernel has no Landlock: {kernel} (lsm=landlock,…)"
    return f"Landlock ABI {least_abi} is needed and this kernel has {abi}: {kernel}"
