"""The first calls of a client: hello, ping, run; what is refused, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipes import Hold
from tests.wire import PLUGINS, Wire

pytest_plugins = ["tests.wire_fixtures"]


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


def test_a_clients_name_is_shown_as_far_as_it_can_be(wire: Wire, tmp_path: Path) -> None:
    wire.call("hello", {"name": "a\nb\x1b[31m" + "c" * 100})
    wire.refused("add", "nameless", {"source": str(tmp_path / "none.py")})
    (entry,) = wire.call("history", {"plugin": "nameless"})
    who = entry["who"]
    assert who.startswith("ab[31mccc")
    assert len(who) < 100
    assert wire.refused("hello", {"name": 7})[0] == -32602
