"""More than one job at once: threads, and coroutines on one loop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from changeover.protocol.errors import Code, Fault
from tests.conftest import PluginFile
from tests.worker_driver import WorkerProcess

MEET = """
    import threading
    from changeover.worker import Job, plugin

    barrier = threading.Barrier(3)

    @plugin(version="1.0.0")
    def meet(job: Job):
        job.log("here")
        return barrier.wait(20) >= 0
"""
READ = """
    from changeover.worker import plugin

    @plugin(version="1.0.0")
    def read(fifo):
        print("reading")
        return open(fifo).read()
"""


def fifos(folder: Path, count: int) -> list[Path]:
    made = [folder / f"fifo-{number}" for number in range(count)]
    for path in made:
        os.mkfifo(path)
    return made


def test_as_many_jobs_run_at_once_as_were_asked_for(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("meet.py", MEET)) as worker:
        assert worker.boot(concurrency=3)["concurrency"] == 3
        jobs = [worker.ask_job(f"job-{n}") for n in range(3)]
        assert [worker.answer(job) for job in jobs] == [True, True, True]


def test_the_environment_may_ask_for_it_too(plugin_file: PluginFile) -> None:
    env = {"CHANGEOVER_CONCURRENCY": "4"}
    with WorkerProcess(plugin_file("meet.py", MEET), env=env) as worker:
        assert worker.boot()["concurrency"] == 4


@pytest.mark.parametrize("count", [0, -1, "many", None])
def test_a_concurrency_that_is_none_is_refused(plugin_file: PluginFile, count: object) -> None:
    with WorkerProcess(plugin_file("meet.py", MEET)) as worker, pytest.raises(Fault) as caught:
        worker.boot(concurrency=count)
    assert caught.value.code == Code.INVALID_PARAMS


def test_answers_come_as_the_jobs_end(plugin_file: PluginFile, tmp_path: Path) -> None:
    one, two = fifos(tmp_path, 2)
    with WorkerProcess(plugin_file("read.py", READ)) as worker:
        worker.boot(concurrency=2)
        first, second = worker.ask_job("first", str(one)), worker.ask_job("second", str(two))
        two.write_text("2")
        assert worker.answer(second) == "2"
        one.write_text("1")
        assert worker.answer(first) == "1"
        assert worker.order[-2:] == [second, first]


def test_jobs_beyond_the_concurrency_wait(plugin_file: PluginFile, tmp_path: Path) -> None:
    paths = fifos(tmp_path, 3)
    with WorkerProcess(plugin_file("read.py", READ)) as worker:
        worker.boot(concurrency=2)
        jobs = [worker.ask_job(path.name, str(path)) for path in paths]
        worker.tell("cancel", paths[2].name, "client")
        worker.call("ping", 0)
        paths[0].write_text("0")
        assert worker.answer(jobs[0]) == "0"
        with pytest.raises(Fault) as caught:
            worker.answer(jobs[2])
        assert caught.value.executed == "no"
        paths[1].write_text("1")
        assert worker.answer(jobs[1]) == "1"


def test_large_answers_of_several_threads_are_never_mixed(plugin_file: PluginFile) -> None:
    text = """
        from changeover.worker import plugin

        @plugin
        def run(n):
            return bytes([n]) * 300_000
    """
    with WorkerProcess(plugin_file("big.py", text)) as worker:
        worker.boot(concurrency=4)
        jobs = [worker.ask_job(f"job-{n}", n) for n in range(40)]
        for n, job in enumerate(jobs):
            assert worker.answer(job) == bytes([n]) * 300_000


def test_the_end_of_input_waits_for_no_thread_that_hangs(
    plugin_file: PluginFile, tmp_path: Path
) -> None:
    (path,) = fifos(tmp_path, 1)
    with WorkerProcess(plugin_file("read.py", READ)) as worker:
        worker.boot(concurrency=2)
        worker.ask_job("stuck", str(path))
        worker.wait_logged("reading\n")
        worker.end_input()
        assert worker.wait_exit() == 3


def test_with_one_job_at_a_time_plugin_code_runs_on_the_main_thread(
    plugin_file: PluginFile,
) -> None:
    text = """
        import threading
        from changeover.worker import Plugin

        class Where(Plugin):
            def on_load(self, ctx): self.seen = [self.here()]
            def here(self): return threading.current_thread() is threading.main_thread()
            def run(self): return [*self.seen, self.here()]
    """
    with WorkerProcess(plugin_file("where.py", text)) as worker:
        worker.boot()
        assert worker.run() == [True, True]


# -- async def


ASYNC = """
    import asyncio
    from changeover.worker import Job, Plugin, Progress, plugin

    RAISED = {"value": ValueError, "exit": SystemExit, "end": asyncio.CancelledError}

    class Fetch(Plugin):
        version = "1.0.0"

        async def on_load(self, ctx):
            self.loop = asyncio.get_running_loop()
            self.gate = asyncio.Event()

        async def run(self, job: Job):
            assert asyncio.get_running_loop() is self.loop
            job.log("here")
            await self.gate.wait()
            return job.id

        @plugin.method
        async def open(self):
            self.gate.set()

        @plugin.method
        async def count(self, n):
            try:
                for i in range(n):
                    yield Progress(i, n)
                    await asyncio.sleep(0)
                    yield i
            finally:
                print("closed")

        @plugin.method
        async def fail(self, what):
            await asyncio.sleep(0)
            raise RAISED[what]("x")

        @plugin.method
        async def stubborn(self, job: Job):
            job.log("here")
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                return "never mind"

        async def on_unload(self):
            print("unloaded")
