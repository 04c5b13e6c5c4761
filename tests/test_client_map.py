"""`map`: input order, bounded, errors in their place, nothing left in flight."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from changeover.client import Changeover, Disconnected, PluginError
from changeover.protocol.errors import Code
from changeover.protocol.frame import Frame
from changeover.protocol.messages import Message

from .client_peer import PATIENCE_S, Peer, args_of, is_notification, job_of, piped

Ends = tuple[Changeover, Peer]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with piped() as both:
        yield both


class Plugin:
    """Answers jobs in a thread: item n gives 10 n, or raises where it was told to."""

    def __init__(self, peer: Peer, bad: tuple[int, ...] = ()) -> None:
        self._peer = peer
        self._bad = bad
        self.cancelled: list[str] = []
        self.thread = peer.serve(self._handle)

    def _handle(self, message: Message) -> None:
        if message.method == "cancel":
            self.cancelled.append(message.method)
        if message.method != "run":
            return
        item = args_of(message)[0][0]
        if item in self._bad:
            self._peer.failed(message, Code.JOB_FAILED, f"ValueError: {item}")
        else:
            self._peer.done(message, 10 * item)


def test_results_come_in_input_order_whatever_order_they_end_in(ends: Ends) -> None:
    co, peer = ends
    results = co["x"].map(range(4), buffersize=4)
    first = threading.Thread(target=lambda: got.extend(results))
    got: list[int] = []
    first.start()
    runs = [peer.next("run") for _ in range(4)]
    for run in reversed(runs):
        peer.done(run, args_of(run)[0][0] * 10)
    first.join(PATIENCE_S)
    assert got == [0, 10, 20, 30]


def test_it_is_never_further_ahead_than_its_buffer(ends: Ends) -> None:
    co, peer = ends
    plugin = Plugin(peer)
    taken = 0
    most = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for n in range(30):
            taken += 1
            yield n

    for given, result in enumerate(co["x"].map(source(), buffersize=5)):
        assert result == 10 * given
        most = max(most, taken - given)
    assert most == 5
    co.close()
    plugin.thread.join(PATIENCE_S)


def test_an_endless_input_is_read_only_as_far_as_needed(ends: Ends) -> None:
    co, peer = ends
    plugin = Plugin(peer)

    def endless() -> Iterator[int]:
        n = 0
        while True:
            yield n
            n += 1

    results = co["x"].map(endless(), buffersize=3)
    assert [next(results) for _ in range(10)] == [10 * n for n in range(10)]
    results.close()  # type: ignore[attr-defined]
    co.close()
    plugin.thread.join(PATIENCE_S)


def test_leaving_the_loop_cancels_what_is_in_flight(ends: Ends) -> None:
    co, peer = ends
    first: list[Any] = []

    def loop() -> None:
        for result in co["x"].map(range(100), buffersize=4):
            first.append(result)
            break

    thread = threading.Thread(target=loop)
    thread.start()
    runs = [peer.next("run") for _ in range(4)]
    peer.done(runs[0], "first")
    thread.join(PATIENCE_S)
    assert first == ["first"]
    cancelled = [peer.next("cancel") for _ in range(3)]
    assert all(is_notification(message) for message in cancelled)
    left = {job_of(run) for run in runs[1:]}
    assert {_job_of_cancel(message) for message in cancelled} == left
    assert not peer.has_input()
    for run in runs[1:]:
        peer.failed(run, Code.CANCELLED)


def test_an_error_is_raised_in_its_place_and_cancels_the_rest(ends: Ends) -> None:
    co, peer = ends
    plugin = Plugin(peer, bad=(2,))
    results = co["x"].map(range(6), buffersize=6)
    assert [next(results), next(results)] == [0, 10]
    with pytest.raises(PluginError, match="ValueError: 2"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    co.close()
    plugin.thread.join(PATIENCE_S)


def test_errors_are_skipped_or_passed_through_where_that_is_wanted(ends: Ends) -> None:
    co, peer = ends
    plugin = Plugin(peer, bad=(0, 3))
    assert list(co["x"].map(range(5), on_error="skip")) == [10, 20, 40]
    assert list(co["x"].map(range(5), on_error="passthrough")) == [0, 10, 20, 3, 40]
    co.close()
    plugin.thread.join(PATIENCE_S)


def test_an_item_that_cannot_travel_fails_in_its_place(ends: Ends) -> None:
    co, peer = ends
    plugin = Plugin(peer)
    results = co["x"].map([1, object(), 3], buffersize=3)
    assert next(results) == 10
    with pytest.raises(TypeError, match="object"):
        next(results)
    assert list(co["x"].map([1, object(), 3], on_error="skip")) == [10, 30]
    co.close()
    plugin.thread.join(PATIENCE_S)


def test_an_input_that_breaks_is_raised_after_all_that_came_before(ends: Ends) -> None:
    co, peer = ends
    plugin = Plugin(peer)

    def broken() -> Iterator[int]:
        yield from range(3)
        raise EOFError("truncated")

    got: list[int] = []
    with pytest.raises(EOFError, match="truncated"):
        got.extend(co["x"].map(broken(), on_error="skip"))
    assert got == [0, 10, 20]
    co.close()
    plugin.thread.join(PATIENCE_S)


def test_a_lost_connection_is_never_passed_over(ends: Ends) -> None:
    co, peer = ends
    results = co["x"].map(range(10), on_error="skip", buffersize=2)

    def die() -> None:
        peer.next("run")
        peer.close()

    thread = threading.Thread(target=die)
    thread.start()
    with pytest.raises(Disconnected):
        next(results)
    thread.join(PATIENCE_S)


def test_every_item_has_the_keywords_and_its_own_deadline(ends: Ends) -> None:
    co, peer = ends
    seen: list[tuple[list[Any], dict[str, Any]]] = []

    def handle(message: Message) -> None:
        if message.method == "run":
            seen.append(args_of(message))
            peer.done(message, message.params[3].find(b"timeout_ms") > 0)

    thread = peer.serve(handle)
    assert list(co["x"].method("grade").map([1, 2], strength=0.5, timeout=3)) == [True, True]
    assert seen == [([1], {"strength": 0.5}), ([2], {"strength": 0.5})]
    co.close()
    thread.join(PATIENCE_S)


def test_frames_come_back_as_the_kind_that_went_in(ends: Ends) -> None:
    np = pytest.importorskip("numpy")
    av = pytest.importorskip("av")
    co, peer = ends

    def invert(message: Message) -> None:
        if message.method != "run":
            return
        (picture,), _ = args_of(message)
        if isinstance(picture, Frame):
            peer.done(message, picture.like(255 - picture.array))
        else:
            peer.done(message, 255 - picture)

    thread = peer.serve(invert)
    array = np.full((36, 64, 3), 5, "u1")
    (result,) = co["x"].map([array])
    assert isinstance(result, np.ndarray)
    assert (result == 250).all()
    picture = av.VideoFrame.from_ndarray(array, "rgb24")
    picture.pts = 7
    (again,) = co["x"].map([picture])
    assert isinstance(again, av.VideoFrame)
    assert again.pts == 7
    assert (again.to_ndarray(format="rgb24") == 250).all()
    assert isinstance(co["x"](Frame.from_array(array)), Frame)
    co.close()
    thread.join(PATIENCE_S)


def test_mistakes_in_the_call_are_named_before_anything_is_sent(ends: Ends) -> None:
    co, peer = ends
    with pytest.raises(ValueError, match="buffersize"):
        co["x"].map([], buffersize=0)
    with pytest.raises(ValueError, match="on_error"):
        co["x"].map([], on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one job"):
        co["x"].options(id="a").map([1])
    assert not peer.has_input()


def _job_of_cancel(message: Message) -> str:
    from changeover.protocol.messages import unpack

    return str(unpack(message.params[0]))
