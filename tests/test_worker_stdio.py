"""Nothing that a plugin does with its standard descriptors harms the protocol."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.conftest import PluginFile
from tests.worker_driver import WorkerProcess

PLUGINS = Path(__file__).parent / "plugins"


def test_every_way_to_print_ends_in_the_log() -> None:
    with WorkerProcess(PLUGINS / "prints_everywhere.py") as worker:
        worker.boot()
        assert worker.run("hello") == "hello"  # stdin is empty
        for how in ("print", "stdout", "fd", "puts", "echo"):
            worker.wait_logged(f"{how} hello\n")
        worker.wait_logged("printed at import\n")


def test_a_print_shows_up_at_once(tmp_path: Path, plugin_file: PluginFile) -> None:
    source = plugin_file(
        "prints.py",
        """
        from changeover.worker import plugin

        @plugin
        def run(fifo):
            print("on my way")
            return open(fifo).read()
        """,
    )
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(source) as worker:
        worker.boot()
        job = worker.ask_job("slow", str(fifo))
        worker.wait_logged("on my way\n")
        fifo.write_text("")
        worker.answer(job)


def test_a_plugin_may_close_its_standard_descriptors() -> None:
    with WorkerProcess(PLUGINS / "closes_descriptors.py") as worker:
        worker.boot()
        assert worker.run(0, 3) == "done"
        assert worker.run(0, 3) == "done"


def test_a_worker_whose_pipes_were_closed_says_so_and_ends() -> None:
    with WorkerProcess(PLUGINS / "closes_descriptors.py") as worker:
        worker.boot()
        worker.ask_job("last", 3, 100)
        assert worker.wait_exit() == 1
        assert b"the plugin may have closed it" in worker.log


def test_a_fork_has_none_of_the_workers_pipes() -> None:
    with WorkerProcess(PLUGINS / "forks.py") as worker:
        worker.boot()
        assert worker.run(progress=True) == [2, 0]
        assert worker.told("progress") == []


def test_a_fork_that_lives_on_does_not_keep_the_pipes_open(
    tmp_path: Path, plugin_file: PluginFile
) -> None:
    source = plugin_file(
        "leaves_a_fork.py",
        """
        import os
        from changeover.worker import plugin

        @plugin
        def run(fifo):
            child = os.fork()
            if child == 0:
                os.close(2); os.close(1)
                open(fifo).read()
                os._exit(0)
            return child
        """,
    )
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(source) as worker:
        worker.boot()
        child = worker.run(str(fifo))
        worker.end_input()
        assert worker.wait_exit() == 0
        fifo.write_text("")
        assert os.waitpid(child, 0) == (child, 0)  # ours now: the tests adopt orphans


def test_logging_is_left_alone(plugin_file: PluginFile) -> None:
    source = plugin_file(
        "logs.py",
        """
        import logging
        from changeover.worker import plugin

        @plugin
        def run():
            logging.warning("from logging")
            return len(logging.getLogger().handlers)
        """,
    )
    with WorkerProcess(source) as worker:
        worker.boot()
        assert worker.run() == 1
        worker.wait_logged("WARNING:root:from logging")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((), b"usage"), (("a.py", "b.py"), b"usage"), (("a.py", "--pickled", "x"), b"usage"),
     (("--nonsense", "a.py"), b"not understood: --nonsense")],
)  # fmt: skip
def test_a_wrong_command_line_is_a_usage_error(arguments: tuple[str, ...], text: bytes) -> None:
    with WorkerProcess(*arguments) as worker:
        assert worker.wait_exit() == 2
        assert text in worker.log


def test_a_worker_that_is_run_by_hand_says_what_it_is() -> None:
    command = (sys.executable, "-P", "-m", "changeover.worker")
    with WorkerProcess("a.py", command=command, env={"CHANGEOVER_PROTOCOLS": ""}) as worker:
        assert worker.wait_exit() == 2
        assert b"changeover call" in worker.log
