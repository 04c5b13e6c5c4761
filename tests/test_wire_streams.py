"""Progress and items of a generator: in order, within the credit, before the answer."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.pipes import Hold
from tests.wire import Wire

pytest_plugins = ["tests.wire_fixtures"]


def test_progress_comes_before_the_answer_to_whoever_asked(wire: Wire) -> None:
    job = "p-1"
    assert wire.call("run", "yields", "run", [3], {"progress": True, "id": job}) == [0, 10, 20]
    told = [params for method, params in wire.notes if method == "progress"]
    assert [params[0] for params in told] == [job] * 3
    assert told[-1][1] == {"done": 3, "total": 3, "message": "3 of 3"}
    wire.notes.clear()
    wire.call("run", "yields", "run", [3])
    assert wire.notes == []


def test_items_come_in_order_before_the_answer(wire: Wire) -> None:
    options = {"stream": 100, "id": "i-1"}
    assert wire.call("run", "yields", "run", [5], options) == "end"
    assert wire.notes == [("item", ["i-1", seq, seq * 10]) for seq in range(5)]


def test_never_more_items_than_credits(wire: Wire) -> None:
    msgid = wire.ask("run", "yields", "run", [5, False], {"stream": 2, "id": "c-1"})
    assert [wire.note("item")[1] for _ in range(2)] == [0, 1]
    assert wire.call("ping", 1) == 1
    assert wire.notes == []
    wire.tell("more", "c-1", 1)
    assert wire.note("item") == ["c-1", 2, 20]
    assert wire.call("ping", 1) == 1
    assert wire.notes == []
    wire.tell("more", "c-1", 10)
    assert wire.result(msgid) == "end"
    assert [params[1] for _, params in wire.notes] == [3, 4]


def test_a_stream_may_begin_without_credit(wire: Wire) -> None:
    msgid = wire.ask("run", "yields", "run", [1, False], {"stream": 0, "id": "c-0"})
    assert wire.call("ping", 1) == 1
    wire.tell("more", "c-0", 1)
    assert wire.result(msgid) == "end"
    assert wire.notes == [("item", ["c-0", 0, 0])]


def test_credit_given_before_the_job_runs_counts(wire: Wire, hold: Hold) -> None:
    wire.call("pause", "yields")
    msgid = wire.ask("run", "yields", "run", [3, False], {"stream": 1, "id": "c-2"})
    wire.tell("more", "c-2", 2)
    wire.call("resume", "yields")
    assert wire.result(msgid) == "end"
    assert len(wire.notes) == 3


def test_a_stream_that_fails_half_way_has_sent_its_items(wire: Wire) -> None:
    code, message, _ = wire.refused("run", "yields", "half", [2], {"stream": 9})
    assert (code, "half way" in message) == (1000, True)
    assert len(wire.notes) == 2


def test_a_rerun_sends_no_item_twice_and_keeps_its_credit(wire: Wire) -> None:
    options = {"stream": 2, "id": "rerun", "record": True}
    msgid = wire.ask("run", "yields", "run", [5, False], options)
    assert [wire.note("item")[1] for _ in range(2)] == [0, 1]
    wire.tell("more", "rerun", 1)
    assert wire.note("item") == ["rerun", 2, 20]
    (worker,) = wire.call("status", {"plugin": "yields"})["plugins"]["yields"]["workers"]
    os.kill(worker["pid"], signal.SIGKILL)
    wire.tell("more", "rerun", 2)
    record = wire.result(msgid)
    assert (record["state"], record["attempts"], record["result"]) == ("done", 2, "end")
    assert wire.notes == [("item", ["rerun", 3, 30]), ("item", ["rerun", 4, 40])]


@pytest.mark.parametrize("n", [-1, 1.5, None, "x", 2**60])
def test_a_wrong_count_of_more_changes_nothing(wire: Wire, n: Any) -> None:
    msgid = wire.ask("run", "yields", "run", [2, False], {"stream": 1, "id": "odd"})
    wire.note("item")
    wire.tell("more", "odd", n)
    wire.tell("more", "odd")
    assert wire.call("ping", 1) == 1
    assert wire.notes == []
    wire.tell("more", "odd", 1)
    assert wire.result(msgid) == "end"
