"""A job's future: it ends exactly once, and says where the job ran."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator

import pytest

from changeover.client import Cancelled, Changeover, JobTimeout, PluginError, Progress, WorkerLost
from changeover.client.future import JobFuture
from changeover.protocol.errors import Code
from changeover.protocol.messages import response_raw

from .client_peer import PATIENCE_S, Peer, is_notification, job_of, piped, record

Ends = tuple[Changeover, Peer]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with piped() as both:
        yield both


def test_it_is_a_future_of_the_standard_library(ends: Ends) -> None:
    co, peer = ends
    futures = [co["x"].submit(n) for n in range(2)]
    assert all(isinstance(future, concurrent.futures.Future) for future in futures)
    runs = [peer.next("run") for _ in futures]
    peer.done(runs[1], "b")
    done, left = concurrent.futures.wait(
        futures, PATIENCE_S, return_when=concurrent.futures.FIRST_COMPLETED
    )
    assert (done, left) == ({futures[1]}, {futures[0]})
    peer.done(runs[0], "a")
    assert {f.result() for f in concurrent.futures.as_completed(futures, PATIENCE_S)} == {"a", "b"}


def test_info_tells_the_release_and_the_times(ends: Ends) -> None:
    co, peer = ends
    future = co["denoise"].submit()
    assert (future.info.plugin, future.info.release) == ("denoise", None)
    peer.done(peer.next("run"), None, attempts=2)
    future.result(PATIENCE_S)
    info = future.info
    assert (info.release, info.version, info.digest) == (1, "1.0.0", "ab" * 32)
    assert (info.generation, info.worker, info.attempts) == (7, "w-3", 2)
    assert (info.queued_ms, info.ran_ms, info.state) == (0.25, 1.5, "done")


def test_an_error_has_the_info_too(ends: Ends) -> None:
    co, peer = ends
    future = co["denoise"].submit()
    peer.failed(peer.next("run"), Code.JOB_FAILED, "ValueError: no", type="ValueError")
    with pytest.raises(PluginError) as caught:
        future.result(PATIENCE_S)
    assert (caught.value.release, caught.value.job) == (1, future.info.job)
    assert future.info.state == "failed"


def test_a_job_lost_with_its_worker_says_why(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit()
    peer.failed(peer.next("run"), Code.WORKER_LOST, reason="killed_at_drain", signal="SIGKILL")
    error = future.exception(PATIENCE_S)
    assert isinstance(error, WorkerLost)
    assert (error.reason, error.executed) == ("killed_at_drain", "maybe")


def test_a_result_that_cannot_be_read_is_the_plugin_s_fault(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit()
    run = peer.next("run")
    frame = {"$frame": {"kind": "video", "fmt": "rgb24", "w": 9, "h": 9, "planes": [[0, 27, 9]]}}
    peer.send(response_raw(run.msgid, record(run, {**frame, "data": b"short"})))
    with pytest.raises(PluginError, match="cannot be read") as caught:
        future.result(PATIENCE_S)
    assert (caught.value.code, caught.value.release) == (Code.RESULT_INVALID, 1)


def test_a_deadline_is_a_timeout(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit(timeout=1.5)
    peer.failed(peer.next("run"), Code.DEADLINE, reason="timeout")
    with pytest.raises(TimeoutError) as caught:
        future.result(PATIENCE_S)
    assert isinstance(caught.value, JobTimeout)


# -- cancelling


def test_a_queued_job_is_cancelled_when_cancel_returns(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit()
    run = peer.next("run")

    def supervisor() -> None:
        cancel = peer.next("cancel")
        peer.failed(run, Code.CANCELLED, reason="client")
        peer.answer(cancel, {"job": job_of(run), "state": "cancelled"})

    thread = threading.Thread(target=supervisor)
    thread.start()
    assert future.cancel() is True
    assert future.cancelled()
    assert future.done()
    with pytest.raises(Cancelled) as caught:
        future.result(0)
    assert (caught.value.executed, caught.value.reason) == ("no", "client")
    assert future.info.state == "cancelled"
    assert future.cancel() is True  # and nothing is asked again
    thread.join(PATIENCE_S)


def test_a_running_job_that_is_asked_to_stop_ends_later_and_once(ends: Ends) -> None:
    co, peer = ends
    ended: list[object] = []
    future = co["x"].submit()
    future.add_done_callback(ended.append)
    run = peer.next("run")
    asked = peer.serve(
        lambda m: (
            peer.answer(m, {"job": job_of(run), "state": "running"})
            if m.method == "cancel"
            else None
        )
    )
    assert future.cancel() is False
    assert not future.done()
    peer.failed(run, Code.CANCELLED, executed="maybe", reason="client")
    assert concurrent.futures.wait([future], PATIENCE_S).done
    assert future.cancelled()
    with pytest.raises(Cancelled, match="it failed") as caught:
        future.exception(0)
    assert caught.value.executed == "maybe"
    assert ended == [future]
    co.close()
    asked.join(PATIENCE_S)


def test_a_job_that_finished_meanwhile_keeps_its_result(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit()
    run = peer.next("run")

    def supervisor() -> None:
        cancel = peer.next("cancel")
        peer.done(run, "just in time")
        peer.refuse(cancel, Code.NOT_FOUND, "no such job")

    thread = threading.Thread(target=supervisor)
    thread.start()
    assert future.cancel() is False
    assert future.result(PATIENCE_S) == "just in time"
    thread.join(PATIENCE_S)


def test_a_callback_may_cancel_another_job(ends: Ends) -> None:
    co, peer = ends
    first, second = co["x"].submit(1), co["x"].submit(2)
    first.add_done_callback(lambda _: second.cancel())
    runs = [peer.next("run"), peer.next("run")]
    peer.done(runs[0])
    cancel = peer.next("cancel")
    assert is_notification(cancel)
    peer.failed(runs[1], Code.CANCELLED)
    assert concurrent.futures.wait([second], PATIENCE_S).done


def test_a_job_that_somebody_else_cancelled_is_cancelled(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit()
    peer.failed(peer.next("run"), Code.CANCELLED, "cancelled (client)")
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(PATIENCE_S)


# -- progress


def test_reports_reach_every_listener_in_order(ends: Ends) -> None:
    co, peer = ends
    heard: list[Progress] = []
    future = co["x"].options(on_progress=heard.append).submit()
    run = peer.next("run")
    for n in range(3):
        peer.notify("progress", job_of(run), {"done": n, "total": 3, "message": f"{n} s"})
    peer.done(run)
    future.result(PATIENCE_S)
    assert heard == [Progress(n, 3, f"{n} s") for n in range(3)]
    assert future.progress == Progress(2, 3, "2 s")


def test_a_late_listener_hears_the_newest_report(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit()
    run = peer.next("run")
    first = threading.Event()
    future.on_progress(lambda _: first.set())
    peer.notify("progress", job_of(run), {"done": 1, "total": None, "message": ""})
    assert first.wait(PATIENCE_S)
    assert future.running()
    heard: list[Progress] = []
    future.on_progress(heard.append)
    assert heard == [Progress(1, None, "")]
    peer.done(run)


def test_reports_of_two_requests_for_one_job_reach_both(ends: Ends) -> None:
    co, peer = ends
    handle = co["x"].options(id="f-17", idempotent=True)
    futures = [handle.submit(1), handle.submit(1)]
    runs = [peer.next("run") for _ in futures]
    peer.notify("progress", "f-17", {"done": 1, "total": 2, "message": ""})
    for run in runs:
        peer.done(run)
    concurrent.futures.wait(futures, PATIENCE_S)
    assert [future.progress for future in futures] == [Progress(1, 2, "")] * 2


def test_reports_after_the_end_are_nobody_s(ends: Ends) -> None:
    co, peer = ends
    future: JobFuture = co["x"].submit()
    run = peer.next("run")
    peer.done(run)
    future.result(PATIENCE_S)
    peer.notify("progress", job_of(run), {"done": 1})
    second = co["x"].submit()
    peer.done(peer.next("run"))
    second.result(PATIENCE_S)
    assert future.progress is None
