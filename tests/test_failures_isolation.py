"""What a contained plugin tries and is denied, and what goes on to work around it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from changeover.client import Changeover, Refused, WorkerLost, launch

from .conftest import PluginFile
from .serving import DEADLINE_S, Service, added, need_level, worker_pid
from .test_failures_descendants import Family

TRIES = str(Path(__file__).parent / "plugins" / "tries.py")
SECRET = "CHANGED_OVER_SECRET"
DENIED = {
    "limited": {"PermissionError"},
    "sandboxed": {"PermissionError", "FileNotFoundError", "ProcessLookupError"},
}


@pytest.fixture(scope="module", params=["limited", "sandboxed"])
def level(request: pytest.FixtureRequest) -> str:
    need_level(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def co(state_dir: Path) -> Iterator[Changeover]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECRET, "of the supervisor's")
        with launch({}, watch="off", state_dir=str(state_dir)) as one:
            yield one


@pytest.fixture(scope="module")
def tries(co: Changeover, level: str) -> Iterator[Any]:
    with added(co, "tries", source=TRIES, isolation=level) as plugin:
        yield lambda method, *args: plugin.method(method)(*args)


@pytest.fixture
def port() -> Iterator[int]:
    """Where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_connection_is_denied(tries: Any, level: str, port: int) -> None:
    assert tries("connect", port) in DENIED[level]


def test_with_network_a_connection_is_allowed(co: Changeover, level: str, port: int) -> None:
    with added(co, "online", source=TRIES, isolation=level, network=True) as plugin:
        assert plugin.method("connect")(port) == ""


def test_an_abstract_socket_is_out_of_reach(tries: Any) -> None:
    name = secrets.token_hex()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        assert tries("connect_abstract", name) in {"PermissionError", "ConnectionRefusedError"}


def test_files_of_others_cannot_be_read(tries: Any, level: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)

    assert tries("read", str(secret)) in DENIED[level]
    assert tries("read", "/etc/shadow") in DENIED[level]
    assert tries("read", TRIES) in DENIED[level]


def test_what_the_system_gives_to_all_can_be_read(tries: Any) -> None:
    for path in ("/etc/passwd", sys.executable, "/proc/self/status", "/dev/urandom"):
        assert tries("read", path) == ""


def test_nothing_can_be_written_outside(
    tries: Any, level: str, tmp_path: Path, state_dir: Path
) -> None:
    there = tmp_path / "there"
    there.touch()

    assert tries("write", str(there)) in DENIED[level]
    assert tries("write", str(tmp_path / "new")) in DENIED[level]
    for place in ("lock", "history.jsonl", "store/new", "plugins/new"):
        assert tries("write", str(state_dir / place)) != ""


def test_the_releases_of_other_plugins_are_out_of_reach(
    co: Changeover, tries: Any, level: str, state_dir: Path, plugin_file: PluginFile
) -> None:
    other = plugin_file(
        "other.py", "from changeover.worker import plugin\nrun = plugin(lambda: 0)\n"
    )
    with added(co, "other", source=str(other)):
        (staged,) = (state_dir / "store").glob("*/other.py")
        assert tries("read", str(staged)) in DENIED[level]


def test_its_own_folders_can_be_written(tries: Any) -> None:
    assert tries("write_own") == ["", ""]


def test_the_supervisor_cannot_be_signalled(co: Changeover, tries: Any, level: str) -> None:
    assert tries("signal", co.status()["pid"]) in DENIED[level]
    assert tries("signal", os.getpid()) in DENIED[level]


def test_its_own_children_can_be_signalled(tries: Any) -> None:
    assert tries("signal_own_child") == ""


def test_the_supervisors_environment_is_kept_from_it(
    co: Changeover, tries: Any, level: str
) -> None:
    environment = tries("environment")

    assert SECRET not in environment
    assert environment["PATH"] == os.environ["PATH"]
    assert tries("read", f"/proc/{co.status()['pid']}/environ") in DENIED[level]
    assert tries("read", f"/proc/{os.getpid()}/environ") in DENIED[level]


def test_what_env_pass_names_gets_through_and_so_does_env(co: Changeover, level: str) -> None:
    keys = {"env_pass": [SECRET], "env": {"OWN": "{slot}"}, "isolation": level}
    with added(co, "passed", source=TRIES, **keys) as plugin:
        environment = plugin.method("environment")()

    assert environment[SECRET] == "of the supervisor's"
    assert environment["OWN"] == "0"


