"""The items of a generator: in order, with credits, and what ends them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from changeover.client import Changeover, PluginError, Progress
from changeover.protocol.errors import Code
from changeover.protocol.messages import unpack

from .client_peer import PATIENCE_S, Peer, job_of, options_of, piped

Ends = tuple[Changeover, Peer]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with piped() as both:
        yield both


def test_items_come_one_by_one_and_then_the_result(ends: Ends) -> None:
    co, peer = ends
    stream = co["transcode"].options(credits=4).stream("a.mkv", "b.mp4")
    run = peer.next("run")
    assert options_of(run)["stream"] == 4
    for n in range(3):
        peer.notify("item", job_of(run), n, {"part": n})
    assert next(stream) == {"part": 0}
    peer.done(run, {"path": "b.mp4"})
    assert list(stream) == [{"part": 1}, {"part": 2}]
    assert stream.future.result(0) == {"path": "b.mp4"}
    assert stream.future.info.release == 1


def test_credits_are_given_back_as_items_are_taken(ends: Ends) -> None:
    co, peer = ends
    stream = co["x"].options(credits=4).stream()
    run = peer.next("run")
    for n in range(4):
        peer.notify("item", job_of(run), n, n)
    assert next(stream) == 0
    assert not peer.has_input()
    assert next(stream) == 1
    more = peer.next("more")
    assert [unpack(param) for param in more.params] == [job_of(run), 2]
    peer.done(run)
    assert list(stream) == [2, 3]


def test_items_that_a_re_run_sends_again_are_dropped(ends: Ends) -> None:
    co, peer = ends
    stream = co["x"].options(credits=2).stream()
    run = peer.next("run")
    for seq, value in [(0, "a"), (1, "b"), (0, "a again"), (1, "b again"), (2, "c")]:
        peer.notify("item", job_of(run), seq, value)
    peer.done(run)
    assert list(stream) == ["a", "b", "c"]


def test_the_error_comes_after_the_items(ends: Ends) -> None:
    co, peer = ends
    stream = co["x"].stream()
    run = peer.next("run")
    peer.notify("item", job_of(run), 0, "one")
    peer.failed(run, Code.JOB_FAILED, "ValueError: then it broke")
    assert next(stream) == "one"
    with pytest.raises(PluginError, match="then it broke"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_progress_is_told_between_items(ends: Ends) -> None:
    co, peer = ends
    stream = co["x"].stream()
    run = peer.next("run")
    peer.notify("progress", job_of(run), {"done": 1, "total": 2, "message": "half"})
    peer.notify("item", job_of(run), 0, "one")
    assert next(stream) == "one"
    assert stream.future.progress == Progress(1, 2, "half")
    peer.done(run)


def test_leaving_the_loop_cancels_the_job(ends: Ends) -> None:
    co, peer = ends

    def loop() -> None:
        for _ in co["x"].stream():
            break

    thread = threading.Thread(target=loop)
    thread.start()
    run = peer.next("run")
    peer.notify("item", job_of(run), 0, "one")
    thread.join(PATIENCE_S)
    gc.collect()
    cancel = peer.next("cancel")
    assert unpack(cancel.params[0]) == job_of(run)
    peer.failed(run, Code.CANCELLED)


def test_leaving_the_block_cancels_the_job(ends: Ends) -> None:
    co, peer = ends
    with co["x"].stream() as stream:
        run = peer.next("run")
    assert list(stream) == []
    assert unpack(peer.next("cancel").params[0]) == job_of(run)
    peer.failed(run, Code.CANCELLED)


def test_a_stream_that_ended_is_not_cancelled(ends: Ends) -> None:
    co, peer = ends
    with co["x"].stream() as stream:
        peer.done(peer.next("run"), None)
        assert list(stream) == []
    assert not peer.has_input()
