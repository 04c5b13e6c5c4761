"""Where the supervisor's socket is: one rule for those who listen and those who connect.

Looks at the environment that it is handed and at no file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Optional

SOCKET_VARIABLE = "CHANGEOVER_SOCKET"


def default_socket(
    name: str = "changeover",
    environ: Optional[Mapping[str, str]] = None,  # noqa: UP045 - 3.9
) -> str:
    """`NAME.sock` in $RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR, else a folder of this user in /tmp.

    systemd joins several runtime directories with colons: the first one is meant.
    """
    environ = os.environ if environ is None else environ
    folder = environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or environ.get("XDG_RUNTIME_DIR")
    if not folder:
        folder = f"/tmp/changeover-{os.getuid()}"  # noqa: S108 - made 0700 by the supervisor
    return os.path.join(folder, f"{name}.sock")


def find_socket(
    path: Optional[str] = None,  # noqa: UP045 - 3.9
    environ: Optional[Mapping[str, str]] = None,  # noqa: UP045 - 3.9
) -> str:
    """Where a client looks: the path that was named, else $CHANGEOVER_SOCKET, else the default."""
    environ = os.environ if environ is None else environ
    return path or environ.get(SOCKET_VARIABLE) or default_socket(environ=environ)
