"""Full queues, keys, and the order of jobs."""

from __future__ import annotations

from tests.pipes import Hold
from tests.wire import Wire
from tests.wire_fixtures import with_keys

pytest_plugins = ["tests.wire_fixtures"]


@with_keys(queue=2, full="reject")
def test_a_full_queue_is_1010(wire: Wire, own: str, hold: Hold) -> None:
    jobs = [wire.ask("run", own, "run", [hold.path, n]) for n in range(3)]
    hold.wait_for(1)
    code, _, data = wire.refused("run", own, "run", [hold.path, 3])
    assert (code, data["executed"], data["retryable"]) == (1010, "no", True)
    assert data["retry_after_ms"] > 0
    hold.release(3)
    assert [wire.result(job) for job in jobs] == [0, 1, 2]


@with_keys(queue=1, full="reject")
def test_block_ms_waits_for_room_and_then_gives_up(wire: Wire, own: str, hold: Hold) -> None:
    jobs = [wire.ask("run", own, "run", [hold.path, n]) for n in range(2)]
    hold.wait_for(1)
    given_up = wire.ask("submit", own, "run", [hold.path, 2], {"block_ms": 50})
    assert wire.fault(given_up)[0] == 1010
    patient = wire.ask("submit", own, "run", [hold.path, 3], {"block_ms": 30_000, "id": "patient"})
    hold.release(2)
    assert [wire.result(job) for job in jobs] == [0, 1]
    assert wire.result(patient) == {"job": "patient", "duplicate": False}
    hold.release(1)
    assert wire.call("wait", ["patient"])[0]["result"] == 3


@with_keys(queue=1, full="block")
def test_a_full_queue_that_blocks_holds_the_call(wire: Wire, own: str, hold: Hold) -> None:
    jobs = [wire.ask("run", own, "run", [hold.path, n]) for n in range(4)]
    hold.wait_for(1)
    assert wire.call("status", {"plugin": own})["plugins"][own]["queued"] == 3
    assert wire.refused("run", own, "run", [hold.path, 9], {"block_ms": 0})[0] == 1010
    hold.release(4)
    assert [wire.result(job) for job in jobs] == [0, 1, 2, 3]


@with_keys(queue=1, full="block")
def test_what_waits_for_room_can_be_cancelled_and_has_its_deadline(
    wire: Wire, own: str, hold: Hold
) -> None:
    jobs = [wire.ask("run", own, "run", [hold.path, n]) for n in range(2)]
    hold.wait_for(1)
    unwanted = wire.ask("run", own, "run", [hold.path, 2], {"id": f"{own}-2"})
    late = wire.ask("submit", own, "run", [hold.path, 3], {"timeout_ms": 20})
    assert wire.call("cancel", f"{own}-2")["state"] == "cancelled"
    for msgid, code in ((unwanted, 1001), (late, 1002)):
        found, _, data = wire.fault(msgid)
        assert (found, data["executed"]) == (code, "no")
    hold.release(2)
    assert [wire.result(job) for job in jobs] == [0, 1]
    counts = wire.call("status", {"plugin": own})["plugins"][own]["counts"]
    assert counts["accepted"] == counts["done"] == 2, "they never were jobs"


@with_keys(workers=2)
def test_jobs_of_one_key_run_in_order_on_one_worker(wire: Wire, own: str, hold: Hold) -> None:
    options = {"key": "cam-1", "record": True}
    jobs = [wire.ask("run", own, "run", [hold.path, n], options) for n in range(3)]
    hold.wait_for(1)
    free = wire.ask("run", own, "run", [hold.path, "free"])
    hold.wait_for(1)
    assert hold.is_quiet(), "two run: one of the key, one without"
    hold.release(4)
    hold.wait_for(2)
    records = [wire.result(job) for job in jobs]
    assert wire.result(free) == "free"
    assert [record["result"] for record in records] == [0, 1, 2]
    assert len({record["worker"] for record in records}) == 1


def test_jobs_run_in_the_order_they_came(wire: Wire) -> None:
    jobs = [wire.ask("run", "echo", "run", [n]) for n in range(200)]
    assert [wire.result(job) for job in jobs] == list(range(200))
    answers = [message[1] for message in wire.seen if message[0] == 1]
    assert answers == jobs
