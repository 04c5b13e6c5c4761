"""How a worker begins: as a program of its own, or in a process of multiprocess.

Both ways end in the same loop. The order matters: the pipes are moved away first, then the
process is hardened; the plugin is imported only when `load` asks for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from .release import Release
from .stdio import STDIN, STDOUT, Pipes, take_log

USAGE = 2
_HELP = """\
usage: python -P -m changeover.worker SOURCE [--object NAME] [--shown PATH]
       python -P -m changeover.worker --pickled FILE
"""
_BY_HAND = """\
changeover worker: this is the process that runs one plugin, a supervisor starts it and talks to
it over its standard input and output. To run a plugin: changeover call ./plugin.py
"""
COOKIE = "CHANGEOVER_PROTOCOLS"


class Arguments:
    """The command line: a source with its options, or a pickled callable."""

    def __init__(self, argv: list[str]) -> None:
        given = {"--object": "", "--shown": "", "--pickled": ""}
        rest = list(argv)
        sources = []
        while rest:
            word = rest.pop(0)
            if word in given and rest:
                given[word] = rest.pop(0)
            elif word.startswith("-"):
                raise ValueError(f"not understood: {word}")
            else:
                sources.append(word)
        self.object, self.pickled = given["--object"], given["--pickled"]
        if len(sources) != (0 if self.pickled else 1):
            raise ValueError("one source or one pickled callable is needed")
        self.source = sources[0] if sources else ""
        self.shown = given["--shown"]


def main(argv: list[str]) -> int:
    """Run as a program: the protocol is on standard input and output. The exit code."""
    try:
        arguments = Arguments(argv)
    except ValueError as err:
        sys.stderr.write(f"changeover worker: {err}\n{_HELP}")
        return USAGE
    if not os.environ.get(COOKIE):
        sys.stderr.write(_BY_HAND)
        return USAGE
    return _serve(arguments, STDIN, STDOUT)


def main_with_fds(
    in_fd: int, out_fd: int, err_fd: int, argv: list[str], env: dict[str, str]
) -> NoReturn:
    """Run in a process that multiprocess started, on descriptors that it was given.

    `env` replaces the environment: a fork server's is that of its own start. Raises SystemExit.
    """
    os.environ.clear()
    os.environ.update(env)
    take_log(err_fd)
    sys.exit(_serve(Arguments(argv), in_fd, out_fd))


def _serve(arguments: Arguments, in_fd: int, out_fd: int) -> int:
    pipes = Pipes.take(in_fd, out_fd)
    from .hardening import harden
    from .life import Life
    from .loop import Loop
    from .outlet import Outlet

    prints_stacks = harden()
    release = Release(arguments.source, arguments.shown)
    sys.argv = [release.shown or arguments.pickled]
    outlet = Outlet(pipes)
    life = Life(release, _finder(arguments, release), outlet, prints_stacks=prints_stacks)
    return Loop(pipes, life, outlet).serve()


def _finder(arguments: Arguments, release: Release) -> Callable[[], Any]:
    def find() -> Any:
        if arguments.pickled:
            from .pickled import load_pickled

            return load_pickled(arguments.pickled)
        from .loading import load_source

        return load_source(release, arguments.object)

    return find
