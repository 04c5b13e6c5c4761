"""A private supervisor with real workers: it comes up whole, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest

from changeover.client import (
    Cancelled,
    Change,
    Changeover,
    Disconnected,
    InvalidRequest,
    PluginError,
    Progress,
    Refused,
    WorkerLost,
    alaunch,
    connect,
    launch,
)
from changeover.client.child import ChildTransport

from .conftest import PluginFile

PATIENCE_S = 20.0
PLUGINS = Path(__file__).parent / "plugins"
ECHOES, YIELDS, HEEDS = (PLUGINS / f"{name}.py" for name in ("echoes", "yields", "heeds"))


@pytest.fixture
def echo() -> Iterator[Changeover]:
    with launch({"echo": ECHOES}) as co:
        yield co


def supervisor_pid(co: Changeover) -> int:
    pid: int = co.status()["pid"]
    return pid


def worker_pids(co: Changeover, plugin: str) -> list[int]:
    return [worker["pid"] for worker in co.status()["plugins"][plugin]["workers"]]


def gone(pids: list[int]) -> bool:
    """Have all of these ended (those that are not our children count when they are reaped)?"""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return not psutil.wait_procs(processes, PATIENCE_S)[1]


class Hold:
    """A job of `heeds` or `holds` that lasts until it may go."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "hold")
        os.mkfifo(self.path)
        os.mkfifo(self.path + ".began")

    def wait_begun(self) -> None:
        with open(self.path + ".began", "rb", buffering=0) as file:
            assert file.read(1) == b"."

    def release(self) -> None:
        with open(self.path, "wb", buffering=0) as file:
            file.write(b".")


# -- coming up


def test_it_returns_when_all_plugins_are_live() -> None:
    plugins: dict[str, Any] = {
        "echo": str(ECHOES),
        "items": {"source": YIELDS, "workers": 2},
        "double": lambda x: 2 * x,
    }
    with launch(plugins, settle="5s") as co:
        states = {name: plugin["state"] for name, plugin in co.status()["plugins"].items()}
        assert states == {"echo": "live", "items": "live", "double": "live"}
        assert co["echo"](1, a=2) == [1, {"a": 2}]
        assert list(co["items"].stream(3)) == [0, 10, 20]
        assert co["double"](21) == 42


def test_a_path_is_meant_where_the_caller_is(
    plugin_file: PluginFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plugin_file("sub/echoes.py", ECHOES.read_text())
    monkeypatch.chdir(tmp_path)
    with launch({"echo": "sub/echoes.py"}) as co:
        assert co["echo"](1) == 1


def test_a_config_in_the_caller_s_folder_is_not_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "changeover.toml").write_text("[plugins.other]\nsource = 'missing.py'\n")
    monkeypatch.chdir(tmp_path)
    with launch({"echo": ECHOES}) as co:
        assert list(co.status()["plugins"]) == ["echo"]


def test_the_first_failure_is_raised_and_nothing_is_left(plugin_file: PluginFile) -> None:
    bad = plugin_file("bad.py", "import nosuchmodule\n")
    with pytest.raises(Refused, match="nosuchmodule") as caught:
        launch({"echo": ECHOES, "bad": bad})
    assert (caught.value.plugin, caught.value.executed) == ("bad", "no")
    assert caught.value.stage
    assert "nosuchmodule" in str(caught.value.cause)


def test_a_key_that_does_not_exist_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"worker.*did you mean"):
        launch({"echo": {"source": ECHOES, "worker": 2}})


def test_a_wrong_supervisor_key_is_told_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Disconnected, match="exited with status 2, before it answered"):
        launch({"echo": ECHOES}, setle="100ms")
    assert "setle" in capfd.readouterr().err


def test_supervisor_keys_arrive_whatever_is_in_them(tmp_path: Path) -> None:
    odd = tmp_path / 'a "b" \\ ü = [1]'
    with launch({"echo": ECHOES}, state_dir=str(odd), max_spawns=1, log={"level": "error"}) as co:
        assert co["echo"](1) == 1
        assert (odd / "history.jsonl").exists()


