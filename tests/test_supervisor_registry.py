"""The seed's twenty tests, on real files and processes, and what the registry has learned since."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from changeover.protocol.plugin_version import PluginVersion
from changeover.supervisor.digest import compute_hash, compute_hash_file
from changeover.supervisor.graceful import DrainReport, GracefulReload
from changeover.supervisor.registry import (
    ON_CHANGE,
    Cron,
    Disabled,
    Every,
    HotReloadManager,
    NotFound,
    OnChange,
    OnSignal,
    WatchEntry,
)

WALL = datetime(2026, 1, 1, tzinfo=UTC)


def a_version(plugin: str, version: str) -> PluginVersion:
    return PluginVersion(id=plugin, version=version, hash=0, loaded_at=WALL)


@pytest.fixture
def manager() -> HotReloadManager:
    return HotReloadManager()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A plugin's file."""
    path = tmp_path / "plug.so"
    path.write_bytes(b"v1")
    return path


class Process:
    """A worker that holds one job until it ends: a real process, blocked on a pipe of ours."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
        )

    @property
    def borrowed(self) -> int:
        return int(self._process.poll() is None)

    def finish(self) -> None:
        """It ends by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def force_kill(self) -> int:
        self._process.kill()
        self.finish()
        return 1


@pytest.fixture
def process() -> Iterator[Process]:
    worker = Process()
    yield worker
    if worker.borrowed:
        worker.force_kill()


def end_of(drain: Iterator[float | None]) -> DrainReport:
    """The report of a drain that is over."""
    with pytest.raises(StopIteration) as stopped:
        next(drain)
    report = stopped.value.value
    assert isinstance(report, DrainReport)
    return report


# -- the seed's, in its order


def test_the_hash_is_deterministic() -> None:
    assert compute_hash(b"hello") == compute_hash(b"hello")


def test_the_hash_differs_for_different_content() -> None:
    assert compute_hash(b"foo") != compute_hash(b"bar")


def test_the_hash_of_nothing_is_the_offset_basis() -> None:
    assert compute_hash(b"") == 14_695_981_039_346_656_037


def test_a_new_manager_is_empty(manager: HotReloadManager) -> None:
    assert (manager.loaded_plugins, manager.watchers) == ({}, {})


def test_a_plugin_that_was_loaded_is_registered(manager: HotReloadManager) -> None:
    manager.register_loaded(a_version("codec-a", "1.0.0"))
    assert "codec-a" in manager.loaded_plugins


def test_a_watch_keeps_the_hash_of_the_file(manager: HotReloadManager, source: Path) -> None:
    manager.watch("plug", str(source), compute_hash_file(source))
    assert manager.watchers["plug"].last_hash == compute_hash(b"v1")


def test_a_file_that_stays_is_no_change(manager: HotReloadManager, source: Path) -> None:
    manager.watch("p", str(source), compute_hash_file(source))
    assert manager.check_for_changes({"p": compute_hash_file(source)}) == []


def test_a_file_that_was_written_is_a_change(manager: HotReloadManager, source: Path) -> None:
    manager.watch("p", str(source), compute_hash_file(source))
    source.write_bytes(b"v2")
    assert manager.check_for_changes({"p": compute_hash_file(source)}) == ["p"]


def test_an_updated_hash_is_no_change(manager: HotReloadManager, source: Path) -> None:
    manager.watch("p", str(source), compute_hash_file(source))
    source.write_bytes(b"v2")
    manager.update_hash("p", compute_hash_file(source))
    assert manager.check_for_changes({"p": compute_hash_file(source)}) == []


def test_a_reload_updates_the_version(manager: HotReloadManager) -> None:
    manager.register_loaded(a_version("p", "1.0.0"))
    manager.reload_plugin("p", a_version("p", "1.1.0"))
    assert manager.loaded_plugins["p"].version == "1.1.0"


def test_a_reload_of_an_unknown_plugin_is_not_found(manager: HotReloadManager) -> None:
    with pytest.raises(NotFound, match="ghost"):
        manager.reload_plugin("ghost", a_version("ghost", "1.0.0"))


def test_an_unload_removes_the_plugin(manager: HotReloadManager) -> None:
    manager.register_loaded(a_version("p", "1.0.0"))
    manager.unload_plugin("p")
    assert "p" not in manager.loaded_plugins


def test_an_unload_of_an_unknown_plugin_is_not_found(manager: HotReloadManager) -> None:
    with pytest.raises(NotFound):
        manager.unload_plugin("ghost")


def test_disabled_is_no_auto_reload(manager: HotReloadManager) -> None:
    manager.set_policy("p", Disabled(), 0.0, WALL)
    assert not manager.auto_reload_enabled("p")


def test_on_change_is_auto_reload(manager: HotReloadManager) -> None:
    manager.set_policy("p", OnChange(), 0.0, WALL)
    assert manager.auto_reload_enabled("p")


def test_a_large_interval_is_not_due(manager: HotReloadManager) -> None:
    manager.set_policy("p", Every(1000.0), 0.0, WALL)
    assert not manager.is_scheduled_reload_due("p", 1.0, WALL)


