"""A connection over two pipes: what is sent, what is told, how it ends."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from changeover.client.changeover import Changeover
from changeover.client.connection import Connection
from changeover.client.errors import (
    Busy,
    Disconnected,
    InvalidRequest,
    JobTimeout,
    NotFound,
    TooLarge,
)
from changeover.protocol.errors import Code, Fault
from changeover.protocol.messages import failure, notification, response_raw, unpack

from .client_peer import (
    PATIENCE_S,
    Peer,
    args_of,
    job_of,
    options_of,
    pipe_ends,
    piped,
    record,
)

Ends = tuple[Changeover, Peer]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with piped() as both:
        yield both


def test_hello_offers_the_protocol_first() -> None:
    with piped() as (_, peer):
        hello = peer.seen[0]
        assert unpack(hello.params[0]) == {"protocol": [1], "name": "changeover.client"}


def test_a_job_says_plugin_method_arguments_and_options(ends: Ends) -> None:
    co, peer = ends
    future = co["denoise"].submit(3, strength=0.5, timeout=2)
    run = peer.next("run")
    assert [unpack(part) for part in run.params[:2]] == ["denoise", "run"]
    assert args_of(run) == ([3], {"strength": 0.5})
    assert options_of(run) == {
        "id": future.info.job,
        "record": True,
        "timeout_ms": 2000,
        "progress": True,
    }
    peer.done(run, "fine")
    assert future.result(PATIENCE_S) == "fine"


def test_a_call_waits_for_its_result(ends: Ends) -> None:
    co, peer = ends
    server = peer.serve(lambda message: peer.done(message, args_of(message)[0]))
    assert co["echo"](1, "two") == [1, "two"]
    co.close()
    server.join(PATIENCE_S)


def test_answers_out_of_order_reach_their_callers(ends: Ends) -> None:
    co, peer = ends
    futures = [co["x"].submit(n) for n in range(10)]
    for run in reversed([peer.next("run") for _ in futures]):
        peer.done(run, args_of(run)[0][0] * 2)
    assert [future.result(PATIENCE_S) for future in futures] == [2 * n for n in range(10)]


def test_an_answer_that_comes_byte_by_byte_is_whole(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit()
    run = peer.next("run")
    for byte in response_raw(run.msgid, record(run, {"a": [1, 2, 3]})):
        peer.send(bytes([byte]))
    assert future.result(PATIENCE_S) == {"a": [1, 2, 3]}


def test_a_refused_job_fails_with_what_was_said(ends: Ends) -> None:
    co, peer = ends
    future = co["denoize"].submit()
    peer.refuse(peer.next("run"), Code.NOT_FOUND, "no plugin 'denoize', did you mean denoise?")
    with pytest.raises(NotFound, match="did you mean denoise") as caught:
        future.result(PATIENCE_S)
    assert (caught.value.plugin, caught.value.job) == ("denoize", future.info.job)
    assert caught.value.executed == "no"


def test_arguments_that_cannot_travel_are_named_at_once(ends: Ends) -> None:
    co, peer = ends
    with pytest.raises(TypeError, match=r"argument 2 .*object"):
        co["x"].submit(1, object())
    assert not peer.has_input()


def test_what_is_too_large_for_the_wire_fails_alone(ends: Ends) -> None:
    co, peer = ends
    co.connection.session.message_bytes = 100_000
    with pytest.raises(TooLarge):
        co["x"].submit(b"\0" * 200_000)
    future = co["x"].submit("small")
    peer.done(peer.next("run"), 1)
    assert future.result(PATIENCE_S) == 1
    assert co.connection.session.budget.jobs == 0


def test_both_sides_write_at_once_and_neither_blocks(ends: Ends) -> None:
    co, peer = ends
    large = b"\xab" * 3_000_000
    first = co["x"].submit("first")
    run = peer.next("run")
    futures = [co["x"].submit(large) for _ in range(5)]  # nobody reads them yet
    peer.done(run, large)  # and this fills the other direction meanwhile
    assert first.result(PATIENCE_S) == large
    for _ in futures:
        run = peer.next("run")
        assert args_of(run)[0] == [large]
        peer.done(run, large)
    assert all(future.result(PATIENCE_S) == large for future in futures)


def test_many_threads_submit_through_one_connection(ends: Ends) -> None:
    co, peer = ends
    server = peer.serve(lambda message: peer.done(message, args_of(message)[0][0]))
    wrong: list[int] = []

    def work(base: int) -> None:
        wrong.extend(n for n in range(base, base + 50) if co["x"](n) != n)

    threads = [threading.Thread(target=work, args=(base * 1000,)) for base in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert wrong == []
    co.close()
    server.join(PATIENCE_S)


def test_control_requests_read_plain_answers(ends: Ends) -> None:
    co, peer = ends
    server = peer.serve(lambda message: peer.answer(message, {"schema": message.method}))
    assert co.status() == {"schema": "status"}
    assert co.request("ping", 5) == {"schema": "ping"}
    co.close()
    server.join(PATIENCE_S)


def test_an_unknown_request_is_an_invalid_request(ends: Ends) -> None:
    co, peer = ends
    server = peer.serve(lambda m: peer.refuse(m, Code.METHOD_NOT_FOUND, "unknown method"))
    with pytest.raises(InvalidRequest, match="unknown method"):
        co.request("buf_alloc", 5)
    co.close()
    server.join(PATIENCE_S)


# -- limits


def test_a_full_session_holds_the_caller_until_there_is_room() -> None:
    with piped(jobs=2) as (co, peer):
        futures = [co["x"].submit(n) for n in range(2)]
        third: list[object] = []
        thread = threading.Thread(target=lambda: third.append(co["x"](2)))
        thread.start()
        runs = [peer.next("run") for _ in futures]
        assert not peer.has_input()
        peer.done(runs[1], "room")
        last = peer.next("run")
        assert args_of(last)[0] == [2]
        peer.done(last, "third")
        thread.join(PATIENCE_S)
        assert third == ["third"]
        peer.done(runs[0], 0)


def test_a_full_session_in_bytes_holds_the_caller_too() -> None:
    with piped(bytes=10_000) as (co, peer):
        co["x"].submit(b"\0" * 8000)
        with pytest.raises(JobTimeout, match="room") as caught:
            co["x"].submit(b"\0" * 8000, timeout=0.05)
        assert caught.value.executed == "no"
        peer.done(peer.next("run"))


def test_one_job_beyond_the_limit_in_bytes_goes_alone() -> None:
    with piped(bytes=10_000) as (co, peer):
        future = co["x"].submit(b"\0" * 20_000)
        peer.done(peer.next("run"), "taken")
        assert future.result(PATIENCE_S) == "taken"


def test_a_callback_may_submit_although_the_session_is_full() -> None:
    with piped(jobs=1) as (co, peer):
        chained = []
        future = co["x"].submit("first")
        future.add_done_callback(
            lambda _: chained.extend([co["x"].submit("a"), co["x"].submit("b")])
        )
        peer.done(peer.next("run"))
        for _ in range(2):
            peer.refuse(peer.next("run"), Code.BUSY, "full")
        future.result(PATIENCE_S)
        for each in chained:
            with pytest.raises(Busy):
                each.result(PATIENCE_S)


def test_closing_releases_who_waits_for_room() -> None:
    with piped(jobs=1) as (co, peer):
        co["x"].submit()
        said: list[Exception] = []

        def wait() -> None:
            try:
                co["x"].submit()
            except Disconnected as err:
                said.append(err)

        thread = threading.Thread(target=wait)
        thread.start()
        peer.next("run")
        peer.close()
        thread.join(PATIENCE_S)
        assert len(said) == 1


def test_what_a_callback_raises_is_logged(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    co, peer = ends
    future = co["x"].submit()
    future.on_progress(lambda report: 1 / 0)  # type: ignore[arg-type]
    run = peer.next("run")
    with caplog.at_level(logging.ERROR):
        peer.notify("progress", job_of(run), {"done": 1, "total": 2, "message": ""})
        peer.done(run, "fine")
        assert future.result(PATIENCE_S) == "fine"
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_must_not_wait(ends: Ends) -> None:
    co, peer = ends
    said: list[str] = []

    def wait(_: object) -> None:
        for ask in (lambda: co["x"](1), co.status, co["x"].submit(2).result):
            try:
                ask()
            except RuntimeError as err:
                said.append(str(err))

    future = co["x"].submit()
    future.add_done_callback(wait)
    peer.done(peer.next("run"))
    peer.done(peer.next("run"))
    future.result(PATIENCE_S)
    co.connection.request("ping", [1])
    peer.answer(peer.next("ping"))
    assert len(said) == 3
    assert "a callback must not wait" in said[0]


def test_a_forked_child_lets_go_of_the_pipes() -> None:
    program = """
