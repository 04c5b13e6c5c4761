"""What surrounds a worker: the words that stand before its command line, by its level.

limited: the shim `confine.py`. sandboxed: the same inside bubblewrap. Both let it read the
interpreter, the system and its own release, and write its own folders; nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from . import confine
from .spec import Isolation

_ETC = (
    "alternatives", "ca-certificates", "fonts", "gai.conf", "group", "host.conf", "hosts",
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "locale.alias", "localtime",
    "magic", "mime.types", "nsswitch.conf", "os-release", "passwd", "pki/ca-trust", "pki/tls/certs",
    "protocols", "resolv.conf", "services", "ssl/certs", "ssl/openssl.cnf", "timezone",
)  # fmt: skip
SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store",
    "/sys/devices/system/cpu", "/sys/devices/system/node", *(f"/etc/{name}" for name in _ETC),
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
# What a promise of `limited` takes: files 3 (truncate), TCP 4, signals and abstract sockets 6.
LIMITED_ABI = 6
# In a sandbox the namespaces see to these; with the network shared, not to abstract sockets.
SANDBOXED_ABI = 1


def interpreter() -> tuple[str, ...]:
    """Where Python, the packages and we ourselves lie."""
    # Without -P the first entry is the current folder or the script's.
    path = sys.path if sys.flags.safe_path else sys.path[1:]
    ours = str(Path(confine.__file__).parent)
    return (sys.prefix, sys.base_prefix, sys.exec_prefix, ours, *filter(None, path))


def programs(command: tuple[str, ...]) -> tuple[str, ...]:
    """Where the program of a command lies, wherever PATH finds it, and what that links to."""
    found = shutil.which(command[0]) if command else None
    return (found, os.path.realpath(found)) if found else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Containment:
    """How one worker is contained; `read` and `write` are its own paths."""

    level: Isolation = "trusted"
    network: bool = False
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    @property
    def least_abi(self) -> int:
        """The Landlock without which this level would be weaker than it says."""
        is_apart = self.level == "sandboxed" and not self.network
        return SANDBOXED_ABI if is_apart else LIMITED_ABI

    def prefix(self) -> list[str]:
        """The words before the worker's own command line."""
        if self.level == "trusted":
            return []
        shim = [sys.executable, "-I", "-S", confine.__file__, self._plan()]
        return shim if self.level == "limited" else [*self.sandbox(), *shim]

    def sandbox(self) -> list[str]:
        """bubblewrap's words: its own process tree, network, hosts and users, and only our paths.

        bwrap keeps the descriptors that it inherits, and dies with whoever started it.
        """
        shared = ["--share-net"] if self.network else []
        return [
            "bwrap", "--unshare-all", *shared, "--die-with-parent", "--cap-drop", "ALL",
            "--proc", "/proc", "--dev", "/dev",
            *_binds("--ro-bind-try", self._readable()),
            *_binds("--bind", self.write),
        ]  # fmt: skip

    def _plan(self) -> str:
        # A sandbox has its own /dev/shm, the machine's belongs to everybody.
        shared_memory = ("/dev/shm",) if self.level == "sandboxed" else ()  # noqa: S108
        plan = {
            "abi": self.least_abi,
            "network": self.network,
            "read": ["/proc", *self._readable()],
            "write": [*_DEVICES, *shared_memory, *self.write],
        }
        return json.dumps(plan)

    def _readable(self) -> list[str]:
        return list(dict.fromkeys((*SYSTEM, *interpreter(), *self.read)))


def _binds(option: str, paths: list[str] | tuple[str, ...]) -> list[str]:
    """Without what lies below another path: it is there already, perhaps as a link."""
    tops: list[str] = []
    for path in sorted(map(os.path.normpath, paths)):
        if not any(path == top or path.startswith(top + os.sep) for top in tops):
            tops.append(path)
    return [word for path in tops for word in (option, path, path)]
