"""Cancelling: what a running job sees, what is answered, and which jobs never start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from changeover.protocol.errors import Code, Fault
from tests.conftest import PluginFile
from tests.worker_driver import WorkerProcess

LOOP = """
    from changeover.worker import Cancelled, Job, plugin

    @plugin(version="1.0.0")
    def loop(how, job: Job):
        job.log("begun")
        while True:
            if how == "check":
                job.check()
            elif how == "swallow":
                try:
                    job.check()
                except Cancelled as over:
                    return [over.reason, job.is_cancelled]
            elif how == "careless":
                try:
                    job.check()
                except Exception:
                    pass
            elif how == "raise":
                if job.is_cancelled:
                    raise ValueError("while cleaning up")
"""
PLAIN = """
    from changeover.worker import plugin

    @plugin(version="1.0.0")
    def run(fifo):
        print("begun")
        return open(fifo).read()
"""


def cancelled(plugin_file: PluginFile, how: str, reason: str) -> Any:
    with WorkerProcess(plugin_file("loop.py", LOOP)) as worker:
        worker.boot()
        job = worker.ask_job("mine", how)
        worker.wait_told("log")
        worker.tell("cancel", "mine", reason)
        return worker.answer(job)


@pytest.mark.parametrize("how", ["check", "careless"])
@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("client", Code.CANCELLED),
        ("disconnected", Code.CANCELLED),
        ("late", Code.DEADLINE),
        ("timeout", Code.DEADLINE),
    ],
)
def test_a_cancelled_job_ends_at_its_next_check(
    plugin_file: PluginFile, how: str, reason: str, code: Code
) -> None:
    with pytest.raises(Fault) as caught:
        cancelled(plugin_file, how, reason)
    fault = caught.value
    assert (fault.code, fault.executed) == (code, "maybe")
    assert (fault.data["reason"], fault.data["job"]) == (reason, "mine")


def test_a_job_may_answer_its_cancel_with_a_result(plugin_file: PluginFile) -> None:
    assert cancelled(plugin_file, "swallow", "client") == ["client", True]


def test_an_error_after_a_cancel_is_the_answer(plugin_file: PluginFile) -> None:
    with pytest.raises(Fault, match="while cleaning up") as caught:
        cancelled(plugin_file, "raise", "client")
    assert caught.value.code == Code.JOB_FAILED


def test_a_job_ends_at_its_timeout(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("loop.py", LOOP)) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run("check", timeout_ms=30)
        assert caught.value.code == Code.DEADLINE
        assert caught.value.data["reason"] == "timeout"


def test_a_job_that_takes_a_job_can_be_cancelled(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("loop.py", LOOP)) as worker:
        assert worker.boot()["capabilities"]["cancel"]


def test_a_plain_function_does_not_claim_to_and_finishes(
    plugin_file: PluginFile, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(plugin_file("plain.py", PLAIN)) as worker:
        assert not worker.boot()["capabilities"]["cancel"]
        job = worker.ask_job("mine", str(fifo))
        worker.wait_logged("begun\n")
        worker.tell("cancel", "mine", "client")
        worker.call("ping", 0)
        fifo.write_text("done")
        assert worker.answer(job) == "done"


def test_a_job_whose_time_is_over_before_it_begins_is_not_run(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("plain.py", PLAIN)) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run("/dev/null", timeout_ms=0)
        assert (caught.value.code, caught.value.executed) == (Code.DEADLINE, "no")


def test_a_job_that_waits_in_the_worker_is_cancelled_unrun(
    plugin_file: PluginFile, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(plugin_file("plain.py", PLAIN)) as worker:
        worker.boot()
        first, second = worker.ask_job("first", str(fifo)), worker.ask_job("second", str(fifo))
        worker.tell("cancel", "second", "client")
        worker.call("ping", 0)
        fifo.write_text("done")
        assert worker.answer(first) == "done"
        with pytest.raises(Fault) as caught:
            worker.answer(second)
        assert (caught.value.code, caught.value.executed) == (Code.CANCELLED, "no")


def test_a_job_id_may_be_used_again_but_not_twice_at_once(
    plugin_file: PluginFile, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(plugin_file("plain.py", PLAIN)) as worker:
        worker.boot()
        first = worker.ask_job("same", str(fifo))
        with pytest.raises(Fault, match="here already"):
            worker.answer(worker.ask_job("same", str(fifo)))
        fifo.write_text("one")
        assert worker.answer(first) == "one"
        second = worker.ask_job("same", str(fifo))
        fifo.write_text("two")
        assert worker.answer(second) == "two"


def test_a_cancel_of_an_answered_job_is_ignored(plugin_file: PluginFile, tmp_path: Path) -> None:
    here = tmp_path / "text"
    here.write_text("text")
    with WorkerProcess(plugin_file("plain.py", PLAIN)) as worker:
        worker.boot()
        assert worker.answer(worker.ask_job("mine", str(here))) == "text"
        worker.tell("cancel", "mine", "client")
        assert worker.answer(worker.ask_job("mine", str(here))) == "text"


def test_running_jobs_are_cancelled_at_the_end_of_input(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("loop.py", LOOP)) as worker:
        worker.boot()
        job = worker.ask_job("mine", "check")
        worker.wait_told("log")
        worker.end_input()
        assert worker.wait_exit() == 0
        assert Fault.of(worker.answers[job].error).data["reason"] == "stopped"
