"""A supervisor at a socket that restarts is found again, and nobody is told a lie meanwhile."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from changeover.client import Cancelled, Changeover, Disconnected, NoSupervisor, connect
from changeover.protocol.messages import unpack

from .client_peer import PATIENCE_S, Listener, Peer, args_of, job_of

METHODS = {"run": {"pure": True, "stream": False}, "count": {"pure": False, "stream": False}}
STATUS = {"plugins": {"x": {"methods": METHODS}}}


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(tmp_path / "x.sock")
    yield listener
    listener.close()


@pytest.fixture
def ends(listener: Listener) -> Iterator[tuple[Changeover, Peer]]:
    co, peer = connected(listener)
    yield co, peer
    co.close(now=True)
    peer.close()


def connected(listener: Listener, reconnect: float = PATIENCE_S) -> tuple[Changeover, Peer]:
    peers: list[Peer] = []
    thread = threading.Thread(target=lambda: peers.append(listener.accept()))
    thread.start()
    co = connect(str(listener.path), reconnect=reconnect)
    thread.join(PATIENCE_S)
    return co, peers[0]


def test_nobody_there(tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    with pytest.raises(NoSupervisor, match=f"no supervisor at {path}"):
        connect(str(path))


def test_a_socket_without_a_listener_is_nobody_too(listener: Listener) -> None:
    listener._socket.close()
    with pytest.raises(NoSupervisor):
        connect(str(listener.path))


def test_the_socket_is_found_through_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHANGEOVER_SOCKET", str(tmp_path / "named.sock"))
    with pytest.raises(NoSupervisor, match=r"named\.sock"):
        connect()


def test_an_idempotent_job_is_sent_again_under_its_id(
    listener: Listener, ends: tuple[Changeover, Peer]
) -> None:
    co, first = ends
    future = co["x"].method("count").options(id="f-17", idempotent=True).submit(3)
    first.next("run")
    first.close()
    second = listener.accept()
    again = second.next("run")
    assert (job_of(again), args_of(again)) == ("f-17", ([3], {}))
    second.done(again, "once more")
    assert future.result(PATIENCE_S) == "once more"
    second.close()


def test_a_job_of_a_pure_method_is_sent_again(
    listener: Listener, ends: tuple[Changeover, Peer]
) -> None:
    co, first = ends
    future = co["x"].submit("frame")
    first.next("run")
    first.answer(first.next("status"), STATUS)
    first.close()
    second = listener.accept()
    again = second.next("run")
    assert job_of(again) == future.info.job
    second.done(again, "done")
    assert future.result(PATIENCE_S) == "done"
    second.close()


def test_what_is_pure_is_asked_of_the_new_one_where_the_old_did_not_say(
    listener: Listener, ends: tuple[Changeover, Peer]
) -> None:
    co, first = ends
    pure, other = co["x"].submit(), co["x"].method("count").submit()
    first.next("run")
    first.next("run")
    first.close()
    second = listener.accept()
    second.answer(second.next("status"), STATUS)
    again = second.next("run")
    assert job_of(again) == pure.info.job
    second.done(again)
    pure.result(PATIENCE_S)
    with pytest.raises(Disconnected) as caught:
        other.result(PATIENCE_S)
    assert caught.value.executed == "maybe"
    second.close()


def test_jobs_are_sent_again_in_their_order(
    listener: Listener, ends: tuple[Changeover, Peer]
) -> None:
    co, first = ends
    handle = co["x"].options(idempotent=True)
    futures = [handle.submit(n) for n in range(5)]
    for _ in futures:
        run = first.next("run")
    first.done(run, "the last one was answered")
    futures[4].result(PATIENCE_S)
    first.close()
    second = listener.accept()
    again = [second.next("run") for _ in range(4)]
    assert [args_of(run)[0] for run in again] == [[0], [1], [2], [3]]
    for run in again:
        second.done(run)
    second.close()


def test_what_is_submitted_while_it_is_away_waits_for_it(
    listener: Listener, ends: tuple[Changeover, Peer]
) -> None:
    co, first = ends
    noticed = threading.Event()
    co["x"].submit().add_done_callback(lambda _: noticed.set())
    first.next("run")
    listener.path.unlink()
    first.close()
    waiting = co["x"].submit("waits")
    listener._socket.close()
    listener.__init__(listener.path)  # type: ignore[misc]
    second = listener.accept()
    second.answer(second.next("status"), {"plugins": {}})
    run = second.next("run")
    assert args_of(run)[0] == ["waits"]
    second.done(run, "served")
    assert waiting.result(PATIENCE_S) == "served"
    assert noticed.wait(PATIENCE_S)
    second.close()


def test_nobody_waits_longer_than_was_said(listener: Listener) -> None:
    co, peer = connected(listener, reconnect=0.05)
    future = co["x"].submit()
    peer.next("run")
    listener.close()
    peer.close()
    with pytest.raises(Disconnected) as caught:
        future.result(PATIENCE_S)
    assert caught.value.executed == "maybe"
    # From here on each call is one try.
    with pytest.raises(Disconnected, match="no supervisor at") as caught:
        co["x"](1)
    assert caught.value.executed == "no"
    co.close()


def test_it_is_found_again_long_after_everybody_gave_up(listener: Listener) -> None:
    co, peer = connected(listener, reconnect=0)
    future = co["x"].submit()
    peer.next("run")
    listener.close()
    peer.close()
    assert isinstance(future.exception(PATIENCE_S), Disconnected)
    later = Listener(listener.path)
    served = co["x"].submit("later")
    second = later.accept()
    second.done(second.next("run"), "served")
    assert served.result(PATIENCE_S) == "served"
    co.close(now=True)
    second.close()
    later.close()


def test_questions_are_asked_again_but_orders_are_not(
    listener: Listener, ends: tuple[Changeover, Peer]
) -> None:
    co, first = ends
    question = co.connection.request("history", [{}])
    order = co.connection.request("reload", [["x"], {}])
    first.next("reload")
    first.close()
    second = listener.accept()
    second.answer(second.next("status"), STATUS)
    second.answer(second.next("history"), [])
    assert question.result(PATIENCE_S) == []
    with pytest.raises(Disconnected, match="reload had been sent"):
        order.result(PATIENCE_S)
    second.close()


def test_an_answer_that_was_cut_short_does_not_spoil_the_next_connection(
    listener: Listener, ends: tuple[Changeover, Peer]
) -> None:
    co, first = ends
    future = co["x"].options(idempotent=True).submit()
    first.next("run")
    first.send(b"\x94\x01\x01")  # the beginning of an answer
    first.close()
    second = listener.accept()
    second.done(second.next("run"), "whole")
    assert future.result(PATIENCE_S) == "whole"
    second.close()


def test_a_job_that_waits_for_its_return_can_be_cancelled(listener: Listener) -> None:
    co, peer = connected(listener)
    lost = co["x"].options(idempotent=True).submit()
    peer.next("run")
    listener.close()
    peer.close()
    waiting = co["x"].submit()
    waiting.cancel_soon()
    assert concurrent.futures.wait([waiting], PATIENCE_S).done
    assert waiting.cancelled()
    assert lost.cancel() is True
    with pytest.raises(Cancelled) as caught:
        lost.result(PATIENCE_S)
    assert caught.value.executed == "maybe"
    co.close()


def test_closing_while_it_is_away_ends_what_waits(listener: Listener) -> None:
    co, peer = connected(listener)
    future = co["x"].options(idempotent=True).submit()
    peer.next("run")
    listener.close()
    peer.close()
    co.close()
    assert isinstance(future.exception(0), Disconnected)


def test_the_status_that_tells_what_is_pure_is_asked_once(
    ends: tuple[Changeover, Peer],
) -> None:
    co, peer = ends
    futures = [co["x"].submit(n) for n in range(3)]
    asked = [peer.next() for _ in range(4)]
    assert [message.method for message in asked] == ["run", "status", "run", "run"]
    assert unpack(asked[1].params[0]) == {"plugin": "x"}
    peer.answer(asked.pop(1), STATUS)
    for run in asked:
        peer.done(run)
    assert [future.result(PATIENCE_S) for future in futures] == [None] * 3
