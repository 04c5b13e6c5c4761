"""Generators: items within the credits, progress to whoever asked, the return value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from changeover.protocol.errors import Code, Fault
from tests.conftest import PluginFile
from tests.worker_driver import WorkerProcess

COUNT = """
    from changeover.worker import Job, Progress, plugin

    @plugin(version="1.0.0")
    def count(n, *, fail_at=-1, items=True, notes=None):
        try:
            for i in range(n):
                yield Progress(i, n, f"step {i}")
                if i == fail_at:
                    raise ValueError("no more")
                if items:
                    yield {"item": i}
        finally:
            if notes:
                open(notes, "w").write("closed")
        return {"counted": n}
"""


@pytest.fixture
def count(plugin_file: PluginFile) -> Path:
    return plugin_file("count.py", COUNT)


def test_a_generator_claims_what_it_can(count: Path) -> None:
    with WorkerProcess(count) as worker:
        loaded = worker.boot()
    assert loaded["methods"]["run"]["stream"]
    assert all(loaded["capabilities"][name] for name in ("cancel", "progress", "stream"))


def test_without_stream_the_items_are_the_answer(count: Path) -> None:
    with WorkerProcess(count) as worker:
        worker.boot()
        assert worker.run(3) == [{"item": 0}, {"item": 1}, {"item": 2}]
        assert worker.notifications == []


def test_without_items_the_return_value_is_the_answer(count: Path) -> None:
    with WorkerProcess(count) as worker:
        worker.boot()
        assert worker.run(3, kwargs={"n": 3, "items": False}) == {"counted": 3}
        assert worker.run(0) == {"counted": 0}


def test_progress_goes_to_whoever_asked_for_it(count: Path) -> None:
    with WorkerProcess(count) as worker:
        worker.boot()
        worker.answer(worker.ask_job("mine", 2, progress=True))
        assert worker.told("progress") == [
            ["mine", {"done": 0, "total": 2, "message": "step 0"}],
            ["mine", {"done": 1, "total": 2, "message": "step 1"}],
        ]


def test_a_function_tells_its_progress_by_its_job(plugin_file: PluginFile) -> None:
    source = plugin_file(
        "plain.py",
        """
        from changeover.worker import Job, plugin

        @plugin
        def run(job: Job):
            job.progress(1, 4, "a quarter")
        """,
    )
    with WorkerProcess(source) as worker:
        assert worker.boot()["capabilities"]["progress"]
        worker.answer(worker.ask_job("mine", progress=True))
        expected = {"done": 1, "total": 4, "message": "a quarter"}
        assert worker.told("progress") == [["mine", expected]]


def test_items_are_sent_one_by_one_before_the_answer(count: Path) -> None:
    with WorkerProcess(count) as worker:
        worker.boot()
        assert worker.answer(worker.ask_job("mine", 3, stream=10)) == {"counted": 3}
        assert worker.told("item") == [["mine", n, {"item": n}] for n in range(3)]


def test_no_item_is_sent_beyond_the_credits(count: Path) -> None:
    with WorkerProcess(count) as worker:
        worker.boot()
        job = worker.ask_job("mine", 5, stream=2)
        worker.wait_told("item", 2)
        worker.call("ping", 0)
        assert len(worker.told("item")) == 2
        worker.tell("more", "mine", 1)
        worker.wait_told("item", 3)
        worker.call("ping", 0)
        assert len(worker.told("item")) == 3
        worker.tell("more", "mine", 100)
        assert worker.answer(job) == {"counted": 5}


def test_a_stream_may_begin_without_credits(count: Path) -> None:
    with WorkerProcess(count) as worker:
        worker.boot()
        job = worker.ask_job("mine", 1, stream=0)
        worker.call("ping", 0)
        assert worker.told("item") == []
        worker.tell("more", "mine", 1)
        assert worker.answer(job) == {"counted": 1}


def test_a_stream_that_waits_for_credits_can_be_cancelled(count: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with WorkerProcess(count) as worker:
        worker.boot()
        job = worker.ask_job("mine", stream=1, kwargs={"n": 5, "notes": str(notes)})
        worker.wait_told("item")
        worker.tell("cancel", "mine", "client")
        with pytest.raises(Fault) as caught:
            worker.answer(job)
        assert (caught.value.code, caught.value.executed) == (Code.CANCELLED, "maybe")
        assert notes.read_text() == "closed"


def test_a_stream_that_waits_for_credits_ends_at_its_deadline(count: Path) -> None:
    with WorkerProcess(count) as worker:
        worker.boot()
        job = worker.ask_job("mine", 5, stream=1, timeout_ms=50)
        with pytest.raises(Fault) as caught:
            worker.answer(job)
        assert caught.value.code == Code.DEADLINE
        assert caught.value.data["reason"] == "timeout"


def test_an_error_after_some_items_is_the_answer(count: Path) -> None:
    with WorkerProcess(count) as worker:
        worker.boot()
        job = worker.ask_job("mine", stream=9, kwargs={"n": 3, "fail_at": 2})
        with pytest.raises(Fault, match=r"ValueError: no more \(count.py:10\)"):
            worker.answer(job)
        assert len(worker.told("item")) == 2


def test_an_item_that_cannot_travel_ends_the_generator(plugin_file: PluginFile) -> None:
    source = plugin_file(
        "odd.py",
        """
        from changeover.worker import plugin

        @plugin
        def run():
            try:
                yield 1
                yield {1, 2}
            finally:
                print("closed")
        """,
    )
    with WorkerProcess(source) as worker:
        worker.boot()
        with pytest.raises(Fault, match="item is of type set") as caught:
            worker.answer(worker.ask_job("mine", stream=9))
        assert caught.value.code == Code.RESULT_INVALID
        worker.wait_logged("closed\n")


def test_a_generator_sees_cancelled_at_its_yield_and_may_answer_it(
    plugin_file: PluginFile, tmp_path: Path
) -> None:
    source = plugin_file(
        "partial.py",
        """
        from changeover.worker import Cancelled, plugin

        @plugin
        def run(fifo):
            try:
                print("begun")
                yield open(fifo).read()
            except Cancelled as over:
                return f"partial: {over.reason}"
        """,
    )
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(source) as worker:
        worker.boot()
        job = worker.ask_job("mine", str(fifo), stream=5)
        worker.wait_logged("begun\n")
        worker.tell("cancel", "mine", "late")
        worker.call("ping", 0)
        fifo.write_text("")
        assert worker.answer(job) == "partial: late"


def test_a_generator_that_goes_on_after_cancelled_is_closed(
    plugin_file: PluginFile, tmp_path: Path
) -> None:
    source = plugin_file(
        "stubborn.py",
        """
        from changeover.worker import Cancelled, plugin

        @plugin
        def run(fifo):
            yield open(fifo).read()
            while True:
                print("going on")
                try:
                    yield 1
                except Cancelled:
                    continue
        """,
    )
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(source) as worker:
        worker.boot()
        job = worker.ask_job("mine", str(fifo), stream=1)
        fifo.write_text("")
        worker.wait_logged("going on\n")
        worker.tell("cancel", "mine", "client")
        with pytest.raises(Fault) as caught:
            worker.answer(job)
        assert caught.value.code == Code.CANCELLED
        worker.wait_logged("going on\ngoing on\n")


def test_a_long_stream_needs_no_more_memory_than_a_short_one(count: Path) -> None:
    with WorkerProcess(count) as worker:
        worker.boot()
        worker.answer(worker.ask_job("warm", 2000, stream=2000))
        before = _rss_bytes(worker.process.pid)
        worker.answer(worker.ask_job("long", 20_000, stream=20_000))
        assert _rss_bytes(worker.process.pid) - before < 1_000_000


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
