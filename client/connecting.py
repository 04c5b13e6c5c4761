"""`connect` and `launch`: the two ways to a supervisor.

What is open is remembered, so that a program that ends without closing leaves nothing behind.
"""

from __future__ import annotations

import atexit
import os
import re
import weakref
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, wait
from typing import Any

from ..protocol.paths import find_socket
from . import ask
from .changeover import Changeover
from .connection import RECONNECT_S, STOP_TIMEOUT_S, Connection
from .spec import Source
from .transport import SocketTransport

CONNECT_TIMEOUT_S = 10.0
LAUNCH_TIMEOUT_S = 60.0  # until the supervisor says hello; plugins have their warm_timeout
_STOP_MARGIN_S = 5.0
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_open: weakref.WeakSet[Connection] = weakref.WeakSet()


def connect(
    path: str | None = None,
    *,
    timeout: float = CONNECT_TIMEOUT_S,
    reconnect: float = RECONNECT_S,
) -> Changeover:
    """Use a running `serve`: at `path`, else $CHANGEOVER_SOCKET, else where it is by default.

    A supervisor that restarts is looked for during `reconnect` seconds; meanwhile calls wait.
    Raises NoSupervisor.
    """
    return Changeover(open_socket(path, timeout, reconnect))


def launch(plugins: Mapping[str, Source | Mapping[str, Any]], **supervisor: Any) -> Changeover:
    """Start a private supervisor beside this process, with these plugins.

    A plugin is a path, a callable or a map of its keys; keywords are `[supervisor]` keys
    (`settle="100ms"`). Returns when all are live, or raises the first failure and leaves no
    process behind.
    """
    return Changeover(open_child(plugins, supervisor))


def open_socket(path: str | None, timeout_s: float, reconnect_s: float) -> Connection:
    """A connection to a service, which may restart."""
    where = find_socket(path)

    def dial() -> SocketTransport:
        return SocketTransport.connect(where, timeout_s)

    connection = Connection(dial(), redial=dial, reconnect_s=reconnect_s)
    connection.open(timeout_s)
    _open.add(connection)
    return connection


def open_child(
    plugins: Mapping[str, Source | Mapping[str, Any]], supervisor: Mapping[str, Any]
) -> Connection:
    """A connection to a supervisor of our own, whose plugins are live."""
    from .child import ChildTransport  # subprocess: for who launches

    asked = [ask.add(name, plugin) for name, plugin in plugins.items()]
    stop_timeout_s = _seconds(supervisor.get("stop_timeout"))
    connection = Connection(
        ChildTransport(supervisor), is_private=True, stop_timeout_s=stop_timeout_s + _STOP_MARGIN_S
    )
    connection.open(LAUNCH_TIMEOUT_S)
    _open.add(connection)
    try:
        replies = [connection.request(add.method, add.params) for add in asked]
        ended, _ = wait(replies, return_when=FIRST_EXCEPTION)
        for reply in ended:
            reply.result()
    except BaseException:
        connection.close(now=True)
        raise
    return connection


def _seconds(value: Any) -> float:
    """How long to wait for the supervisor; that it is a right value is the supervisor's to say."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", str(value))
    if match is None or match[2] not in _UNITS:
        return STOP_TIMEOUT_S
    return float(match[1]) * _UNITS[match[2]]


@atexit.register
def _close_all() -> None:
    for connection in list(_open):
        connection.close()


def _forget_all() -> None:
    for connection in list(_open):
        connection.forget()


# A forked child holds the pipes too: the supervisor would not see their end, and both would
# read from one stream.
os.register_at_fork(after_in_child=_forget_all)