def test_a_graceful_reload_succeeds(manager: HotReloadManager, process: Process) -> None:
    manager.register_loaded(a_version("p", "1.0.0"))
    drain = GracefulReload(100.0).drain_and_reload(process, now=0.0)
    assert next(drain) == 100.0
    process.finish()
    assert end_of(drain) == DrainReport(drained=1, killed=0)
    manager.reload_plugin("p", a_version("p", "1.2.0"))
    assert manager.loaded_plugins["p"].version == "1.2.0"


def test_a_graceful_reload_of_an_unknown_plugin_is_not_found(
    manager: HotReloadManager, process: Process
) -> None:
    process.finish()
    end_of(GracefulReload(0.0).drain_and_reload(process, now=0.0))
    with pytest.raises(NotFound):
        manager.reload_plugin("ghost", a_version("ghost", "1.0.0"))


def test_a_watch_entry_keeps_its_path() -> None:
    entry = WatchEntry("plug", "/some/path.so", 0xABCD)
    assert (entry.plugin_id, entry.path, entry.last_hash) == ("plug", "/some/path.so", 0xABCD)


def test_of_several_watched_only_the_changed_are_returned(
    manager: HotReloadManager, tmp_path: Path
) -> None:
    paths = {name: tmp_path / f"{name}.so" for name in "ab"}
    for name, path in paths.items():
        path.write_bytes(b"v1" + name.encode())
        manager.watch(name, str(path), compute_hash_file(path))
    paths["a"].write_bytes(b"v2a")
    seen = {name: compute_hash_file(path) for name, path in paths.items()}
    assert manager.check_for_changes(seen) == ["a"]


# -- since


def test_a_collision_of_the_hash_is_caught_by_the_digest(manager: HotReloadManager) -> None:
    manager.watch("p", "/p.py", 1, "aaaa")
    assert manager.check_for_changes({"p": (1, "bbbb")}) == ["p"]


def test_a_source_that_is_not_looked_at_is_no_change(manager: HotReloadManager) -> None:
    manager.watch("p", "/p.py", 1)
    assert manager.check_for_changes({}) == []


def test_an_interval_that_has_passed_is_due_once(manager: HotReloadManager) -> None:
    manager.set_policy("p", Every(10.0), 0.0, WALL)
    assert manager.is_scheduled_reload_due("p", 10.0, WALL)
    assert not manager.is_scheduled_reload_due("p", 10.0, WALL)


def test_a_cron_is_due_by_the_wall_clock(manager: HotReloadManager) -> None:
    manager.set_policy("p", Cron("0 3 * * *"), 0.0, WALL)
    assert not manager.is_scheduled_reload_due("p", 0.0, WALL + timedelta(hours=2))
    assert manager.is_scheduled_reload_due("p", 0.0, WALL + timedelta(hours=3))


def test_a_policy_that_stays_does_not_begin_anew(manager: HotReloadManager) -> None:
    manager.set_policy("p", Every(10.0), 0.0, WALL)
    manager.set_policy("p", Every(10.0), 9.0, WALL)
    assert manager.is_scheduled_reload_due("p", 10.0, WALL)


def test_a_policy_that_changes_forgets_what_was_due(manager: HotReloadManager) -> None:
    manager.set_policy("p", Every(10.0), 0.0, WALL)
    manager.set_policy("p", OnSignal(), 1.0, WALL)
    assert not manager.is_scheduled_reload_due("p", 10.0, WALL)
    assert manager.next_due_s(10.0, WALL) is None


def test_the_next_due_time_is_the_nearest(manager: HotReloadManager) -> None:
    manager.set_policy("a", Every(100.0), 0.0, WALL)
    manager.set_policy("b", Cron("1 0 * * *"), 0.0, WALL)
    assert manager.next_due_s(0.0, WALL) == 60.0


def test_nothing_is_due_of_what_was_unloaded(manager: HotReloadManager) -> None:
    manager.set_policy("p", Every(10.0), 0.0, WALL)
    manager.register_loaded(a_version("p", "1.0.0"))
    manager.unload_plugin("p")
    assert manager.next_due_s(0.0, WALL) is None


def test_on_change_is_the_default() -> None:
    assert OnChange() == ON_CHANGE


def test_a_drain_of_nothing_is_over_at_once(process: Process) -> None:
    process.finish()
    assert end_of(GracefulReload(100.0).drain_and_reload(process, now=0.0)) == DrainReport()


def test_a_drain_kills_at_its_deadline(process: Process) -> None:
    drain = GracefulReload(5.0).drain_and_reload(process, now=10.0)
    assert next(drain) == 15.0
    assert drain.send(14.9) == 15.0
    assert drain.send(15.0) is None
    assert process.borrowed == 0
    assert end_of(drain) == DrainReport(drained=0, killed=1)


def test_a_drain_without_time_kills_at_once(process: Process) -> None:
    drain = GracefulReload(0.0).drain_and_reload(process, now=0.0)
    assert next(drain) is None
    assert end_of(drain).killed == 1


def test_a_drain_without_a_limit_waits(process: Process) -> None:
    drain = GracefulReload(None).drain_and_reload(process, now=0.0)
    assert next(drain) is None
    assert drain.send(1e9) is None
