"""Watching: one request per topic and connection, and everybody is served what he wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from changeover.client import Change, Changeover, Event, Watch
from changeover.protocol.messages import Message, unpack

from .client_peer import PATIENCE_S, Peer, options_of, piped

Ends = tuple[Changeover, Peer]
SNAPSHOT = {"plugins": {"x": {"generation": 1, "release": {"number": 1}}}}


@pytest.fixture
def ends() -> Iterator[Ends]:
    with piped() as both:
        yield both


def begin(co: Changeover, peer: Peer, *topics: str, **chosen: Any) -> tuple[Watch, Message]:
    began: list[Watch] = []
    thread = threading.Thread(target=lambda: began.append(co.watch(*topics, **chosen)))
    thread.start()
    asked = peer.next("watch")
    peer.answer(asked, {"watch": 1, "seq": 5, "snapshot": SNAPSHOT})
    thread.join(PATIENCE_S)
    return began[0], asked


def test_a_watch_has_a_snapshot_and_then_events(ends: Ends) -> None:
    co, peer = ends
    watch, asked = begin(co, peer, "plugins")
    assert unpack(asked.params[0]) == ["plugins"]
    assert watch.snapshot == SNAPSHOT
    facts = {"seq": 6, "state": "changing"}
    peer.notify("plugin_changed", "x", facts)
    assert next(watch) == Event("plugin_changed", ["x", facts])


def test_a_second_watch_asks_for_what_is_new_only(ends: Ends) -> None:
    co, peer = ends
    first, _ = begin(co, peer, "plugins")
    second, asked = begin(co, peer, "plugins", "workers")
    assert unpack(asked.params[0]) == ["workers"]
    peer.notify("plugin_changed", "x", {})
    peer.notify("worker_changed", "w-1", {"plugin": "x"})
    assert [next(second).kind, next(second).kind] == ["plugin_changed", "worker_changed"]
    assert next(first).kind == "plugin_changed"
    first.close()
    assert list(first) == []


def test_a_watch_of_one_plugin_hears_of_no_other(ends: Ends) -> None:
    co, peer = ends
    watch, asked = begin(co, peer, "plugins", "log", plugin="x", min_level="warning")
    assert options_of(asked) == {"min_level": "debug"}
    peer.notify("plugin_changed", "y", {})
    peer.notify("log_line", "x", "info", "not this", {})
    peer.notify("log_line", "y", "error", "nor this", {})
    peer.notify("log_line", "x", "error", "this", {})
    assert next(watch).params == ["x", "error", "this", {}]


def test_the_end_of_the_connection_ends_the_watch(ends: Ends) -> None:
    co, peer = ends
    watch, _ = begin(co, peer, "plugins")
    peer.notify("plugin_changed", "x", {})
    peer.close()
    assert [event.kind for event in watch] == ["plugin_changed"]


def test_closing_releases_the_thread_that_waits(ends: Ends) -> None:
    co, peer = ends
    watch, _ = begin(co, peer, "plugins")
    got: list[Event] = []
    thread = threading.Thread(target=lambda: got.extend(watch))
    thread.start()
    watch.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_unknown_levels_are_named(ends: Ends) -> None:
    co, _ = ends
    with pytest.raises(ValueError, match="min_level"):
        co.watch("log", min_level="loud")


# -- changeovers


def listen(co: Changeover, peer: Peer, callback: Any) -> None:
    thread = threading.Thread(target=co.on_changeover, args=(callback,))
    thread.start()
    peer.answer(peer.next("watch"), {"watch": 1, "seq": 0, "snapshot": SNAPSHOT})
    thread.join(PATIENCE_S)


def changed(peer: Peer, generation: int, release: int, reason: str = "") -> None:
    facts = {"state": "live", "generation": generation, "release": release, "reason": reason}
    peer.notify("plugin_changed", "x", facts)


def test_a_callback_hears_of_each_changeover_once(ends: Ends) -> None:
    co, peer = ends
    heard: list[Change] = []
    done = threading.Event()
    listen(co, peer, heard.append)
    co.on_changeover(lambda change: done.set() if change.generation == 3 else None)
    changed(peer, 1, 1, "file")  # it begins: the old one still serves
    changed(peer, 2, 2)  # the cut
    changed(peer, 2, 2)  # drained
    changed(peer, 3, 1, "rollback")
    assert done.wait(PATIENCE_S)
    assert [(c.plugin, c.from_, c.release, c.reason) for c in heard] == [
        ("x", 1, 2, "file"),
        ("x", 2, 1, "rollback"),
    ]
    assert str(heard[0]) == "x: @1 → @2 (file)"


def test_what_a_callback_raises_disturbs_nobody(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    co, peer = ends
    done = threading.Event()
    listen(co, peer, lambda change: 1 / 0)
    co.on_changeover(lambda change: done.set())
    changed(peer, 2, 2)
    assert done.wait(PATIENCE_S)
    assert "on_changeover raised" in caplog.text
