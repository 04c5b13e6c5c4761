"""What starts a changeover and what does not: the trigger table, with real files and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from changeover.client import Changeover, Refused, connect, launch

from .conftest import PluginFile

DEADLINE_S = 30.0


def text(version: str, body: str = "number") -> str:
    return f"""
    from changeover.worker import plugin

    @plugin(version="{version}", pure=True)
    def echo(number):
        return {body}
    """


class Cuts:
    """Waits for changeovers that nobody asked for by name."""

    def __init__(self, co: Changeover) -> None:
        self._changes: SimpleQueue[Any] = SimpleQueue()
        co.on_changeover(self._changes.put)

    def wait_for(self, co: Changeover, version: str) -> None:
        """Until a release of this version serves."""
        while (co.status()["plugins"]["echo"]["release"] or {})["version"] != version:
            self._changes.get(timeout=DEADLINE_S)


def start(path: Path, reload: Any = "on-change", **keys: Any) -> Changeover:
    spec = {"source": str(path), "reload": reload, **keys}
    return launch({"echo": spec}, settle="20ms")


def generation(co: Changeover) -> int:
    number: int = co.status()["plugins"]["echo"]["generation"]
    return number


def test_a_changed_file_is_loaded_by_itself(plugin_file: PluginFile) -> None:
    path = plugin_file("echo.py", text("1.0.0"))
    with start(path) as co:
        cuts = Cuts(co)
        plugin_file("echo.py", text("2.0.0"))
        cuts.wait_for(co, "2.0.0")
        plugin_file("echo.py", text("1.0.0"))
        cuts.wait_for(co, "1.0.0")
        assert co.status()["plugins"]["echo"]["release"]["number"] == 1  # belongs to the content


def test_a_touched_file_is_not(plugin_file: PluginFile) -> None:
    path = plugin_file("echo.py", text("1.0.0"))
    with start(path) as co:
        before = generation(co)
        os.utime(path)
        assert [each.outcome for each in co.reload_changed()] == ["unchanged"]
        assert generation(co) == before


def test_on_signal_a_changed_file_waits_for_hup(plugin_file: PluginFile) -> None:
    path = plugin_file("echo.py", text("1.0.0"))
    with start(path, "on-signal") as co:
        cuts = Cuts(co)
        plugin_file("echo.py", text("2.0.0"))
        assert co["echo"](1) == 1
        assert generation(co) == 1
        os.kill(co.status()["pid"], signal.SIGHUP)
        cuts.wait_for(co, "2.0.0")


def test_a_bare_reload_takes_what_has_changed(plugin_file: PluginFile) -> None:
    path = plugin_file("echo.py", text("1.0.0"))
    with start(path, "on-signal") as co:
        plugin_file("echo.py", text("2.0.0"))
        assert [each.outcome for each in co.reload_changed()] == ["done"]
        assert [each.outcome for each in co.reload_changed()] == ["unchanged"]


def test_a_schedule_refreshes_even_the_same_content(plugin_file: PluginFile) -> None:
    path = plugin_file("echo.py", text("1.0.0"))
    with start(path, {"every": "300ms"}) as co:
        seen = threading.Semaphore(0)
        co.on_changeover(lambda _change: seen.release())
        assert seen.acquire(timeout=DEADLINE_S)
        plugin = co.status()["plugins"]["echo"]
        assert plugin["release"]["number"] == 1
        assert plugin["generation"] > 1


def test_reload_by_name_of_the_same_content_is_nothing_to_do(plugin_file: PluginFile) -> None:
    path = plugin_file("echo.py", text("1.0.0"))
    with start(path, "on-signal") as co:
        assert co.reload("echo").outcome == "unchanged"
        assert generation(co) == 1
        assert co.reload("echo", force=True).outcome == "done"
        assert generation(co) == 2


def test_what_a_rollback_leaves_is_held_until_it_is_reloaded_by_name(
    plugin_file: PluginFile,
) -> None:
    path = plugin_file("echo.py", text("1.0.0"))
    with start(path, "on-signal") as co:
        plugin_file("echo.py", text("2.0.0"))
        co.reload("echo")
        assert co.rollback("echo").outcome == "done"
        assert co.status()["plugins"]["echo"]["release"]["version"] == "1.0.0"
        assert [each.outcome for each in co.reload_changed()] == ["unchanged"]
        assert co.reload("echo").outcome == "done"
        assert co.status()["plugins"]["echo"]["release"]["version"] == "2.0.0"


def test_disabled_refuses_everything_but_still_restarts_after_a_crash(
    plugin_file: PluginFile,
) -> None:
    path = plugin_file("echo.py", text("1.0.0"))
    with start(path, "disabled") as co:
        plugin_file("echo.py", text("2.0.0"))
        assert co.reload_changed() == []
        requests: list[Callable[[], object]] = [
            lambda: co.reload("echo"),
            lambda: co.reload("echo", force=True),
            lambda: co.rollback("echo", to=1),
        ]
        for refuse in requests:
            with pytest.raises(Refused, match="disabled"):
                refuse()
        os.kill(co.status()["plugins"]["echo"]["workers"][0]["pid"], signal.SIGKILL)
        assert co["echo"](5) == 5
        assert co.status()["plugins"]["echo"]["release"]["version"] == "1.0.0"


def test_after_a_crash_the_approved_bytes_run_whatever_is_on_disk(plugin_file: PluginFile) -> None:
    path = plugin_file("echo.py", text("1.0.0"))
    with start(path, "on-signal") as co:
        plugin_file("echo.py", text("2.0.0", "-number"))
        os.kill(co.status()["plugins"]["echo"]["workers"][0]["pid"], signal.SIGKILL)
        assert [co["echo"](n) for n in range(5)] == [0, 1, 2, 3, 4]


def test_a_pin_lets_only_that_content_run(plugin_file: PluginFile) -> None:
    import hashlib

    path = plugin_file("echo.py", text("1.0.0"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with start(path, "on-signal", pin=f"sha256:{digest}") as co:
        plugin_file("echo.py", text("2.0.0"))
        with pytest.raises(Refused, match="pin"):
            co.reload("echo")
        assert co.status()["plugins"]["echo"]["release"]["digest"] == digest


def test_a_restart_on_bad_content_runs_the_last_approved_release(
    plugin_file: PluginFile, tmp_path: Path
) -> None:
    path = plugin_file("echo.py", text("1.0.0"))
    state_dir = str(tmp_path / "state")
    config = plugin_file("changeover.toml", "")
    config.write_text(
        f'[supervisor]\nstate_dir = "{state_dir}"\n[plugins.echo]\nsource = "{path}"\n'
        'reload = "on-signal"\nprobation = "1ms"\n'
    )
    with serve(config, tmp_path) as co:
        assert co["echo"](1) == 1
        plugin_file("echo.py", "import nosuchmodule\n")
        with pytest.raises(Refused):
            co.reload("echo")
    with serve(config, tmp_path) as co:
        assert co["echo"](2) == 2
        assert co.status()["plugins"]["echo"]["release"]["version"] == "1.0.0"


@contextmanager
def serve(config: Path, folder: Path) -> Iterator[Changeover]:
    """A service on a socket, until the end of the block."""
    socket = folder / "changeover.sock"
    command = [sys.executable, "-P", "-m", "changeover.supervisor", "serve"]
    with subprocess.Popen(
        [*command, "-c", str(config), "-s", str(socket)], stderr=subprocess.PIPE, text=True
    ) as service:
        assert service.stderr is not None
        assert "listening" in service.stderr.readline()
        with connect(str(socket)) as co:
            yield co
        service.terminate()
        service.stderr.read()
        assert service.wait(DEADLINE_S) == 0