def test_a_load_that_fails_for_a_withheld_variable_says_so(
    co: Changeover, level: str, plugin_file: PluginFile
) -> None:
    source = plugin_file("needs.py", f"import os\nos.environ[{SECRET!r}]\n")
    with (
        pytest.raises(Refused, match=f"KeyError: '{SECRET}'") as caught,
        added(co, "needs", source=str(source), isolation=level),
    ):
        pass

    words = f"{SECRET} is set here but withheld from the worker: name it in env_pass"
    assert words in str(caught.value)


def test_the_process_has_no_privileges_and_gives_way(tries: Any) -> None:
    process = tries("process")

    assert (process["privileges"], process["capabilities"]) == (1, 0)
    assert process["nice"] > os.nice(0)
    assert process["oom"] > int(Path("/proc/self/oom_score_adj").read_text())


@pytest.mark.parametrize("start", ["exec", "spawn"])
def test_it_is_replaced_while_work_flows(
    co: Changeover, level: str, start: str, tmp_path: Path, plugin_file: PluginFile
) -> None:
    text = """
        from changeover.worker import plugin

        @plugin(version="{}", pure=True)
        def double(number):
            return 2 * number
    """
    source = str(plugin_file("double.py", text.format("1.0.0")))
    with added(co, "double", source=source, isolation=level, start=start) as double:
        results = double.map(range(300), buffersize=8)
        first = [next(results) for _ in range(50)]
        plugin_file("double.py", text.format("2.0.0"))
        co.reload("double")
        assert first + list(results) == [2 * number for number in range(300)]
        status = co.status()["plugins"]["double"]

    assert status["release"]["version"] == "2.0.0"
    assert status["isolation"] == level


def test_a_callable_from_code_is_contained_too(level: str, port: int) -> None:
    def connect(port: int) -> str:
        import socket

        try:
            socket.create_connection(("127.0.0.1", port), 10).close()
        except OSError as error:
            return type(error).__name__
        return ""

    with launch({"connect": {"source": connect, "isolation": level}}) as co:
        assert co["connect"](port) in DENIED[level]


def test_a_foreign_program_is_contained_too(
    co: Changeover, level: str, tmp_path: Path, plugin_file: PluginFile
) -> None:
    program = plugin_file(
        "foreign.py",
        f"""
        import sys
        from raw_worker import RawWorker

        class Foreign(RawWorker):
            def on_job(self, msgid, job, method, args, *_):
                try:
                    open({str(tmp_path / "foreign.py")!r})
                except OSError as error:
                    self.answer(msgid, type(error).__name__)

        Foreign().serve()
        """,
    )
    beside = Path(TRIES).with_name("raw_worker.py")
    (tmp_path / beside.name).write_bytes(beside.read_bytes())
    keys = {"include": [beside.name], "command": [sys.executable, "{source}"], "isolation": level}
    with added(co, "foreign", source=str(program), **keys) as foreign:
        assert foreign() in DENIED[level]


def test_a_death_of_a_signal_is_told_as_one(co: Changeover, level: str) -> None:
    with (
        added(co, "dies", source=TRIES, isolation=level) as plugin,
        pytest.raises(WorkerLost) as caught,
    ):
        plugin.method("die")(int(signal.SIGUSR1))

    assert caught.value.signal == "SIGUSR1"


def test_a_straggler_is_killed_at_the_deadline(
    co: Changeover, level: str, tmp_path: Path, plugin_file: PluginFile
) -> None:
    text = """
        import signal
        from changeover.worker import plugin

        @plugin(version="1.0.0")
        def hangs():
            signal.sigwait([signal.SIGUSR1])
    """
    source = str(plugin_file("hangs.py", text))
    keys = {"drain_timeout": "100ms", "kill_grace": "100ms", "isolation": level}
    with added(co, "hangs", source=source, **keys) as hangs:
        future = hangs.submit()
        while co.status()["plugins"]["hangs"]["running"] == 0:
            co.request("ping", 0)
        co.reload("hangs", force=True)
        with pytest.raises(WorkerLost) as caught:
            future.result(DEADLINE_S)

    assert caught.value.reason == "killed_at_drain"


