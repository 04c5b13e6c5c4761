"""The worker as a peer on the wire: what it answers, in which order, and how it leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from changeover.protocol import messages
from changeover.protocol.errors import Code, Fault
from tests.conftest import PluginFile
from tests.worker_driver import WorkerProcess

PLUGINS = Path(__file__).parent / "plugins"
ECHO = """
    from changeover.worker import plugin

    @plugin(version="1.0.0", pure=True)
    def echo(*args, **kwargs):
        return [list(args), kwargs]
"""


@pytest.fixture
def echo(plugin_file: PluginFile) -> Path:
    return plugin_file("echo.py", ECHO)


def test_hello_is_answered_before_the_plugin_is_imported(plugin_file: PluginFile) -> None:
    source = plugin_file("broken.py", "raise ValueError('imported')")
    with WorkerProcess(source) as worker:
        assert worker.call("hello", {"protocol": [1], "plugin": "x"}) == {"protocol": 1}
        assert worker.log == b""


def test_hello_without_a_common_protocol_is_refused(echo: Path) -> None:
    with WorkerProcess(echo) as worker, pytest.raises(Fault) as caught:
        worker.call("hello", {"protocol": [7, 8]})
    assert caught.value.code == Code.NO_COMMON_PROTOCOL


def test_load_says_what_the_plugin_is(echo: Path) -> None:
    with WorkerProcess(echo) as worker:
        loaded = worker.boot()
    assert loaded["name"] == "echo"
    assert loaded["version"] == "1.0.0"
    assert loaded["methods"] == {"run": {"pure": True, "stream": False}}
    assert (loaded["concurrency"], loaded["frames"]) == (1, "independent")


def test_a_plain_function_claims_nothing_that_it_cannot_do(echo: Path) -> None:
    with WorkerProcess(echo) as worker:
        capabilities = worker.boot()["capabilities"]
    assert [name for name, has in sorted(capabilities.items()) if has] == ["ping", "stacks"]


def test_a_job_is_answered(echo: Path) -> None:
    with WorkerProcess(echo) as worker:
        worker.boot()
        assert worker.run(1, "two", None) == [[1, "two", None], {}]


def test_unknown_requests_are_method_not_found(echo: Path) -> None:
    with WorkerProcess(echo) as worker:
        worker.boot()
        for method in ("recall", "buf_alloc", "no_such_thing"):
            with pytest.raises(Fault) as caught:
                worker.call(method, [])
            assert caught.value.code == Code.METHOD_NOT_FOUND


def test_unknown_notifications_and_stray_answers_are_ignored(echo: Path) -> None:
    with WorkerProcess(echo) as worker:
        worker.boot()
        worker.tell("no_such_thing", 1, 2)
        worker.write(b"\x94\x01\x07\xc0\xc0")
        assert worker.run(1) == [[1], {}]


@pytest.mark.parametrize("params", [(), ([1],), ([1], 2), ("gone",), ("gone", 5), (7, "client")])
@pytest.mark.parametrize("method", ["cancel", "more"])
def test_notifications_about_no_job_are_ignored(
    echo: Path, method: str, params: tuple[object, ...]
) -> None:
    with WorkerProcess(echo) as worker:
        worker.boot()
        worker.tell(method, *params)
        assert worker.run() == [[], {}]


def test_a_job_before_load_is_refused(echo: Path) -> None:
    with WorkerProcess(echo) as worker, pytest.raises(Fault, match="not loaded") as caught:
        worker.run(1)
    assert caught.value.executed == "no"


def test_a_second_load_is_refused(echo: Path) -> None:
    with WorkerProcess(echo) as worker:
        worker.boot()
        with pytest.raises(Fault, match="loaded already"):
            worker.call("load", {})


@pytest.mark.parametrize(
    "options", [{"timeout_ms": "soon"}, {"timeout_ms": -1}, {"stream": 1.5}, {"attempt": "x"}]
)
def test_options_of_the_wrong_type_are_refused(echo: Path, options: dict[str, object]) -> None:
    with WorkerProcess(echo) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run(1, **options)
        assert caught.value.code == Code.INVALID_PARAMS
        assert worker.run(2) == [[2], {}]


def test_one_write_may_hold_everything(echo: Path) -> None:
    with WorkerProcess(echo) as worker:
        asked = [worker.ask("hello", {}), worker.ask("load", {}), worker.ask_job("a", 1)]
        answers = [worker.answer(msgid) for msgid in asked]
        assert answers[2] == [[1], {}]
        assert worker.order == asked


def test_a_message_may_come_byte_by_byte(echo: Path) -> None:
    with WorkerProcess(echo) as worker:
        for byte in b"\x94\x00\x09\xa4ping\x91\xa2hi":
            worker.write(bytes([byte]))
        assert worker.answer(9) == "hi"


def test_a_large_argument_and_result_pass(echo: Path) -> None:
    frame = os.urandom(6_220_800)
    with WorkerProcess(echo) as worker:
        worker.boot()
        assert worker.run(frame) == [[frame], {}]


def test_ping_is_answered_while_a_job_hangs(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(PLUGINS / "hangs.py") as worker:
        worker.boot()
        job = worker.ask_job("stuck", str(fifo))
        worker.wait_logged("hanging\n")
        assert worker.call("ping", [1, "x"]) == [1, "x"]
        assert job not in worker.answers
        fifo.write_text("let go")
        assert worker.answer(job) == "let go"


def test_ping_is_answered_while_the_plugin_loads(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(PLUGINS / "hangs.py") as worker:
        worker.call("hello", {})
        load = worker.ask("load", {"config": {"on_load": str(fifo)}})
        worker.wait_logged("hanging\n")
        assert worker.call("ping", 5) == 5
        assert load not in worker.answers
        fifo.write_text("")
        worker.answer(load)


def test_jobs_that_wait_behind_a_long_one_run_in_order(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(PLUGINS / "hangs.py") as worker:
        worker.boot()
        jobs = [worker.ask_job(f"job-{n}", str(fifo)) for n in range(3)]
        for n, job in enumerate(jobs):
            fifo.write_text(str(n))
            assert worker.answer(job) == str(n)


def test_end_of_input_ends_the_worker_after_on_unload(plugin_file: PluginFile) -> None:
    source = plugin_file(
        "says_goodbye.py",
        """
        from changeover.worker import Plugin

        class Polite(Plugin):
            def run(self): ...
            def on_unload(self): print("goodbye")
        """,
    )
    with WorkerProcess(source) as worker:
        worker.boot()
        worker.end_input()
        assert worker.wait_exit() == 0
        assert worker.log == b"goodbye\n"


def test_on_unload_runs_once_and_jobs_are_refused_afterwards(plugin_file: PluginFile) -> None:
    source = plugin_file(
        "says_goodbye.py",
        """
        from changeover.worker import Plugin

        class Polite(Plugin):
            def run(self): ...
            def on_unload(self): print("goodbye")
        """,
    )
    with WorkerProcess(source) as worker:
        worker.boot()
        assert worker.call("unload", {}) is None
        with pytest.raises(Fault, match="unloaded"):
            worker.run()
        worker.tell("exit")
        assert worker.wait_exit() == 0
        assert worker.log == b"goodbye\n"


def test_what_was_sent_before_the_end_of_input_is_answered(echo: Path) -> None:
    with WorkerProcess(echo) as worker:
        worker.ask("hello", {})
        worker.ask("load", {})
        worker.ask_job("last", "words")
        worker.end_input()
        assert worker.wait_exit() == 0
        assert len(worker.answers) == 3


def test_a_worker_whose_job_hangs_leaves_at_the_end_of_input(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(PLUGINS / "hangs.py") as worker:
        worker.boot()
        worker.ask_job("stuck", str(fifo))
        worker.wait_logged("hanging\n")
        worker.end_input()
        assert worker.wait_exit() == 3
        assert b"still busy" in worker.log


def test_a_worker_whose_on_unload_hangs_leaves_at_the_end_of_input(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(PLUGINS / "hangs.py") as worker:
        worker.boot(config={"on_unload": str(fifo)})
        worker.end_input()
        assert worker.wait_exit() == 3


@pytest.mark.parametrize("junk", [b"Loading model...\n", b"\x93\x05\xa1x\x90", b"\x94\x00\xc1"])
def test_bytes_that_are_no_message_end_the_worker(echo: Path, junk: bytes) -> None:
    with WorkerProcess(echo) as worker:
        worker.boot()
        worker.write(junk)
        assert worker.wait_exit() == 1
        assert b"broke the protocol (200" in worker.log


def test_a_call_that_is_nested_too_deep_is_refused_alone(echo: Path) -> None:
    deep: list[object] = []
    for _ in range(70):
        deep = [deep]
    with WorkerProcess(echo) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run(deep)
        assert caught.value.code == Code.TOO_LARGE
        assert worker.run(1) == [[1], {}]


@pytest.mark.parametrize(
    "args", [b"\xc7\x01\x00x", b"\x81\xa6$frame\x01", b"\x81\xa1*\x05", b"\x81\x01\x02"]
)
def test_arguments_that_cannot_be_read_were_not_run(echo: Path, args: bytes) -> None:
    with WorkerProcess(echo) as worker:
        worker.boot()
        parts = [messages.pack("bad"), messages.pack("run"), args, messages.pack({})]
        worker.write(messages.request_raw(77, "job", parts))
        with pytest.raises(Fault) as caught:
            worker.answer(77)
        assert (caught.value.code, caught.value.executed) == (Code.INVALID_PARAMS, "no")
        assert worker.run(1) == [[1], {}]
