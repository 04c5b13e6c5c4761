"""The helper thread: in turn, but a long task lets the others through."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from changeover.supervisor.files import Files


@pytest.fixture
def files() -> Iterator[Files]:
    helper = Files()
    yield helper
    helper.shutdown()


def test_tasks_are_done_in_turn_in_one_thread(files: Files) -> None:
    futures = [files.submit(lambda n=n: (n, threading.get_ident())) for n in range(5)]
    done = [future.result(10) for future in futures]
    assert [number for number, _ in done] == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in done}) == 1


def test_a_long_task_that_breathes_lets_others_through(files: Files) -> None:
    begun = threading.Event()
    others_done = threading.Event()

    def long_task() -> str:
        begun.set()
        while not others_done.is_set():
            files.breathe()
        return "long"

    long = files.submit(long_task)
    assert begun.wait(10)
    assert files.submit(lambda: "short").result(10) == "short"
    others_done.set()
    assert long.result(10) == "long"


def test_an_error_reaches_whoever_waits(files: Files) -> None:
    with pytest.raises(ZeroDivisionError):
        files.submit(lambda: 1 // 0).result(10)


def test_shutdown_does_what_was_submitted_before() -> None:
    helper = Files()
    futures = [helper.submit(lambda n=n: n) for n in range(100)]
    helper.shutdown()
    assert [future.result(0) for future in futures] == list(range(100))
