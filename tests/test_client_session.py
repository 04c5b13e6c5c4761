"""The conversation without I/O: which answer goes to whom."""

from __future__ import annotations

import pytest

from changeover.client.call import Call, Reply
from changeover.client.errors import ChangeoverError, Disconnected, NotFound, TooLarge
from changeover.client.session import Session
from changeover.protocol.errors import Code, Fatal, Fault
from changeover.protocol.messages import failure, notification, open_message, pack, response


def ask(session: Session, method: str = "ping") -> tuple[Call, Reply]:
    reply = Reply()
    call = Call(method, [pack(1)], reply)
    session.open(call)
    return call, reply


def test_answers_may_come_in_any_order() -> None:
    session = Session()
    asked = [ask(session) for _ in range(5)]
    for call, _ in reversed(asked):
        session.feed(response(call.msgid, call.msgid * 10))
    assert [reply.result(0) for _, reply in asked] == [call.msgid * 10 for call, _ in asked]


def test_a_stream_cut_at_every_byte_says_the_same() -> None:
    session = Session()
    asked = [ask(session) for _ in range(3)]
    heard: list[str] = []
    session.listen(lambda method, _: heard.append(method))
    stream = b"".join(
        (
            response(asked[1][0].msgid, {"a": [1, 2]}),
            notification("plugin_changed", ["x", {}]),
            failure(asked[0][0].msgid, Fault.new(Code.NOT_FOUND, "no plugin")),
            response(asked[2][0].msgid, "x" * 300),
        )
    )
    for byte in stream:
        session.feed(bytes([byte]))
    assert asked[1][1].result(0) == {"a": [1, 2]}
    assert asked[2][1].result(0) == "x" * 300
    assert heard == ["plugin_changed"]
    with pytest.raises(NotFound):
        asked[0][1].result(0)


def test_the_message_that_is_sent_is_the_request() -> None:
    session = Session()
    call, _ = ask(session, "status")
    message = open_message(call.message)
    assert (message.kind, message.msgid, message.method, message.params) == (
        0,
        call.msgid,
        "status",
        [b"\x01"],
    )


def test_a_second_answer_is_counted_and_ignored() -> None:
    session = Session()
    call, reply = ask(session)
    session.feed(response(call.msgid, "first"))
    session.feed(response(call.msgid, "second"))
    assert reply.result(0) == "first"
    assert session.strays == 1


def test_an_answer_to_nothing_is_counted_and_ignored() -> None:
    session = Session()
    session.feed(response(99, None))
    assert session.strays == 1


def test_ids_in_use_are_passed_over() -> None:
    session = Session()
    first, _ = ask(session)
    session._msgids = iter([first.msgid, first.msgid + 1])  # type: ignore[assignment]
    second, _ = ask(session)
    assert second.msgid == first.msgid + 1


def test_an_answer_that_is_nested_too_deep_fails_its_own_call() -> None:
    session = Session()
    (deep, deep_reply), (other, other_reply) = ask(session), ask(session)
    raw = response(deep.msgid, None)[:-1] + b"\x91" * 100 + b"\xc0"
    session.feed(raw + response(other.msgid, "fine"))
    assert other_reply.result(0) == "fine"
    with pytest.raises(TooLarge):
        deep_reply.result(0)


def test_a_foreign_error_becomes_a_plain_message() -> None:
    session = Session()
    call, reply = ask(session)
    session.feed(pack([1, call.msgid, "went wrong", None]))
    with pytest.raises(ChangeoverError, match="went wrong"):
        reply.result(0)


def test_what_is_no_message_is_fatal_but_what_came_before_counts() -> None:
    session = Session()
    call, reply = ask(session)
    with pytest.raises(Fatal, match="Loading"):
        session.feed(response(call.msgid, 5) + b"Loading model\n")
    assert reply.result(0) == 5


def test_a_message_beyond_the_limit_is_refused_here() -> None:
    session = Session()
    session.message_bytes = 1000
    with pytest.raises(TooLarge, match="1000"):
        session.open(Call("run", [pack(b"x" * 1000)], Reply()))
    assert session.is_idle


def test_unreadable_notifications_disturb_nobody(caplog: pytest.LogCaptureFixture) -> None:
    session = Session()
    call, reply = ask(session)
    session.feed(notification("progress", []) + notification("goaway", [1]))
    session.feed(response(call.msgid, 1))
    assert reply.result(0) == 1
    assert "not readable" in caplog.text


def test_goaway_is_remembered() -> None:
    session = Session()
    session.feed(notification("goaway", [2001, "a message of 100 MB", {}]))
    assert session.goaway == "a message of 100 MB (code 2001)"


def test_a_call_that_was_answered_is_not_failed_again() -> None:
    session = Session()
    call, reply = ask(session)
    session.feed(response(call.msgid, 1))
    session.fail(call, Disconnected("too late"))
    assert reply.result(0) == 1


def test_job_ids_differ_between_sessions() -> None:
    first, second = Session(), Session()
    ids = {session.new_job_id() for session in (first, second) for _ in range(100)}
    assert len(ids) == 200
