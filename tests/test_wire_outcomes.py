"""Submitted jobs: their records, who waits for them, and what the same id means."""

from __future__ import annotations

from tests.pipes import Hold
from tests.wire import Supervisor, Wire, ids

pytest_plugins = ["tests.wire_fixtures"]


# -- submit, wait, job_done


def test_submit_answers_when_the_job_is_accepted(wire: Wire, hold: Hold) -> None:
    accepted = wire.call("submit", "hold", "run", [hold.path, 1], {"id": "s-1"})
    assert accepted == {"job": "s-1", "duplicate": False}
    hold.wait_for(1)
    hold.release(1)
    (record,) = wire.call("wait", ["s-1"])
    assert (record["job"], record["state"], record["result"]) == ("s-1", "done", 1)


def test_a_job_without_an_id_gets_one(wire: Wire) -> None:
    one = wire.call("submit", "echo", "run", [1])["job"]
    two = wire.call("submit", "echo", "run", [1])["job"]
    assert one != two
    assert ids(wire.call("wait", [two, one])) == [two, one]


def test_a_result_is_kept_until_it_is_delivered(wire: Wire) -> None:
    job = wire.call("submit", "echo", "run", ["kept"])["job"]
    assert wire.call("wait", [job])[0]["result"] == "kept"
    code, _, data = wire.refused("wait", [job])
    assert (code, data["job"]) == (1013, job)


def test_notify_sends_the_record_and_keeps_nothing(wire: Wire) -> None:
    job = wire.call("submit", "echo", "run", ["told"], {"notify": True})["job"]
    (record,) = wire.note("job_done")
    assert (record["job"], record["state"], record["result"]) == (job, "done", "told")
    assert wire.refused("wait", [job])[0] == 1013


def test_wait_for_any_keeps_the_others(wire: Wire, hold: Hold) -> None:
    wire.call("submit", "hold", "run", [hold.path, "slow"], {"id": "any-slow"})
    wire.call("submit", "echo", "run", ["fast"], {"id": "any-fast"})
    records = wire.call("wait", ["any-slow", "any-fast"], {"mode": "any"})
    assert ids(records) == ["any-fast"]
    hold.release(1)
    assert wire.call("wait", ["any-slow"], {"mode": "all"})[0]["result"] == "slow"


def test_wait_gives_what_has_ended_when_its_time_is_over(wire: Wire, hold: Hold) -> None:
    wire.call("submit", "hold", "run", [hold.path, "slow"], {"id": "late-slow"})
    wire.call("submit", "echo", "run", ["fast"], {"id": "late-fast"})
    records = wire.call("wait", ["late-slow", "late-fast"], {"timeout_ms": 50})
    assert ids(records) in ([], ["late-fast"])
    hold.release(1)
    assert ids(wire.call("wait", ["late-slow"])) == ["late-slow"]


def test_what_is_forgotten_is_not_kept_when_it_ends(wire: Wire, hold: Hold) -> None:
    wire.call("submit", "hold", "run", [hold.path, 1], {"id": "forgotten"})
    assert wire.call("wait", ["forgotten"], {"timeout_ms": 0, "forget": True}) == []
    hold.release(2)
    assert wire.call("run", "hold", "run", [hold.path, 2]) == 2
    assert wire.refused("wait", ["forgotten"])[0] == 1013


def test_wait_for_a_job_of_run_and_for_one_of_another_session(
    supervisor: Supervisor, wire: Wire, hold: Hold
) -> None:
    running = wire.ask("run", "hold", "run", [hold.path, 1], {"id": "of-run"})
    hold.wait_for(1)
    with supervisor.connect() as other:
        theirs = other.ask("wait", ["of-run"])
        ours = wire.ask("wait", ["of-run"])
        assert other.call("ping", 1) == 1
        hold.release(1)
        assert other.result(theirs)[0]["result"] == 1
        assert wire.result(ours)[0]["result"] == 1
    assert wire.result(running) == 1


def test_a_job_that_is_named_twice_is_told_once(wire: Wire) -> None:
    job = wire.call("submit", "echo", "run", [1])["job"]
    assert ids(wire.call("wait", [job, job])) == [job]


def test_wait_for_nothing_is_answered_at_once(wire: Wire) -> None:
    assert wire.call("wait", []) == []


# -- idempotent submission


def test_the_same_call_twice_is_one_job(wire: Wire, hold: Hold) -> None:
    first = wire.ask("run", "hold", "run", [hold.path, 7], {"id": "twice"})
    hold.wait_for(1)
    second = wire.ask("run", "hold", "run", [hold.path, 7], {"id": "twice"})
    third = wire.call("submit", "hold", "run", [hold.path, 7], {"id": "twice"})
    assert third == {"job": "twice", "duplicate": True}
    hold.release(1)
    assert wire.result(first) == wire.result(second) == 7
    assert wire.call("wait", ["twice"])[0]["attempts"] == 1
    assert hold.is_quiet()


def test_another_call_of_the_same_id_is_a_conflict(wire: Wire, hold: Hold) -> None:
    first = wire.ask("run", "hold", "run", [hold.path, 7], {"id": "mine"})
    hold.wait_for(1)
    for call in (["hold", "run", [hold.path, 8]], ["echo", "run", [hold.path, 7]]):
        code, _, data = wire.refused("run", *call, {"id": "mine"})
        assert (code, data["executed"], data["job"]) == (1014, "no", "mine")
    hold.release(1)
    assert wire.result(first) == 7


def test_a_kept_job_is_not_run_again(wire: Wire) -> None:
    counts = wire.call("status", {"plugin": "echo"})["plugins"]["echo"]["counts"]
    wire.call("submit", "echo", "run", ["once"], {"id": "kept"})
    wire.result(wire.ask("run", "echo", "run", ["other"]))
    assert wire.call("submit", "echo", "run", ["once"], {"id": "kept"})["duplicate"] is True
    assert wire.call("run", "echo", "run", ["once"], {"id": "kept"}) == "once"
    record = wire.call("run", "echo", "run", ["once"], {"id": "kept", "record": True})
    assert (record["job"], record["result"]) == ("kept", "once")
    assert wire.refused("run", "echo", "run", ["changed"], {"id": "kept"})[0] == 1014
    after = wire.call("status", {"plugin": "echo"})["plugins"]["echo"]["counts"]
    assert after["accepted"] - counts["accepted"] == 2


def test_results_of_run_are_never_kept(wire: Wire) -> None:
    assert wire.call("run", "echo", "run", [1], {"id": "run-once"}) == 1
    assert wire.refused("wait", ["run-once"])[0] == 1013
    assert wire.call("run", "echo", "run", [2], {"id": "run-once"}) == 2