# -- jobs


def test_a_job_says_where_it_ran(echo: Changeover) -> None:
    future = echo["echo"].submit("x")
    assert future.result(PATIENCE_S) == "x"
    live = echo.status()["plugins"]["echo"]
    assert (future.info.release, future.info.version) == (1, "1.2.3")
    assert future.info.digest == live["release"]["digest"]
    assert future.info.generation == live["generation"]
    assert future.info.worker == live["workers"][0]["id"]


def test_a_plugin_s_exception_comes_with_its_traceback() -> None:
    with launch({"items": YIELDS}) as co:
        with pytest.raises(PluginError, match="ValueError: no boxes") as caught:
            co["items"].method("fails")("no boxes")
        assert caught.value.type == "ValueError"
        assert str(YIELDS) in str(caught.value)


def test_progress_and_items_of_a_real_generator() -> None:
    heard: list[Progress] = []
    with launch({"items": YIELDS}) as co:
        stream = co["items"].options(on_progress=heard.append, credits=2).stream(20)
        assert list(stream) == [10 * n for n in range(20)]
        assert stream.future.result() == "end"
    assert heard[-1] == Progress(20, 20, "20 of 20")


def test_a_running_job_can_be_cancelled(tmp_path: Path) -> None:
    hold = Hold(tmp_path)
    with launch({"x": {"source": HEEDS, "workers": 1}}) as co:
        running = co["x"].submit(hold.path)
        hold.wait_begun()
        queued = co["x"].submit("never looked at")
        assert queued.cancel() is True
        with pytest.raises(Cancelled) as caught:
            queued.result(0)
        assert caught.value.executed == "no"
        assert [job["job"] for job in co.jobs("x")] == [running.info.job]
        running.cancel()
        with pytest.raises(Cancelled) as caught:
            running.result(PATIENCE_S)
        assert caught.value.executed in ("maybe", "yes")
        counts = co.status()["plugins"]["x"]["counts"]
        assert (counts["accepted"], counts["cancelled"]) == (2, 2)


def test_a_worker_that_dies_costs_a_pure_plugin_nothing() -> None:
    with launch({"echo": {"source": ECHOES, "workers": 2}}) as co:
        results = co["echo"].map(range(300), buffersize=32)
        got = [next(results) for _ in range(50)]
        os.kill(worker_pids(co, "echo")[0], signal.SIGKILL)
        got.extend(results)
        assert got == list(range(300))


def test_a_worker_that_dies_takes_its_job_along_where_it_is_not_pure() -> None:
    with launch({"dies": PLUGINS / "dies.py"}) as co:
        with pytest.raises(WorkerLost) as caught:
            co["dies"](signal=int(signal.SIGSEGV))
        assert (caught.value.signal, caught.value.executed) == ("SIGSEGV", "maybe")
        assert caught.value.reason == "crashed"


def test_a_deadline_that_passes_is_a_timeout(tmp_path: Path) -> None:
    hold = Hold(tmp_path)
    with launch({"x": HEEDS}) as co:
        thread = threading.Thread(target=hold.wait_begun)
        thread.start()
        with pytest.raises(TimeoutError):
            co["x"](hold.path, timeout=0.2)
        thread.join(PATIENCE_S)


# -- changeovers


def test_a_callable_is_swapped(echo: Changeover) -> None:
    heard: list[Change] = []
    told = threading.Event()
    factor = 2
    echo.add("scale", lambda x: factor * x)
    assert echo["scale"](10) == 20
    echo.on_changeover(heard.append)
    echo.on_changeover(lambda _: told.set())
    factor = 5
    outcome = echo.reload("scale", lambda x: factor * x)
    assert (outcome.outcome, outcome["to"]["number"]) == ("done", 2)
    assert echo["scale"](10) == 50
    assert told.wait(PATIENCE_S)
    assert (heard[0].plugin, heard[0].from_, heard[0].release) == ("scale", 1, 2)
    back = echo.rollback("scale")
    assert back.to["number"] == 1
    factor = 7
    assert echo["scale"](10) == 20
    assert [entry["outcome"] for entry in echo.history("scale", limit=3)][-1] == "done"


