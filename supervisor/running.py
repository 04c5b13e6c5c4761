"""From a config to a running service and out again: locks, signals, the order of the end."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import select
import signal
import sys

import msgpack

from .chain import HistoryError
from .children import become_subreaper
from .config import Config
from .listener import ListenError
from .roster import NOT_DURABLE
from .service import Service
from .staged import StageError
from .state_dir import StateDir, StateDirError
from .waiting import wait_for

EXIT_FAILED, EXIT_USAGE = 1, 2


def run(config: Config, *, stdio: bool, check: bool) -> int:
    """Be the supervisor until the end; the exit code."""
    if not msgpack.Packer.__module__.endswith("_cmsgpack"):
        words = "msgpack lacks its C extension: pip install --force-reinstall msgpack"
        return _say(words, EXIT_USAGE)
    try:
        state_dir = StateDir.open(config.supervisor, stdio=stdio)
    except StateDirError as error:
        return _say(str(error), EXIT_USAGE)
    for name, spec in config.plugins.items():
        if spec.durable and state_dir.is_temporary:
            state_dir.close()
            return _say(f"{name}: {NOT_DURABLE}", EXIT_USAGE)
    try:
        return asyncio.run(_main(config, state_dir, stdio=stdio, check=check))
    except (ListenError, StageError, HistoryError) as error:
        return _say(str(error), EXIT_USAGE)
    finally:
        state_dir.close()


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"changeover: {text}\n")
    return code


async def _main(config: Config, state_dir: StateDir, *, stdio: bool, check: bool) -> int:
    become_subreaper()
    if hasattr(signal, "SIGQUIT"):
        faulthandler.register(signal.SIGQUIT, all_threads=True)
    fds = _take_stdio() if stdio else None
    service = Service(config, state_dir)
    service.shell.crew.attach()
    try:
        _obey_signals(service)
        if fds is None:
            path = service.listen()
            service.narrate("info", "", f"listening on {path}, pid {os.getpid()}")
        changes = service.roster.start()
        if fds is not None:
            service.serve_stdio(*fds)
            _leave_with_reader(service, fds[1])
        if check and not await _all_serve(service, changes):
            await service.stop(at_once=True)
            return EXIT_FAILED
        await service.stopped.wait()
    finally:
        await service.close()
    return EXIT_FAILED if service.was_misused else 0


async def _all_serve(service: Service, changes: list) -> bool:  # type: ignore[type-arg]
    ended = await asyncio.gather(*(wait_for(change, "cut", None) for change in changes))
    return all(change.outcome in ("", "done") for change in ended)


def _take_stdio() -> tuple[int, int]:
    """The protocol gets private descriptors; a stray print goes to the log, not to the client."""
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return read_fd, write_fd


def _obey_signals(service: Service) -> None:
    loop = service.loop
    count = 0

    def stop() -> None:
        nonlocal count
        count += 1
        service.spawn_task(service.stop(at_once=count > 1 or service.stopped.is_set()))

    def reload() -> None:
        service.spawn_task(service.hup())

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)


def _leave_with_reader(service: Service, write_fd: int) -> None:
    """When nobody can read our answers any more there is nothing left to finish."""
    gone = select.epoll()
    try:
        gone.register(write_fd, 0)  # only errors and hang-ups, which are always reported
    except PermissionError:  # a regular file cannot hang up
        gone.close()
        return

    def stop() -> None:
        service.loop.remove_reader(gone.fileno())
        gone.close()
        service.spawn_task(service.stop(at_once=True))

    service.loop.add_reader(gone.fileno(), stop)
