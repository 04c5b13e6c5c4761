"""A plugin as a `concurrent.futures.Executor`."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator

import pytest

from changeover.client import Changeover
from changeover.protocol.errors import Code
from changeover.protocol.messages import unpack

from .client_peer import PATIENCE_S, Peer, args_of, options_of, piped

Ends = tuple[Changeover, Peer]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with piped() as both:
        yield both


def test_it_is_an_executor(ends: Ends) -> None:
    co, peer = ends
    with co.executor("x") as pool:
        assert isinstance(pool, concurrent.futures.Executor)
        future = pool.submit(None, 1, timeout=7)
        run = peer.next("run")
        assert args_of(run) == ([1], {"timeout": 7})  # every keyword is the job's
        assert "timeout_ms" not in options_of(run)
        peer.done(run, "fine")
        assert future.result(PATIENCE_S) == "fine"


def test_a_method_is_named_by_the_first_argument(ends: Ends) -> None:
    co, peer = ends
    with co.executor("x") as pool:
        pool.submit("calibrate", 3)
        run = peer.next("run")
        assert unpack(run.params[1]) == "calibrate"
        peer.done(run)


def test_its_map_is_the_standard_one(ends: Ends) -> None:
    co, peer = ends
    thread = peer.serve(lambda m: peer.done(m, sum(args_of(m)[0])) if m.method == "run" else None)
    with co.executor("x") as pool:
        assert list(pool.map(None, [1, 2], [10, 20])) == [11, 22]  # type: ignore[arg-type]
    co.close()
    thread.join(PATIENCE_S)


def test_a_function_is_not_sent_to_a_plugin(ends: Ends) -> None:
    co, _ = ends
    with co.executor("x") as pool, pytest.raises(TypeError, match="the plugin is the function"):
        pool.submit(pow, 2, 3)  # type: ignore[arg-type]


def test_shutdown_waits_for_its_own_jobs_and_takes_no_more(ends: Ends) -> None:
    co, peer = ends
    pool = co.executor("x")
    future = pool.submit(None)
    run = peer.next("run")
    thread = threading.Thread(target=pool.shutdown)
    thread.start()
    peer.done(run, "late")
    thread.join(PATIENCE_S)
    assert future.result(0) == "late"
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(None)
    other = co["x"].submit()
    peer.done(peer.next("run"), "still open")
    assert other.result(PATIENCE_S) == "still open"


def test_shutdown_may_cancel(ends: Ends) -> None:
    co, peer = ends
    pool = co.executor("x")
    futures = [pool.submit(None) for _ in range(3)]
    runs = [peer.next("run") for _ in futures]
    pool.shutdown(wait=False, cancel_futures=True)
    for run in runs:
        assert peer.next("cancel")
        peer.failed(run, Code.CANCELLED)
    concurrent.futures.wait(futures, PATIENCE_S)
    assert all(future.cancelled() for future in futures)
