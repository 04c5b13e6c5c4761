"""The other way in: a process of multiprocess runs the same loop on descriptors it was given."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from changeover.protocol.errors import Fault
from changeover.worker.start import Arguments
from tests.conftest import PluginFile
from tests.worker_driver import WorkerProcess

# The given descriptors are not 0, 1 and 2, as in a process that multiprocess made.
ENTER = """
import os, sys
fds = [os.dup(fd) for fd in (0, 1, 2)]
null = os.open(os.devnull, os.O_RDWR)
for fd in (0, 1):
    os.dup2(null, fd)
os.environ["LEFTOVER"] = "of the server"
from changeover.worker.start import main_with_fds
main_with_fds(*fds, sys.argv[1:], {"GIVEN": "yes", "CHANGEOVER_CONCURRENCY": "2"})
"""
PROBE = """
    import os
    from changeover.worker import plugin

    @plugin(version="1.0.0")
    def probe():
        print("printed", flush=True)
        os.write(1, b"written\\n")
        return [dict(os.environ), sorted(os.listdir("/proc/self/fd"))]
"""


@pytest.fixture
def probe(plugin_file: PluginFile) -> Path:
    return plugin_file("probe.py", PROBE)


def enter(source: Path) -> WorkerProcess:
    return WorkerProcess(source, command=(sys.executable, "-P", "-c", ENTER))


def test_the_same_loop_runs_on_given_descriptors(probe: Path) -> None:
    with enter(probe) as worker:
        assert worker.boot()["concurrency"] == 2
        environment, _ = worker.run()
        worker.wait_logged("printed\n")
        worker.wait_logged("written\n")
    assert environment == {"GIVEN": "yes", "CHANGEOVER_CONCURRENCY": "2"}


@pytest.mark.parametrize("how", ["exit", "end of input"])
def test_it_leaves_as_an_executed_worker_does(probe: Path, how: str) -> None:
    with enter(probe) as worker:
        worker.boot()
        if how == "exit":
            worker.tell("exit")
        else:
            worker.end_input()
        assert worker.wait_exit() == 0


def test_a_fault_of_the_plugin_is_told_alike(plugin_file: PluginFile) -> None:
    with enter(plugin_file("broken.py", "x = 1 / 0")) as worker, pytest.raises(Fault) as caught:
        worker.boot()
    assert caught.value.message == "import: ZeroDivisionError: division by zero (broken.py:1)"


def test_the_arguments_are_read() -> None:
    arguments = Arguments(["/store/a.py", "--object", "Blur", "--shown", "/home/a.py"])
    assert (arguments.source, arguments.object, arguments.shown) == (
        "/store/a.py",
        "Blur",
        "/home/a.py",
    )


@pytest.mark.parametrize(
    "argv", [["--object"], ["a.py", "--object"], ["--pickled"], ["a.py", "-x"], []]
)
def test_arguments_that_make_no_sense_are_refused(argv: list[str]) -> None:
    with pytest.raises(ValueError, match=r"not understood|is needed"):
        Arguments(argv)


def test_starting_leaves_no_descriptor_open_but_its_own(probe: Path) -> None:
    with WorkerProcess(probe) as worker:
        worker.boot()
        descriptors = worker.run()[1]
    # 0 1 2, two pipes, the stacks' log, epoll, and the listing itself.
    assert len(descriptors) == 8, descriptors
    assert os.path.exists("/proc/self/fd")
