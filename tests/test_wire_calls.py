"""Every method of the wire and its options, against real workers, by hand."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.pipes import Hold
from tests.wire import FAST, PATIENCE_S, PLUGINS, SERVE, Supervisor, Wire, ids

CONFIG = f"""
[supervisor]
allow_add = true

[defaults]
kill_grace = "300ms"

[plugins.echo]
source = "{PLUGINS}/echoes.py"

[plugins.yields]
source = "{PLUGINS}/yields.py"

[plugins.hold]
source = "{PLUGINS}/holds.py"

[plugins.heed]
source = "{PLUGINS}/heeds.py"
"""


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    folder = tmp_path_factory.mktemp("calls")
    (folder / "changeover.toml").write_text(CONFIG)
    with Supervisor(folder) as supervisor:
        yield supervisor


@pytest.fixture
def wire(supervisor: Supervisor) -> Iterator[Wire]:
    with supervisor.connect() as wire:
        yield wire


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    hold = Hold(tmp_path)
    yield hold
    hold.close()


@pytest.fixture
def other_hold(tmp_path: Path) -> Iterator[Hold]:
    hold = Hold(tmp_path, "other")
    yield hold
    hold.close()


@pytest.fixture
def own(wire: Wire, request: pytest.FixtureRequest) -> Iterator[str]:
    """A plugin for this test alone: `@pytest.mark.parametrize("own", [{keys}], indirect=True)`."""
    name = f"own{abs(hash(request.node.name)) % 10**9}"
    given = getattr(request, "param", {})
    wire.call("add", name, {"source": str(PLUGINS / "holds.py"), "kill_grace": "300ms", **given})
    yield name
    wire.call("remove", name)


def with_keys(**keys: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("own", [keys], indirect=True, ids=["own"])


# -- hello, ping, strangers' courtesies


def test_hello_says_what_is_spoken_and_what_the_limits_are(wire: Wire) -> None:
    offer = {"protocol": [1, 7], "name": "test", "version": "1", "features": []}
    answer = wire.call("hello", offer)
    assert answer["protocol"] == 1
    assert answer["server"]["name"] == "changeover"
    assert isinstance(answer["session"], str)
    assert answer["limits"]["jobs"] == 4096
    assert answer["limits"]["bytes"] == 512 * 1024 * 1024
    assert isinstance(answer["features"], list)


def test_hello_may_be_left_out(wire: Wire) -> None:
    assert wire.call("run", "echo", "run", [5]) == 5


def test_no_common_protocol_is_1020_and_the_connection_goes_on(wire: Wire) -> None:
    code, message, data = wire.refused("hello", {"protocol": [2, 3]})
    assert (code, data["retryable"], data["executed"]) == (1020, False, "no")
    assert "[2, 3]" in message
    assert wire.call("hello", {"protocol": [1]})["protocol"] == 1


def test_ping_gives_back_what_it_got(wire: Wire) -> None:
    assert wire.call("ping", {"any": [1, b"\xff"]}) == {"any": [1, b"\xff"]}
    assert wire.call("ping") is None


def test_the_neovim_courtesies(wire: Wire) -> None:
    number, info = wire.call("nvim_get_api_info")
    assert number == 1
    assert info == {"version": {"api_level": 0}, "functions": [], "types": {}, "error_types": {}}
    wire.tell("nvim_set_client_info", "name", {}, "remote", {}, {})
    assert wire.call("ping", 1) == 1


def test_a_method_may_be_bin(wire: Wire) -> None:
    assert wire.call(b"ping", 3) == 3


def test_an_unknown_request_is_refused_and_an_unknown_notification_ignored(wire: Wire) -> None:
    wire.tell("no_such_thing", 1, 2)
    code, message, data = wire.refused("no_such_thing", {})
    assert (code, data["executed"], data["retryable"]) == (-32601, "no", False)
    assert "no_such_thing" in message


@pytest.mark.parametrize("method", ["buf_alloc", "buf_free", "buf_release"])
def test_what_belongs_to_a_later_step_does_not_exist(wire: Wire, method: str) -> None:
    assert wire.refused(method, 1)[0] == -32601


def test_extra_params_and_unknown_options_are_ignored(wire: Wire) -> None:
    assert wire.call("run", "echo", "run", [5], {"no_such_option": [1]}, "extra", 7) == 5


def test_a_response_from_a_client_is_ignored(wire: Wire) -> None:
    wire.send(1, 12345, None, "for nobody")
    assert wire.call("ping", 1) == 1


# -- run


def test_run_answers_the_result(wire: Wire) -> None:
    assert wire.call("run", "echo", "run", [{"a": [1.5, None, True, b"x", "é"]}]) == {
        "a": [1.5, None, True, b"x", "é"]
    }


def test_args_are_positional_keyword_both_or_one(wire: Wire) -> None:
    assert wire.call("run", "echo", "run", [1, 2]) == [1, 2]
    assert wire.call("run", "echo", "run", {"a": 1}) == [{"a": 1}]
    assert wire.call("run", "echo", "run", {"*": [1], "b": 2}) == [1, {"b": 2}]
    assert wire.call("run", "echo", "run", "one") == "one"
    assert wire.call("run", "echo", "run") == []


def test_the_record_has_exactly_these_facts(wire: Wire) -> None:
    record = wire.call("run", "echo", "run", ["x"], {"record": True, "id": "exact-1"})
    assert set(record) == {
        "job", "plugin", "release", "generation", "worker", "state", "attempts", "queued_ms",
        "ran_ms", "result", "error",
    }  # fmt: skip
    assert set(record["release"]) == {"number", "version", "digest", "hash"}
    assert (record["job"], record["plugin"], record["state"]) == ("exact-1", "echo", "done")
    assert (record["release"]["number"], record["release"]["version"]) == (1, "1.2.3")
    assert len(record["release"]["digest"]) == 64
    assert len(record["release"]["hash"]) == 16
    assert (record["attempts"], record["result"], record["error"]) == (1, "x", None)
    assert isinstance(record["generation"], int)
    assert isinstance(record["worker"], str)
    assert record["queued_ms"] >= 0
    assert record["ran_ms"] >= 0


def test_what_the_plugin_raised_is_1000_with_its_type_and_place(wire: Wire) -> None:
    code, message, data = wire.refused("run", "yields", "fails", ["too dark"], {"id": "dark"})
    assert code == 1000
    assert "too dark" in message
    assert (data["executed"], data["retryable"]) == ("yes", False)
    assert (data["job"], data["plugin"], data["attempt"]) == ("dark", "yields", 1)
    assert (data["release"], data["type"]) == (1, "ValueError")
    assert "yields.py" in data["traceback"]
    assert str(PLUGINS) in data["traceback"], "tracebacks show the source, not the store"


def test_a_record_of_a_failure_is_a_result_and_a_refusal_is_an_error(wire: Wire) -> None:
    record = wire.call("run", "yields", "fails", [], {"record": True})
    assert record["state"] == "failed"
    assert record["error"][0] == 1000
    assert record["result"] is None
    assert wire.refused("run", "ech0", "run", [], {"record": True})[0] == 1013


def test_an_unknown_plugin_is_1013_with_a_suggestion(wire: Wire) -> None:
    code, message, data = wire.refused("run", "ecko", "run", [])
    assert (code, data["executed"], data["retryable"]) == (1013, "no", False)
    assert "did you mean 'echo'" in message
    assert (data["plugin"], data["did_you_mean"]) == ("ecko", "echo")


def test_an_unknown_method_of_a_plugin_is_1013_with_a_suggestion(wire: Wire) -> None:
    code, message, data = wire.refused("run", "yields", "fail", [])
    assert (code, data["executed"]) == (1013, "no")
    assert "did you mean fails" in message


def test_args_that_do_not_fit_are_invalid_params(wire: Wire) -> None:
    code, _, data = wire.refused("run", "yields", "run", [1, True, 3, 4])
    assert (code, data["executed"]) == (-32602, "no")


def test_a_generator_answers_its_items_or_its_return_value(wire: Wire) -> None:
    assert wire.call("run", "yields", "run", [3]) == [0, 10, 20]
    assert wire.call("run", "yields", "run", [0]) == "end"


def test_answers_come_as_the_jobs_end(wire: Wire, hold: Hold) -> None:
    slow = wire.ask("run", "hold", "run", [hold.path, "slow"])
    hold.wait_for(1)
    fast = wire.ask("run", "echo", "run", ["fast"])
    assert wire.result(fast) == "fast"
    hold.release(1)
    assert wire.result(slow) == "slow"


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ([], "plugin is missing"),
        ([7], "plugin must be a str"),
        (["echo", []], "method must be a str"),
        (["echo", "run", [], 7], "options must be a map"),
        (["echo", "run", [], {"id": ""}], "id"),
        (["echo", "run", [], {"id": "no blanks"}], "id"),
        (["echo", "run", [], {"id": "x" * 65}], "id"),
        (["echo", "run", [], {"id": 7}], "id"),
        (["echo", "run", [], {"timeout_ms": -1}], "timeout_ms"),
        (["echo", "run", [], {"timeout_ms": 1.5}], "timeout_ms"),
        (["echo", "run", [], {"timeout_ms": True}], "timeout_ms"),
        (["echo", "run", [], {"key": 7}], "key"),
        (["echo", "run", [], {"record": 1}], "record"),
        (["echo", "run", [], {"stream": "all"}], "stream"),
        (["echo", "run", [], {"block_ms": "1"}], "block_ms"),
        (["echo", "run", [], {"on_disconnect": "stay"}], "on_disconnect"),
    ],
)
def test_wrong_params_are_refused_by_name(wire: Wire, params: list[Any], says: str) -> None:
    code, message, data = wire.refused("run", *params)
    assert (code, data["executed"]) == (-32602, "no")
    assert says in message


def test_an_id_of_all_allowed_characters_is_allowed(wire: Wire) -> None:
    job = "aZ09._:-" * 8
    assert wire.call("submit", "echo", "run", [1], {"id": job})["job"] == job


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


# -- progress and items


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


# -- cancel and deadlines


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


# -- queues, keys, order


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


# -- status, watch, history, logs


def test_status_is_the_document(wire: Wire, hold: Hold) -> None:
    msgid = wire.ask("run", "hold", "run", [hold.path], {"id": "seen", "key": "k"})
    hold.wait_for(1)
    document = wire.call("status", {"plugin": "hold"})
    assert document["schema"] == "changeover.status/1"
    assert {"name", "pid", "uptime_s", "seq"} <= set(document)
    assert list(document["plugins"]) == ["hold"]
    plugin = document["plugins"]["hold"]
    assert (plugin["state"], plugin["running"], plugin["queued"]) == ("live", 1, 0)
    assert {"number", "version", "digest", "hash", "loaded_at"} <= set(plugin["release"])
    assert {
        "pid",
        "state",
        "release",
        "generation",
        "busy",
        "rss_bytes",
        "cpu_percent",
        "jobs",
    } <= (set(plugin["workers"][0]))
    (job,) = wire.call("status", {"job": "seen"})["jobs"]
    assert (job["job"], job["state"], job["key"], job["plugin"]) == ("seen", "running", "k", "hold")
    assert "echo" in wire.call("status")["plugins"]
    hold.release(1)
    wire.result(msgid)
    assert wire.refused("status", {"job": "seen"})[0] == 1013
    assert wire.refused("status", {"plugin": "hodl"})[2]["did_you_mean"] == "hold"


def test_a_watch_joins_its_snapshot_without_a_gap(wire: Wire) -> None:
    wire.call("add", "watched", {"source": str(PLUGINS / "echoes.py")})
    begun = wire.call("watch", ["plugins", "workers", "jobs"], {"plugin": "watched"})
    assert begun["snapshot"]["seq"] == begun["seq"]
    assert begun["snapshot"]["plugins"]["watched"]["state"] == "live"
    wire.call("pause", "watched")
    name, facts = wire.note("plugin_changed")
    assert (name, facts["state"], facts["reason"]) == ("watched", "paused", "pause")
    assert facts["seq"] > begun["seq"]
    wire.call("pause", "echo")
    wire.call("resume", "echo")
    assert wire.notes == []
    wire.call("resume", "watched")
    assert wire.note("plugin_changed")[1]["state"] == "live"
    (change,) = wire.call("reload", ["watched"], {"force": True})
    phases = [
        facts["phase"]
        for method, (_, facts) in wire.notes
        if method == "change_phase" and facts["generation"] in (None, change["generation"])
    ]
    assert phases[:7] == ["begun", "staged", "warmed", "checked", "adopted", "cut", "drained"]
    seqs = [params[1]["seq"] for method, params in wire.notes if method != "job_ended"]
    assert seqs == sorted(set(seqs))
    states = {params[1]["state"] for method, params in wire.notes if method == "worker_changed"}
    assert {"starting", "ready"} <= states
    wire.call("remove", "watched")


def test_watching_the_log_has_a_lowest_level(wire: Wire) -> None:
    assert wire.call("watch", ["log"], {"min_level": "error"})["watch"] >= 1
    wire.refused("add", "no_such_source", {"source": "/no/such/file.py"})
    plugin, level, message, fields = wire.note("log_line")
    assert (plugin, level) == ("no_such_source", "error")
    assert "/no/such/file.py" in message
    assert isinstance(fields, dict)


def test_watching_the_stats_ticks(wire: Wire) -> None:
    wire.call("watch", ["stats"])
    (stats,) = wire.note("stats_tick")
    assert stats["schema"] == "changeover.status/1"


def test_what_cannot_be_watched_is_refused(wire: Wire) -> None:
    code, message, _ = wire.refused("watch", ["plugins", "weather"])
    assert (code, "weather" in message) == (-32602, True)
    assert wire.refused("watch", ["log"], {"min_level": "loud"})[0] == -32602
    assert wire.refused("watch", ["log"], {"plugin": "nobody"})[0] == 1013


def test_history_and_logs_are_entries(wire: Wire) -> None:
    entries = wire.call("history", {"plugin": "echo", "limit": 1})
    assert len(entries) == 1
    assert wire.call("history", {"limit": 0}) == []
    lines = wire.call("logs", {"plugin": "hold", "limit": 3})
    assert len(lines) <= 3
    assert all(line["plugin"] == "hold" for line in lines)
    assert wire.refused("logs", {"level": "loud"})[0] == -32602
    assert wire.refused("history", {"limit": -1})[0] == -32602


# -- plugins


def test_add_answers_with_what_serves_and_remove_with_counts(wire: Wire) -> None:
    answer = wire.call("add", "added", {"source": str(PLUGINS / "echoes.py"), "workers": 2})
    assert set(answer) == {"name", "release", "generation"}
    assert answer["release"]["version"] == "1.2.3"
    assert wire.refused("add", "added", {"source": "x.py"})[0] == 1014
    wire.call("run", "added", "run", [1])
    counts = wire.call("remove", "added", {})
    assert counts == {
        "accepted": 1, "done": 1, "failed": 0, "cancelled": 0, "lost": 0, "rerun": 0
    }  # fmt: skip
    assert wire.refused("run", "added", "run", [1])[0] == 1013
    assert wire.refused("remove", "added")[0] == 1013


def test_remove_finishes_what_was_accepted(wire: Wire, hold: Hold) -> None:
    wire.call("add", "leaving", {"source": str(PLUGINS / "holds.py")})
    jobs = [wire.ask("run", "leaving", "run", [hold.path, n]) for n in range(3)]
    hold.wait_for(1)
    removed = wire.ask("remove", "leaving")
    assert wire.refused("run", "leaving", "run", [])[0] == 1011
    hold.release(3)
    assert [wire.result(job) for job in jobs] == [0, 1, 2]
    assert wire.result(removed)["done"] == 3


def test_a_first_release_that_fails_is_1016(wire: Wire, tmp_path: Path) -> None:
    source = tmp_path / "broken.py"
    source.write_text("import no_such_module\n")
    code, _, data = wire.refused("add", "broken", {"source": str(source)})
    assert (code, data["executed"], data["retryable"]) == (1016, "no", False)
    assert data["plugin"] == "broken"
    assert isinstance(data["stage"], str)
    assert "no_such_module" in data["cause"]
    assert "broken.py:1" in data["cause"]
    assert wire.refused("run", "broken", "run", [])[0] == 1013


def test_all_mistakes_of_an_add_are_told(wire: Wire) -> None:
    keys = {"source": "x.py", "worker": 2, "queue": -1, "durable": True, "swap": "slowly"}
    code, message, _ = wire.refused("add", "wrong", keys)
    assert code == -32602
    for word in ("worker", "queue", "durable", "swap"):
        assert word in message
    assert "workers" in message, "did you mean"


def test_reload_rollback_and_their_outcomes(wire: Wire, tmp_path: Path) -> None:
    source = tmp_path / "versions.py"
    text = "from changeover.worker import plugin\n@plugin(version='{}')\ndef f(): return '{}'\n"
    source.write_text(text.format("1.0.0", "one"))
    wire.call("add", "versions", {"source": str(source), "reload": "on-signal"})
    (same,) = wire.call("reload", ["versions"])
    assert (same["outcome"], same["to"]["number"]) == ("unchanged", 1)
    source.write_text(text.format("2.0.0", "two"))
    (plan,) = wire.call("reload", ["versions"], {"dry_run": True})
    assert plan["name"] == "versions"
    assert wire.call("run", "versions", "run", []) == "one"
    (done,) = wire.call("reload", ["versions"], {"wait": "cut"})
    assert {
        "name", "outcome", "from", "to", "stage", "cause", "drained", "killed", "lost", "phases"
    } <= set(done)  # fmt: skip
    assert (done["outcome"], done["from"]["number"], done["to"]["number"]) == ("done", 1, 2)
    assert wire.call("run", "versions", "run", []) == "two"
    source.write_text("raise OSError('no model')\n")
    (refused,) = wire.call("reload", ["versions"])
    assert (refused["outcome"], refused["stage"] != "") == ("refused", True)
    assert "no model" in refused["cause"]
    assert wire.call("run", "versions", "run", []) == "two"
    (back,) = wire.call("rollback", "versions", {"wait": "drained"})
    assert (back["outcome"], back["to"]["number"]) == ("done", 1)
    assert wire.call("run", "versions", "run", []) == "one"
    (forth,) = wire.call("rollback", "versions", {"to": 2})
    assert forth["to"]["number"] == 2
    assert wire.refused("rollback", "versions", {"to": 99})[0] == 1013
    wire.call("remove", "versions")


def test_reload_of_an_unknown_plugin_changes_none(wire: Wire) -> None:
    code, _, data = wire.refused("reload", ["echo", "ech"])
    assert (code, data["did_you_mean"]) == (1013, "echo")
    assert wire.refused("reload", ["echo"], {"wait": "done"})[0] == -32602


def test_a_reload_that_takes_too_long_goes_on(wire: Wire, own: str, hold: Hold) -> None:
    running = wire.ask("run", own, "run", [hold.path, 1])
    hold.wait_for(1)
    code, _, data = wire.refused("reload", [own], {"force": True, "timeout_ms": 20})
    assert (code, data["plugin"]) == (1002, own)
    hold.release(1)
    assert wire.result(running) == 1
    (answer,) = wire.call("reload", [own])
    assert answer["outcome"] == "unchanged"


def test_pause_holds_and_resume_lets_go(wire: Wire, own: str, hold: Hold) -> None:
    assert wire.call("pause", own) == {"running": 0, "queued": 0}
    held = wire.ask("run", own, "run", [hold.path, 1])
    assert wire.call("pause", own) == {"running": 0, "queued": 1}
    assert hold.is_quiet()
    wire.call("resume", own)
    hold.wait_for(1)
    hold.release(1)
    assert wire.result(held) == 1
    wire.call("pause", own, {"reject": True})
    code, _, data = wire.refused("run", own, "run", [hold.path])
    assert (code, data["reason"], data["executed"]) == (1012, "paused", "no")
    wire.call("resume", own)


def test_without_a_name_all_plugins_are_paused(wire: Wire) -> None:
    wire.call("pause", None)
    states = {p["state"] for p in wire.call("status")["plugins"].values()}
    wire.call("resume", None)
    assert states == {"paused"}
    assert wire.refused("pause", "nobody")[0] == 1013


# -- the end of input and the end of the supervisor


def stdio(tmp_path: Path, *options: str) -> Supervisor:
    return Supervisor(tmp_path, *options, stdio=True)


def test_the_end_of_input_finishes_what_was_accepted(tmp_path: Path, hold: Hold) -> None:
    """Also what waits behind a first load, which is not over when the input is."""
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.ask("add", "hold", {"source": str(PLUGINS / "holds.py")})
        jobs = [wire.ask("run", "hold", "run", [hold.path, n]) for n in range(3)]
        submitted = wire.ask("submit", "hold", "run", [hold.path, 3], {"notify": True})
        wire.end_input()
        hold.release(4)
        rest = wire.rest()
        assert [wire.result(job) for job in jobs] == [0, 1, 2]
        assert wire.result(submitted)["duplicate"] is False
        assert wire.note("job_done")[0]["result"] == 3
        assert rest[-1][1] == "goaway"
        assert supervisor.wait() == 0


def test_the_end_of_input_refuses_what_nobody_will_run(tmp_path: Path) -> None:
    """Behind a pause that nobody can end any more, and behind a release that fails."""
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.call("add", "echo", {"source": str(PLUGINS / "echoes.py")})
        wire.call("pause", "echo")
        paused = wire.ask("run", "echo", "run", [1])
        added = wire.ask("add", "broken", {"source": "broken.py"})
        behind = wire.ask("run", "broken", "run", [1])
        wire.end_input()
        code, _, data = wire.fault(paused)
        assert (code, data["executed"], data["retryable"]) == (1011, "no", True)
        assert wire.fault(added)[0] == 1016
        assert wire.fault(behind)[2]["executed"] == "no"
        assert wire.goaway()[0] == 2009
        assert supervisor.wait() == 0


def test_standard_input_and_output_are_left_as_they_were(tmp_path: Path) -> None:
    """Others may share them, and O_NONBLOCK belongs to all who do."""
    pipes = [os.pipe() for _ in range(2)]
    (in_fd, to_in), (from_out, out_fd) = pipes
    os.close(to_in)
    argv = [*SERVE, "--stdio", *FAST]
    subprocess.run(argv, stdin=in_fd, stdout=out_fd, timeout=PATIENCE_S, check=True, cwd=tmp_path)
    assert os.get_blocking(in_fd)
    assert os.get_blocking(out_fd)
    for fd in (in_fd, from_out, out_fd):
        os.close(fd)


def test_requests_may_come_from_a_regular_file(tmp_path: Path) -> None:
    requests = tmp_path / "requests"
    echo = {"source": str(PLUGINS / "echoes.py")}
    calls: list[tuple[str, list[Any]]] = [
        ("add", ["echo", echo]),
        ("run", ["echo", "run", [7]]),
    ]
    requests.write_bytes(b"".join(msgpack.packb((0, n, *call)) for n, call in enumerate(calls)))
    with requests.open("rb") as given:
        done = subprocess.run(
            [*SERVE, "--stdio", *FAST], stdin=given, capture_output=True, timeout=PATIENCE_S,
            check=True, cwd=tmp_path,
        )  # fmt: skip
    unpacker = msgpack.Unpacker()
    unpacker.feed(done.stdout)
    answers = list(unpacker)
    assert sorted(answer[1] for answer in answers[:2]) == [0, 1]
    assert [1, 1, None, 7] in answers
    assert answers[2][1] == "goaway"


def test_everything_is_written_before_the_exit(tmp_path: Path) -> None:
    """Many pipes full of answers."""
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.call("add", "echo", {"source": str(PLUGINS / "echoes.py")})
        jobs = [wire.ask("run", "echo", "run", [bytes(1 << 20)]) for _ in range(4)]
        wire.end_input()
        assert [len(wire.result(job)) for job in jobs] == [1 << 20] * 4
        assert wire.goaway()[0] == 2009
        assert supervisor.wait() == 0


def test_requests_under_way_are_answered_before_goaway(tmp_path: Path) -> None:
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.call("add", "echo", {"source": str(PLUGINS / "echoes.py"), "probation": "30s"})
        watched = wire.ask("reload", ["echo"], {"force": True, "wait": "watched"})
        assert wire.call("run", "echo", "run", [1]) == 1
        wire.end_input()
        assert wire.goaway()[0] == 2009
        assert wire.answer(watched) is not None
        assert supervisor.wait() == 0


@pytest.mark.parametrize("mode", ["drain", "now"])
def test_shutdown_answers_counts_then_goaway_then_the_end(
    tmp_path: Path, hold: Hold, mode: str
) -> None:
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.call("add", "hold", {"source": str(PLUGINS / "holds.py")})
        jobs = [wire.ask("run", "hold", "run", [hold.path, n]) for n in range(2)]
        hold.wait_for(1)
        last = wire.ask("shutdown", {"mode": mode})
        if mode == "drain":
            assert wire.refused("run", "hold", "run", [])[0] == 1011
            hold.release(2)
            assert [wire.result(job) for job in jobs] == [0, 1]
        else:
            codes = [wire.fault(job)[0] for job in jobs]
            assert codes == [1003, 1011]
        counts = wire.result(last)
        assert counts["accepted"] == 2
        assert counts["accepted"] == sum(counts[key] for key in ("done", "failed", "lost"))
        assert wire.goaway()[0] == 2009
        assert supervisor.wait() == 0


def test_shutdown_with_a_time_limit_kills_what_is_left(tmp_path: Path, hold: Hold) -> None:
    with stdio(tmp_path) as supervisor:
        wire = supervisor.wire
        wire.call("add", "hold", {"source": str(PLUGINS / "holds.py")})
        job = wire.ask("run", "hold", "run", [hold.path])
        hold.wait_for(1)
        last = wire.ask("shutdown", {"timeout_ms": 50})
        code, _, data = wire.fault(job)
        assert (code, data["reason"], data["executed"]) == (1003, "stopped", "maybe")
        assert wire.result(last)["lost"] == 1
        assert supervisor.wait() == 0


def test_all_clients_are_told_of_a_shutdown(tmp_path: Path) -> None:
    with Supervisor(tmp_path, "-o", "allow_add=true") as supervisor:
        with supervisor.connect() as one, supervisor.connect() as other:
            other.call("ping", 1)
            assert one.call("shutdown")["accepted"] == 0
            assert one.goaway()[0] == other.goaway()[0] == 2009
        assert supervisor.wait() == 0


def test_a_socket_client_may_not_add_unless_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "changeover.toml").write_text(f'[plugins.e]\nsource = "{PLUGINS}/echoes.py"\n')
    with Supervisor(tmp_path) as supervisor, supervisor.connect() as wire:
        code, message, data = wire.refused("add", "x", {"source": "x.py"})
        assert (code, data["executed"], data["retryable"]) == (1021, "no", False)
        assert "allow_add" in message
        assert wire.refused("remove", "e")[0] == 1021
        assert wire.call("run", "e", "run", [1]) == 1