"""


@pytest.fixture
def fetch(plugin_file: PluginFile) -> Path:
    return plugin_file("fetch.py", ASYNC)


def test_coroutines_and_hooks_share_one_loop(fetch: Path) -> None:
    with WorkerProcess(fetch) as worker:
        loaded = worker.boot(concurrency=3)
        assert loaded["capabilities"]["cancel"]
        jobs = [worker.ask_job(f"job-{n}") for n in range(2)]
        worker.wait_told("log", 2)
        worker.run(method="open")
        assert [worker.answer(job) for job in jobs] == ["job-0", "job-1"]


def test_a_waiting_coroutine_is_cancelled(fetch: Path) -> None:
    with WorkerProcess(fetch) as worker:
        worker.boot()
        job = worker.ask_job("mine")
        worker.wait_told("log")
        worker.tell("cancel", "mine", "client")
        with pytest.raises(Fault) as caught:
            worker.answer(job)
        assert (caught.value.code, caught.value.executed) == (Code.CANCELLED, "maybe")


def test_a_waiting_coroutine_ends_at_its_timeout(fetch: Path) -> None:
    with WorkerProcess(fetch) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run(timeout_ms=100)
        assert (caught.value.code, caught.value.executed) == (Code.DEADLINE, "maybe")


def test_a_coroutine_may_answer_its_cancel_with_a_result(fetch: Path) -> None:
    with WorkerProcess(fetch) as worker:
        worker.boot()
        job = worker.ask_job("mine", method="stubborn")
        worker.wait_told("log")
        worker.tell("cancel", "mine", "client")
        assert worker.answer(job) == "never mind"


@pytest.mark.parametrize(
    ("what", "start"),
    [("value", "ValueError: x"), ("exit", "SystemExit"), ("end", "CancelledError: x")],
)
def test_what_a_coroutine_raises_is_a_failed_job(fetch: Path, what: str, start: str) -> None:
    with WorkerProcess(fetch) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run(what, method="fail")
        assert caught.value.code == Code.JOB_FAILED
        assert caught.value.message.startswith(start)
        assert caught.value.message.endswith("(fetch.py:37)")
        with pytest.raises(Fault):  # the loop is still there
            worker.run(what, method="fail")


def test_an_asynchronous_generator_streams(fetch: Path) -> None:
    with WorkerProcess(fetch) as worker:
        assert worker.boot()["methods"]["count"]["stream"]
        assert worker.run(3, method="count") == [0, 1, 2]
        job = worker.ask_job("mine", 3, method="count", stream=9, progress=True)
        assert worker.answer(job) is None
        assert worker.told("item") == [["mine", n, n] for n in range(3)]
        assert len(worker.told("progress")) == 3


def test_an_asynchronous_generator_that_waits_for_credits_is_closed_at_a_cancel(
    fetch: Path,
) -> None:
    with WorkerProcess(fetch) as worker:
        worker.boot()
        job = worker.ask_job("mine", 3, method="count", stream=1)
        worker.wait_told("item")
        worker.tell("cancel", "mine", "client")
        with pytest.raises(Fault) as caught:
            worker.answer(job)
        assert caught.value.code == Code.CANCELLED
        worker.wait_logged("closed\n")


def test_a_coroutine_is_cancelled_at_the_end_of_input(fetch: Path) -> None:
    with WorkerProcess(fetch) as worker:
        worker.boot()
        job = worker.ask_job("mine")
        worker.wait_told("log")
        worker.end_input()
        assert worker.wait_exit() == 0
        assert Fault.of(worker.answers[job].error).data["reason"] == "stopped"
        assert b"unloaded\n" in worker.log
