"""What a worker does to itself: it dies with its parent, dumps no core, prints its stacks."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import pytest

from tests.conftest import PluginFile
from tests.worker_driver import WAIT_S, WorkerProcess

PLUGINS = Path(__file__).parent / "plugins"
LIMITS = """
    import resource, signal, sys
    from changeover.worker import plugin

    @plugin
    def run():
        return [resource.getrlimit(resource.RLIMIT_CORE)[0], sys.argv]
"""


def test_stacks_are_printed_on_request_and_the_job_goes_on(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(PLUGINS / "hangs.py") as worker:
        assert worker.boot()["capabilities"]["stacks"]
        job = worker.ask_job("stuck", str(fifo))
        worker.wait_logged("hanging\n")
        worker.process.send_signal(signal.SIGUSR2)
        worker.wait_logged("in hang")
        fifo.write_text("still here")
        assert worker.answer(job) == "still here"


def test_a_crash_prints_where_it_happened(plugin_file: PluginFile) -> None:
    text = """
        import ctypes
        from changeover.worker import plugin

        @plugin
        def run():
            ctypes.string_at(1)
    """
    with WorkerProcess(plugin_file("segfaults.py", text)) as worker:
        worker.boot()
        worker.ask_job("last")
        assert worker.wait_exit() == -signal.SIGSEGV
        assert b"segfaults.py" in worker.log
        assert b"in run" in worker.log


def test_no_core_is_dumped_and_no_argument_is_left(plugin_file: PluginFile) -> None:
    source = plugin_file("limits.py", LIMITS)
    with WorkerProcess(source) as worker:
        worker.boot()
        assert worker.run() == [0, [str(source)]]


def test_a_worker_dies_with_its_parent_although_a_job_holds_the_gil(tmp_path: Path) -> None:
    """The pipes stay open here: only the parent's death can be what ends it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = (sys.executable, "-c", _PARENT, sys.executable)
    with WorkerProcess(PLUGINS / "spins_in_c.py", command=command) as parent:
        parent.wait_logged("\n")
        pid = int(parent.log.split()[0])
        pidfd = os.pidfd_open(pid)
        parent.boot()
        parent.ask_job("stuck", str(fifo))
        with open(fifo, "wb"):  # it is in C now
            parent.process.kill()
            assert select.select([pidfd], [], [], WAIT_S)[0], "the worker outlived its parent"
        os.close(pidfd)
        status = os.waitpid(pid, 0)[1]  # ours now: the tests adopt orphans
        assert os.WTERMSIG(status) == signal.SIGKILL


_PARENT = """
import os, subprocess, sys
worker = subprocess.Popen([sys.argv[1], "-P", "-m", "changeover.worker", sys.argv[2]])
print(worker.pid, file=sys.stderr, flush=True)
worker.wait()
"""


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_it_can_be_ended_by_a_signal_without_a_traceback(
    plugin_file: PluginFile, name: signal.Signals
) -> None:
    with WorkerProcess(plugin_file("limits.py", LIMITS)) as worker:
        worker.boot()
        worker.process.send_signal(name)
        assert worker.wait_exit() == -name
        assert worker.log == b""


def test_the_runtime_imports_nothing_heavy_for_a_plain_plugin(plugin_file: PluginFile) -> None:
    text = """
        import sys
        from changeover.worker import plugin

        @plugin
        def run():
            return sorted({name.partition(".")[0] for name in sys.modules})
    """
    heavy = {"numpy", "asyncio", "ctypes", "inspect", "dataclasses", "argparse", "dill",
             "multiprocess", "pydantic", "zipfile", "traceback", "psutil"}  # fmt: skip
    source = plugin_file("imports.py", text)
    plain = {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    with WorkerProcess(source, env=plain) as worker:
        worker.boot()
        assert not heavy & set(worker.run())
