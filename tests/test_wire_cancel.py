"""Cancelled jobs and deadlines, with workers that heed them and workers that do not."""

from __future__ import annotations

import pytest

from tests.pipes import Hold
from tests.wire import PLUGINS, Supervisor, Wire
from tests.wire_fixtures import with_keys

pytest_plugins = ["tests.wire_fixtures"]


def test_a_queued_job_is_cancelled_at_once(wire: Wire, hold: Hold) -> None:
    running = wire.ask("run", "hold", "run", [hold.path, 1])
    queued = wire.ask("run", "hold", "run", [hold.path, 2], {"id": "q-1"})
    hold.wait_for(1)
    assert wire.call("cancel", "q-1") == {"job": "q-1", "state": "cancelled"}
    code, _, data = wire.fault(queued)
    assert (code, data["executed"], data["reason"], data["job"]) == (1001, "no", "client", "q-1")
    hold.release(1)
    assert wire.result(running) == 1


def test_a_worker_that_can_cancel_gives_the_outcome(wire: Wire, hold: Hold) -> None:
    msgid = wire.ask("run", "heed", "run", [hold.path], {"id": "h-1"})
    hold.wait_for(1)
    assert wire.call("cancel", "h-1")["job"] == "h-1"
    code, _, data = wire.fault(msgid)
    assert (code, data["executed"], data["reason"]) == (1001, "maybe", "client")
    ended = wire.ask("run", "heed", "run", [hold.path, "done half"], {"id": "h-2"})
    hold.wait_for(1)
    wire.tell("cancel", "h-2", {"reason": "whatever"})
    assert wire.result(ended) == ["done half", "client"]


def test_a_worker_that_cannot_cancel_keeps_its_slot(
    wire: Wire, own: str, hold: Hold, other_hold: Hold
) -> None:
    msgid = wire.ask("run", own, "run", [hold.path, 1], {"id": f"{own}-1"})
    hold.wait_for(1)
    assert wire.call("cancel", f"{own}-1")["state"] == "cancelled"
    code, _, data = wire.fault(msgid)
    assert (code, data["executed"], data["reason"]) == (1001, "maybe", "client")
    following = wire.ask("run", own, "run", [other_hold.path, 2], {"record": True})
    assert other_hold.is_quiet(), "the slot is taken until the worker answers or is killed"
    other_hold.wait_for(1)  # kill_grace is over: another worker
    other_hold.release(1)
    record = wire.result(following)
    assert (record["state"], record["result"]) == ("done", 2)
    assert record["worker"] != "w1"


@with_keys(kill_grace="20s")
def test_what_a_worker_answers_after_a_cancel_is_swallowed(
    wire: Wire, own: str, hold: Hold
) -> None:
    wire.ask("run", own, "run", [hold.path, 1], {"id": f"{own}-1"})
    hold.wait_for(1)
    assert wire.call("cancel", f"{own}-1")["state"] == "cancelled"
    following = wire.ask("run", own, "run", [hold.path, 2], {"record": True})
    hold.release(1)
    hold.wait_for(1)
    hold.release(1)
    record = wire.result(following)
    status = wire.call("status", {"plugin": own})["plugins"][own]
    assert record["result"] == 2
    assert record["worker"] == status["workers"][0]["id"], "the worker lives on"
    assert status["counts"] == {
        "accepted": 2, "done": 1, "failed": 0, "cancelled": 1, "lost": 0, "rerun": 0
    }  # fmt: skip


def test_cancel_with_kill_does_not_wait(wire: Wire, hold: Hold, other_hold: Hold) -> None:
    keys = {"source": str(PLUGINS / "heeds.py"), "kill_grace": "20s"}
    wire.call("add", "deaf", keys)
    (before,) = wire.call("status", {"plugin": "deaf"})["plugins"]["deaf"]["workers"]
    msgid = wire.ask("run", "deaf", "run", [hold.path, "last"], {"id": "k-1"})
    hold.wait_for(1)
    wire.call("cancel", "k-1", {"mode": "kill"})
    error, _ = wire.answer(msgid)
    assert error is None or error[0] == 1001
    following = wire.ask("run", "deaf", "run", [other_hold.path], {"record": True})
    other_hold.wait_for(1)
    other_hold.release(1)
    assert wire.result(following)["worker"] != before["id"]
    wire.call("remove", "deaf")


def test_a_late_job_ends_at_once_with_1002(wire: Wire, hold: Hold) -> None:
    msgid = wire.ask("run", "heed", "run", [hold.path, "too late"], {"id": "l-1"})
    hold.wait_for(1)
    wire.tell("cancel", "l-1", {"reason": "late"})
    code, _, data = wire.fault(msgid)
    assert (code, data["executed"], data["reason"]) == (1002, "maybe", "late")


def test_a_deadline_in_the_queue_means_not_executed(wire: Wire, hold: Hold) -> None:
    running = wire.ask("run", "hold", "run", [hold.path, 1])
    hold.wait_for(1)
    code, _, data = wire.refused("run", "hold", "run", [hold.path, 2], {"timeout_ms": 30})
    assert (code, data["executed"], data["reason"]) == (1002, "no", "timeout")
    assert data["retryable"] is True
    hold.release(1)
    assert wire.result(running) == 1


@pytest.mark.parametrize("plugin", ["hold", "heed"])
def test_a_deadline_while_it_runs_means_maybe(wire: Wire, hold: Hold, plugin: str) -> None:
    options = {"timeout_ms": 100, "record": True}
    record = wire.call("run", plugin, "run", [hold.path], options)
    assert record["state"] == "failed"
    code, _, data = record["error"]
    assert (code, data["executed"], data["reason"]) == (1002, "maybe", "timeout")
    hold.release(1)


def test_a_deadline_may_be_as_long_as_an_integer(wire: Wire) -> None:
    options = {"timeout_ms": 2**53 - 1, "stream": 5}
    assert wire.call("run", "yields", "run", [1], options) == "end"


def test_cancelling_what_is_not_there_is_1013(wire: Wire) -> None:
    code, _, data = wire.refused("cancel", "no-such-job")
    assert (code, data["job"]) == (1013, "no-such-job")


def test_cancelling_what_has_ended_tells_how(wire: Wire) -> None:
    job = wire.call("submit", "echo", "run", [1], {"id": "ended"})["job"]
    wire.call("run", "echo", "run", [2])
    assert wire.call("cancel", job) == {"job": "ended", "state": "done"}
    assert wire.call("wait", [job])[0]["result"] == 1


def test_a_job_of_another_session_can_be_cancelled(
    supervisor: Supervisor, wire: Wire, hold: Hold
) -> None:
    msgid = wire.ask("run", "heed", "run", [hold.path], {"id": "operator"})
    hold.wait_for(1)
    with supervisor.connect() as other:
        assert other.call("cancel", "operator")["job"] == "operator"
    assert wire.fault(msgid)[0] == 1001