import os, sys
from changeover.client.connecting import _open
from changeover.client.errors import Disconnected
import tests.client_peer

with tests.client_peer.piped() as (co, peer):
    _open.add(co.connection)
    future = co["x"].submit(1)
    run = peer.next("run")
    child = os.fork()
    if child == 0:
        try:
            co["x"].submit(2)
        except Disconnected as err:
            os._exit(7 if "forked" in str(err) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    peer.done(run, "the parent goes on")
    assert future.result(10) == "the parent goes on"
"""
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, timeout=PATIENCE_S)


# -- the end


def test_closing_waits_for_what_was_sent(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit("last")

    def finish() -> None:
        for run in [m for m in peer.drain() if m.method == "run"]:  # returns at end of input
            peer.done(run, "done")
        peer.close()

    thread = threading.Thread(target=finish)
    thread.start()
    co.close()
    thread.join(PATIENCE_S)
    assert future.result(0) == "done"


def test_closing_now_cancels_and_asks_for_the_end(ends: Ends) -> None:
    co, peer = ends
    co["x"].submit("endless")
    said: list[str] = []

    def finish() -> None:
        said.extend(message.method for message in peer.drain())
        peer.close()

    thread = threading.Thread(target=finish)
    thread.start()
    co.close(now=True)
    thread.join(PATIENCE_S)
    assert said == ["run", "cancel", "shutdown"]


def test_leaving_the_block_by_an_exception_cancels(ends: Ends) -> None:
    co, peer = ends
    thread = peer.serve(lambda message: None)
    future = co["x"].submit()
    with pytest.raises(KeyError), co:
        raise KeyError
    thread.join(PATIENCE_S)
    assert [m.method for m in peer.seen[-3:]] == ["run", "cancel", "shutdown"]
    assert isinstance(future.exception(0), Disconnected)


def test_a_peer_that_does_not_leave_is_killed_at_the_deadline() -> None:
    peer, transport = pipe_ends()
    peer.hello()
    connection = Connection(transport, is_private=True)
    connection.open()
    future = Changeover(connection)["x"].submit()
    connection.close(timeout_s=0.05)
    assert transport.is_killed
    assert isinstance(future.exception(0), Disconnected)
    peer.close()


def test_nothing_can_be_asked_after_closing(ends: Ends) -> None:
    co, peer = ends
    peer.close()
    co.close()
    with pytest.raises(Disconnected) as caught:
        co["x"].submit()
    assert caught.value.executed == "no"
    co.close()


def test_a_lost_connection_tells_what_is_known_of_each_job(ends: Ends) -> None:
    co, peer = ends
    sent = co["x"].submit("seen")
    peer.next("run")
    stuck = co["x"].submit(b"\0" * 5_000_000)  # more than a pipe holds
    queued = co["x"].submit("behind it")
    peer.close()
    outcomes = [future.exception(PATIENCE_S) for future in (sent, stuck, queued)]
    assert all(isinstance(outcome, Disconnected) for outcome in outcomes)
    assert [getattr(outcome, "executed", "") for outcome in outcomes] == ["maybe", "no", "no"]
    assert "the peer is gone" in str(outcomes[0])


def test_a_connection_lost_within_an_answer_ends_the_job_once(ends: Ends) -> None:
    co, peer = ends
    ended: list[object] = []
    future = co["x"].submit()
    future.add_done_callback(ended.append)
    run = peer.next("run")
    peer.send(response_raw(run.msgid, record(run, "whole"))[:-5])
    peer.close()
    assert isinstance(future.exception(PATIENCE_S), Disconnected)
    assert ended == [future]


def test_what_was_answered_before_the_end_counts(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit()
    run = peer.next("run")
    peer.done(run, "just in time")
    peer.close()
    assert future.result(PATIENCE_S) == "just in time"


def test_a_goaway_is_the_reason(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit()
    peer.next("run")
    peer.send(notification("goaway", [2007, "too many strays", {}]))
    peer.close()
    with pytest.raises(Disconnected, match="too many strays"):
        future.result(PATIENCE_S)


def test_a_peer_that_talks_nonsense_is_left(ends: Ends) -> None:
    co, peer = ends
    future = co["x"].submit()
    peer.next("run")
    peer.send(b"Loading model...\n")
    with pytest.raises(Disconnected, match=r"broke the protocol.*Loading model"):
        future.result(PATIENCE_S)


def test_a_hello_that_is_refused_closes_everything() -> None:
    peer, transport = pipe_ends()
    peer.send(failure(0, Fault.new(Code.NO_COMMON_PROTOCOL, "no common protocol")))
    with pytest.raises(InvalidRequest, match="no common protocol"):
        Connection(transport).open()
    peer.close()


def test_a_hello_without_an_answer_has_a_deadline() -> None:
    peer, transport = pipe_ends()
    with pytest.raises(Disconnected, match="did not answer hello"):
        Connection(transport).open(timeout_s=0.05)
    peer.close()


def test_a_peer_that_dies_before_hello_says_so() -> None:
    peer, transport = pipe_ends()
    peer.close()
    with pytest.raises(Disconnected, match="the peer is gone, before it answered"):
        Connection(transport).open()


def test_forgetting_it_lets_what_was_sent_finish() -> None:
    peer, transport = pipe_ends()
    peer.hello()
    connection = Connection(transport, is_private=True)
    connection.open()
    co = Changeover(connection)
    future = co["x"].submit()
    del co
    run = next(message for message in peer.drain() if message.method == "run")
    peer.done(run, "finished")
    assert future.result(PATIENCE_S) == "finished"
    peer.close()
    connection.close()
