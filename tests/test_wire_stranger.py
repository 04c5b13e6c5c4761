"""A stranger drives the supervisor: pynvim's msgpack_rpc session, unmodified."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pynvim.msgpack_rpc import child_session, socket_session
from pynvim.msgpack_rpc.async_session import AsyncSession
from pynvim.msgpack_rpc.event_loop import EventLoop
from pynvim.msgpack_rpc.msgpack_stream import MsgpackStream
from pynvim.msgpack_rpc.session import Session

from tests.pipes import Hold
from tests.wire import FAST, PLUGINS, SERVE, Supervisor

GONE = (EOFError, OSError)
NAMES = {"echo": "echoes.py", "yields": "yields.py", "hold": "holds.py", "heed": "heeds.py"}


class RemoteError(Exception):
    """What came back; pynvim raises whatever its error_wrapper makes."""

    def __init__(self, error: list[Any]) -> None:
        super().__init__(error[1])
        self.code, self.message, self.data = error


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    folder = tmp_path_factory.mktemp("stranger")
    with Supervisor(folder, "-o", "allow_add=true") as supervisor:
        yield supervisor


@pytest.fixture(params=["socket", "stdio"], scope="module")
def session(request: pytest.FixtureRequest, supervisor: Supervisor) -> Iterator[Session]:
    if request.param == "socket":
        session = socket_session(supervisor.path)
    else:
        session = child_session([*SERVE, "--stdio", *FAST])
    session.error_wrapper = RemoteError
    with closing(session):
        for name, file in NAMES.items():
            session.request("add", name, {"source": str(PLUGINS / file)})
        yield session
        # `close` closes the loop before its transports have closed; so first let them.
        session.loop._transport.close()
        with pytest.raises(GONE):
            session.request("ping", 1)


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    hold = Hold(tmp_path)
    yield hold
    hold.close()


def test_hello(session: Session) -> None:
    answer = session.request("hello", {"protocol": [1], "name": "pynvim"})
    assert answer["protocol"] == 1
    assert answer["server"]["name"] == "changeover"


def test_run(session: Session) -> None:
    assert session.request("run", "echo", "run", [{"a": [1, 2.5, "é", None]}]) == {
        "a": [1, 2.5, "é", None]
    }
    assert session.request("run", "echo", "run", [b"\x00\xff"]) == b"\x00\xff"


def test_a_method_as_bin(session: Session) -> None:
    assert session.request(b"run", "echo", "run", [7]) == 7


def test_the_courtesies_of_neovim(session: Session) -> None:
    number, info = session.request("nvim_get_api_info")
    assert (number, info["version"]["api_level"], info["types"]) == (1, 0, {})
    session.request("nvim_set_client_info", "pynvim", {}, "remote", {}, {}, async_=True)
    assert session.request("ping", "still here") == "still here"


def test_errors(session: Session) -> None:
    with pytest.raises(RemoteError, match="too dark") as raised:
        session.request("run", "yields", "fails", ["too dark"])
    assert (raised.value.code, raised.value.data["executed"]) == (1000, "yes")
    with pytest.raises(RemoteError, match="did you mean 'echo'") as raised:
        session.request("run", "ecko", "run", [])
    assert (raised.value.code, raised.value.data["executed"]) == (1013, "no")
    with pytest.raises(RemoteError, match="no_such_method") as raised:
        session.request("no_such_method")
    assert raised.value.code == -32601


def test_progress_and_items(session: Session) -> None:
    options = {"progress": True, "stream": 10, "id": "seen"}
    assert session.request("run", "yields", "run", [2], options) == "end"
    told = [session.next_message() for _ in range(4)]
    assert [message.name for message in told] == ["progress", "item", "progress", "item"]
    assert told[0].args == ["seen", {"done": 1, "total": 2, "message": "1 of 2"}]
    assert [message.args for message in told[1::2]] == [["seen", 0, 0], ["seen", 1, 10]]


def test_submit_and_job_done(session: Session) -> None:
    answer = session.request("submit", "echo", "run", [5], {"notify": True, "id": "told"})
    assert answer == {"job": "told", "duplicate": False}
    message = session.next_message()
    assert message.name == "job_done"
    (record,) = message.args
    assert (record["job"], record["state"], record["result"]) == ("told", "done", 5)


def test_cancel(session: Session, hold: Hold) -> None:
    session.request("submit", "heed", "run", [hold.path], {"id": "unwanted"})
    hold.wait_for(1)
    assert session.request("cancel", "unwanted")["job"] == "unwanted"
    (record,) = session.request("wait", ["unwanted"])
    assert record["state"] == "cancelled"
    assert record["error"][0] == 1001


def test_cancel_as_a_notification(session: Session, hold: Hold) -> None:
    session.request("submit", "heed", "run", [hold.path], {"id": "unwanted-2"})
    hold.wait_for(1)
    session.request("cancel", "unwanted-2", async_=True)
    (record,) = session.request("wait", ["unwanted-2"])
    assert record["state"] == "cancelled"


def test_answers_out_of_order(session: Session, hold: Hold) -> None:
    """Two requests under way, each in a greenlet of its own."""
    answers: list[str] = []

    def slow() -> None:
        answers.append(session.request("run", "hold", "run", [hold.path, "slow"]))
        session.stop()

    def fast() -> None:
        answers.append(session.request("run", "echo", "run", ["fast"]))
        hold.release(1)

    session.threadsafe_call(slow)
    session.threadsafe_call(fast)
    session.run(lambda *_: None, lambda *_: None)
    assert answers == ["fast", "slow"]


def test_end_of_input_over_stdio(hold: Hold) -> None:
    """What was accepted is finished and answered, although its input has ended."""
    loop = EventLoop("child", [*SERVE, "--stdio", *FAST])
    answers: list[Any] = []
    notes: list[str] = []

    def answered(error: Any, result: Any) -> None:
        answers.append(result if error is None else error)

    with closing(AsyncSession(MsgpackStream(loop))) as session:
        session.request("add", ["hold", {"source": str(PLUGINS / "holds.py")}], lambda *_: None)
        for number in range(3):
            session.request("run", ["hold", "run", [hold.path, number]], answered)
        loop._transport.close()  # the child's stdin
        hold.release(3)
        with pytest.raises(GONE):
            session.run(None, lambda name, _: notes.append(name))
    assert answers == [0, 1, 2]
    assert notes == ["goaway"]


def test_end_of_the_supervisor(tmp_path: Path) -> None:
    with (
        Supervisor(tmp_path, "-o", "allow_add=true") as supervisor,
        closing(socket_session(supervisor.path)) as session,
    ):
        assert session.request("ping", os.getpid()) == os.getpid()
        assert session.request("shutdown", {})["accepted"] == 0
        assert session.next_message().name == "goaway"
        with pytest.raises(GONE):
            session.request("ping", 1)
        assert supervisor.wait() == 0