def test_what_is_refused_is_raised_with_the_document(plugin_file: PluginFile) -> None:
    path = plugin_file("echoes.py", ECHOES.read_text())
    with launch({"echo": path}, watch="off") as co:
        plugin_file("echoes.py", "raise ValueError('no model')\n")
        with pytest.raises(Refused) as caught:
            co.reload("echo")
        error = caught.value
        assert (error.outcome, error.plugin) == ("refused", "echo")
        assert error.from_["number"] == 1  # type: ignore[index]
        assert "refused, still on 1.2.3 @1" in str(error)
        assert "no model" in str(error)
        assert "changeover reload echo" in str(error)
        assert co["echo"](1) == 1


def test_plugins_come_and_go(echo: Changeover) -> None:
    added = echo.add("items", YIELDS)
    assert added["release"]["number"] == 1
    assert echo["items"](2) == [0, 10]
    echo.remove("items")
    assert list(echo.status()["plugins"]) == ["echo"]


def test_a_paused_plugin_lets_its_callers_wait(echo: Changeover) -> None:
    assert echo.pause("echo") == {"running": 0, "queued": 0}
    future = echo["echo"].submit("later")
    assert echo.jobs()[0]["state"] == "queued"
    echo.resume("echo")
    assert future.result(PATIENCE_S) == "later"


def test_watching_a_changeover(echo: Changeover) -> None:
    with echo.watch("plugins", "workers", plugin="echo") as watch:
        assert watch.snapshot["plugins"]["echo"]["state"] == "live"
        echo.reload("echo", lambda x: x)
        kinds = {event.kind for event, _ in zip(watch, range(8), strict=False)}
    assert {"plugin_changed", "change_phase", "worker_changed"} <= kinds


# -- the end


def test_closing_finishes_what_was_accepted(tmp_path: Path) -> None:
    hold = Hold(tmp_path)
    co = launch({"x": HEEDS})
    future = co["x"].submit(hold.path)
    hold.wait_begun()
    thread = threading.Thread(target=co.close)
    thread.start()
    hold.release()
    thread.join(PATIENCE_S)
    assert future.result(0) == "went"