@pytest.mark.parametrize("ending", ["removed", "worker killed", "supervisor killed"])
def test_no_descendant_of_a_contained_worker_is_left(
    tmp_path: Path, level: str, ending: str
) -> None:
    folder = tmp_path / "state" / "plugins" / "tries"
    folder.mkdir(parents=True)
    family = Family(folder)
    config = f'[plugins.tries]\nsource = "{TRIES}"\nisolation = "{level}"\nrestart = "10s..10s"\n'
    with Service(tmp_path, config) as service, service.client() as co:
        service.await_line("live")
        co["tries"].method("leave_descendants")(family.path)
        family.await_members(2)
        if ending == "worker killed":
            os.kill(worker_pid(co, "tries"), signal.SIGKILL)
            family.await_end()
        elif ending == "supervisor killed":
            service.kill()
            family.await_end()
    family.await_end()
    family.close()


def test_in_a_sandbox_one_that_cleared_its_environment_goes_too(tmp_path: Path) -> None:
    need_level("sandboxed")
    folder = tmp_path / "state" / "plugins" / "tries"
    folder.mkdir(parents=True)
    family = Family(folder)
    config = f'[plugins.tries]\nsource = "{TRIES}"\nisolation = "sandboxed"\n'
    with Service(tmp_path, config) as service, service.client() as co:
        service.await_line("live")
        co["tries"].method("leave_nameless")(family.path)
        family.await_members(1)
        service.kill()
        family.await_end()
    family.close()


def test_the_temporary_folder_goes_with_the_worker(
    co: Changeover, level: str, state_dir: Path
) -> None:
    with added(co, "leaves", source=TRIES, isolation=level) as plugin:
        _, folder = plugin.method("folders")()
        assert plugin.method("write_own")() == ["", ""]
        assert folder.startswith(str(state_dir))
        assert os.listdir(folder) == ["own"]
    deadline = time.monotonic() + DEADLINE_S
    while os.path.exists(folder) and time.monotonic() < deadline:
        co.request("ping", 0)
    assert not os.path.exists(folder)


@pytest.fixture(params=["missing", "failing"])
def without_bwrap(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A PATH without it, or where it says what it says under default Docker; what is told then."""
    monkeypatch.setenv("PATH", str(tmp_path))
    if request.param == "missing":
        return 'no program "bwrap" in PATH: apt-get install bubblewrap'
    words = "bwrap: No permissions to create new namespace"
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    program.chmod(0o755)
    return f"bwrap cannot make a sandbox here: {words}"


def test_a_sandbox_that_cannot_be_had_is_a_refusal_and_nothing_weaker(without_bwrap: str) -> None:
    with launch({"tries": {"source": TRIES}}, watch="off") as co:
        with pytest.raises(Refused, match='isolation = "sandboxed" cannot be had here') as caught:
            co.add("boxed", {"source": TRIES, "isolation": "sandboxed"})
        assert without_bwrap in str(caught.value)
        assert "changeover doctor" in str(caught.value)
        assert (
            "boxed" not in co.status()["plugins"] or not co.status()["plugins"]["boxed"]["workers"]
        )
        assert co["tries"].method("write_own")() == ["", ""]


def test_a_plugin_that_is_to_be_sandboxed_serves_on_as_it_was_where_it_cannot(
    without_bwrap: str, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    config = tmp_path / "run" / "changeover.toml"
    with Service(tmp_path / "run", f'[plugins.tries]\nsource = "{TRIES}"\n') as service:
        with service.client() as co:
            service.await_line("live")
            pid = worker_pid(co, "tries")
            config.write_text(f"{config.read_text()}isolation = 'sandboxed'\n")
            assert service.run("reload") == 5
            assert worker_pid(co, "tries") == pid
            assert co.status()["plugins"]["tries"]["bad"] == {}
        service.await_line(without_bwrap)


@pytest.mark.parametrize("start", ["exec", "spawn"])
@pytest.mark.parametrize("isolation", ["trusted", "limited", "sandboxed"])
def test_a_launcher_comes_before_everything_else(
    co: Changeover, isolation: str, start: str
) -> None:
    need_level(isolation)
    keys = {"launcher": ["env", "LAUNCHED=yes"], "start": start, "isolation": isolation}
    with added(co, "launched", source=TRIES, **keys) as plugin:
        assert plugin.method("environment")()["LAUNCHED"] == "yes"


def test_a_launcher_that_is_not_there_is_named(co: Changeover) -> None:
    with (
        pytest.raises(Refused, match="cannot start no-such-launcher: No such file"),
        added(co, "launched", source=TRIES, launcher=["no-such-launcher"]),
    ):
        pass
