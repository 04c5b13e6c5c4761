"""The state_dir was harmed by hand, or cannot be written: said, and what can serve serves."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from changeover.client import Changeover, Unavailable, launch

from .conftest import PluginFile
from .pipes import plugin_text
from .serving import MAY_MOUNT, Service, added, await_said, need_mounts, worker_pid

STARTS = ("exec", "spawn", "forkserver")


def plugins(folder: Path) -> str:
    """A config of two: each release is approved at once."""
    keys = 'reload = "on-signal"\nprobation = "1ms"\nrestart = "1ms..1ms"\n'
    return "".join(f'[plugins.{name}]\nsource = "{folder}/{name}.py"\n{keys}' for name in "ab")


@pytest.fixture
def folder(tmp_path: Path, plugin_file: PluginFile) -> Path:
    """Two plugins of different content, both version 1.0.0."""
    for name in "ab":
        plugin_file(f"{name}.py", f"# {name}\n{plugin_text('1.0.0', pure=True)}")
    return tmp_path


def digest_of(co: Changeover, name: str) -> str:
    digest: str = co.status()["plugins"][name]["release"]["digest"]
    return digest


def harm(state_dir: Path, digest: str) -> None:
    """Write into a staged file, as only a person would."""
    (staged,) = (state_dir / "store" / digest).rglob("*.py")
    staged.chmod(0o600)
    staged.write_text(plugin_text("6.6.6", pure=True))
    staged.chmod(0o400)


def approve(service: Service) -> str:
    """Wait until both have finished their watch; the digest of the first."""
    with service.client() as co:
        service.await_line("1.0.0 @1 live", 2)
        approved = 0
        while approved < 2:
            approved = sum(entry["event"] == "approved" for entry in co.history())
        return digest_of(co, "a")


def test_a_release_that_was_harmed_is_made_again_before_it_is_restarted(folder: Path) -> None:
    state_dir = folder / "state"
    with launch({}, watch="off", state_dir=str(state_dir)) as co:
        for start in STARTS:
            with (
                added(co, "a", source=str(folder / "a.py"), start=start) as job,
                co.watch("log", plugin="a") as log,
            ):
                harm(state_dir, digest_of(co, "a"))
                os.kill(worker_pid(co, "a"), signal.SIGKILL)
                assert job(1)[1] == "1.0.0"
                await_said(log, "harmed in the store; made again from its source")


def test_a_release_that_was_harmed_and_is_nowhere_else_is_not_run(
    folder: Path, plugin_file: PluginFile
) -> None:
    with Service(folder, plugins(folder)) as service, service.client() as co:
        service.await_line("1.0.0 @1 live", 2)
        harm(folder / "state", digest_of(co, "a"))
        plugin_file("a.py", plugin_text("2.0.0", pure=True))
        os.kill(worker_pid(co, "a"), signal.SIGKILL)
        with pytest.raises(Unavailable):
            co["a"](1)
        assert co["b"](1)[1] == "1.0.0"
        service.await_line("was changed there")
        assert service.run("reload", "a") == 0
        assert co["a"](1)[1] == "2.0.0"


def test_when_the_approved_release_was_harmed_the_others_serve(
    folder: Path, plugin_file: PluginFile
) -> None:
    with Service(folder, plugins(folder)) as service:
        digest = approve(service)
        plugin_file("a.py", "import nosuchmodule\n")
        assert service.run("reload", "a") == 5
    harm(folder / "state", digest)
    with Service(folder, plugins(folder)) as service, service.client() as co:
        service.await_line("was changed there")
        with pytest.raises(Unavailable):
            co["a"](1)
        assert co["b"](1)[1] == "1.0.0"


def test_a_history_that_was_edited_is_said_and_kept_aside(folder: Path) -> None:
    with Service(folder, plugins(folder)) as service:
        approve(service)
    history = folder / "state" / "history.jsonl"
    history.write_text(history.read_text().replace("1.0.0", "9.9.9", 1))
    with Service(folder, plugins(folder)) as service, service.client() as co:
        service.await_line("history.jsonl")
        assert [co[name](1)[1] for name in "ab"] == ["1.0.0", "1.0.0"]
        assert service.run("history", "--verify") == 0
    assert any("9.9.9" in each.read_text() for each in history.parent.glob("history*"))


def test_a_state_dir_that_cannot_be_written_is_refused_in_words(folder: Path) -> None:
    need_mounts()
    (folder / "state").mkdir()
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    wrapper = [*MAY_MOUNT, "sh", "-c", mount, str(folder / "state")]
    with (
        pytest.raises(AssertionError) as refused,
        Service(folder, plugins(folder), wrapper=wrapper),
    ):
        pass
    said = str(refused.value)
    assert "cannot be written: Read-only file system" in said
    assert "name another one: state_dir" in said
    assert "Traceback" not in said