def test_closing_never_hangs_on_a_job_that_does(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    co = launch({"x": PLUGINS / "hangs.py"}, stop_timeout="200ms")
    future = co["x"].submit(str(fifo))
    pids = [supervisor_pid(co), *worker_pids(co, "x")]
    co.close()
    assert future.done()
    assert gone(pids)


def test_a_supervisor_that_does_not_answer_is_killed_with_all_it_started() -> None:
    co = launch({"x": PLUGINS / "ignores_sigterm.py"})
    pids = [supervisor_pid(co), *worker_pids(co, "x")]
    os.kill(pids[0], signal.SIGSTOP)
    co.close(now=True)
    assert gone(pids)


def test_a_supervisor_that_dies_fails_everything_at_once(tmp_path: Path) -> None:
    hold = Hold(tmp_path)
    co = launch({"x": HEEDS})
    pids = [supervisor_pid(co), *worker_pids(co, "x")]
    future = co["x"].submit(hold.path)
    hold.wait_begun()
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(Disconnected, match="died of SIGKILL") as caught:
        future.result(PATIENCE_S)
    assert caught.value.executed == "maybe"
    with pytest.raises(Disconnected):
        co["x"]("again")
    co.close()
    assert gone(pids)


def run_script(text: str, **keys: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", dedent(text)], stdout=subprocess.PIPE, text=True, **keys
    )


BEGIN = f"""
import os, signal, sys
from changeover.client import launch
co = launch({{"echo": {str(ECHOES)!r}}}, log={{"level": "error"}})
worker = co.status()["plugins"]["echo"]["workers"][0]["pid"]
pids = co.status()["pid"], worker
"""
SAY = "print(*pids, flush=True)\n"


def pids_of(script: subprocess.Popen[str]) -> list[int]:
    assert script.stdout is not None
    return [int(word) for word in script.stdout.readline().split()]


def test_a_program_that_ends_without_closing_leaves_nothing() -> None:
    with run_script(BEGIN + SAY + "future = co['echo'].submit(1)\n") as script:
        pids = pids_of(script)
        assert script.wait(PATIENCE_S) == 0
    assert gone(pids)


def test_a_program_that_is_killed_leaves_nothing() -> None:
    with run_script(BEGIN + SAY + "signal.pause()\n") as script:
        pids = pids_of(script)
        script.kill()
    assert gone(pids)


def test_ctrl_c_reaches_the_program_alone() -> None:
    text = BEGIN + dedent(
        """
        try:
            print(*pids, flush=True)
            signal.pause()
        except KeyboardInterrupt:
            print(co["echo"]("still served"), flush=True)
        co.close()
        """
    )
    with run_script(text, start_new_session=True) as script:
        pids = pids_of(script)
        os.killpg(script.pid, signal.SIGINT)
        assert script.stdout is not None
        assert script.stdout.readline() == "still served\n"
        assert script.wait(PATIENCE_S) == 0
    assert gone(pids)


def test_a_closure_of_a_script_runs_and_is_swapped() -> None:
    text = """
    from changeover.client import launch

    BASE = 100

    def make(factor):
        def scale(x):
            return helper(factor * x)
        return scale

    def helper(x):
        return BASE + x

    with launch({"scale": make(2)}, log={"level": "error"}) as co:
        print(co["scale"](1))
        co.reload("scale", make(3))
        print(co["scale"](1))
    """
    with run_script(text) as script:
        assert script.stdout is not None
        assert script.stdout.read() == "102\n103\n"


# -- the other ways in


def test_the_asyncio_twin_launches_too() -> None:
    async def main() -> None:
        async with alaunch({"echo": ECHOES}) as co:
            assert await co["echo"](1) == 1
            assert [n async for n in co["echo"].map(range(50))] == list(range(50))
            assert (await co.status("echo"))["plugins"]["echo"]["state"] == "live"

    asyncio.run(main())


def test_a_service_that_restarts_is_found_again(tmp_path: Path) -> None:
    config = tmp_path / "changeover.toml"
    config.write_text(f"[plugins.echo]\nsource = {str(ECHOES)!r}\n")
    command = [
        *(sys.executable, "-P", "-m", "changeover.supervisor", "-c", str(config)),
        *("-s", str(tmp_path / "s"), "-o", f"state_dir={tmp_path / 'state'}", "serve"),
    ]
    first = serve(command)
    co = connect(str(tmp_path / "s"))
    assert co["echo"](1) == 1
    os.kill(first.pid, signal.SIGKILL)
    finish(first)
    futures = [co["echo"].submit(n) for n in range(5)]
    second = serve(command)
    assert [future.result(PATIENCE_S) for future in futures] == list(range(5))
    co.close()
    second.terminate()
    assert finish(second) == 0


def serve(command: list[str]) -> subprocess.Popen[str]:
    """A service, as soon as it listens."""
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert service.stderr is not None
    assert any("listening on" in line for line in service.stderr)
    return service


def finish(service: subprocess.Popen[str]) -> int:
    assert service.stderr is not None
    service.stderr.read()
    service.stderr.close()
    return service.wait(PATIENCE_S)


def test_a_transport_that_is_never_used_ends_its_child() -> None:
    transport = ChildTransport({})
    transport.close(0.0)
    assert "died of SIGKILL" in transport.epitaph()
