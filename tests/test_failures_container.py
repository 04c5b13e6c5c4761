"""Places that allow less: as process 1, on a read-only root, without /proc, in one OOM group."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import PluginFile
from .pipes import plugin_text
from .serving import MAY_MOUNT, Service, need_mounts
from .test_failures_descendants import Family

PLUGINS = Path(__file__).parent / "plugins"
STARTS = ("exec", "spawn", "forkserver")


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    members = Family(tmp_path)
    yield members
    members.close()


def config(source: Path, starts: Sequence[str] = STARTS) -> str:
    """A plugin for each way to start."""
    keys = f'source = "{source}"\nreload = "on-signal"\n'
    plugins = (f'[plugins.{start}]\nstart = "{start}"\n{keys}' for start in starts)
    return "".join(["[supervisor]\nallow_add = true\n", *plugins])


@contextmanager
def contained(
    folder: Path, source: Path, script: str, *options: str, starts: Sequence[str] = STARTS
) -> Iterator[Service]:
    """A supervisor in namespaces of its own, where the script has been run before."""
    need_mounts()
    wrapper = [*MAY_MOUNT, *options, "sh", "-ec", f'{script}\nexec "$@"', str(folder)]
    with Service(folder, config(source, starts), wrapper=wrapper) as service:
        service.await_line("live", len(starts))
        yield service


def all_serve(service: Service, plugin_file: PluginFile, starts: Sequence[str] = STARTS) -> None:
    """Calls, crashes and a changeover."""
    with service.client() as co:
        for start in starts:
            os.kill(co[start](1)[2], signal.SIGKILL)
            assert co[start](1)[1] == "1.0.0"
        plugin_file("job.py", plugin_text("2.0.0", pure=True))
        assert {change.outcome for change in co.reload_changed()} == {"done"}
        for start in starts:
            assert co[start](2)[1] == "2.0.0"


def test_as_process_1_it_reaps_and_kills_what_is_left_to_it(tmp_path: Path, family: Family) -> None:
    source = PLUGINS / "leaves_descendants.py"
    options = ("--pid", "--fork", "--mount-proc", "--kill-child")
    with contained(tmp_path, source, "", *options) as service, service.client() as co:
        service.await_line("pid 1")
        for start in STARTS:
            co[start](family.path)
        family.await_members(9)
        for start in STARTS:
            co.request("remove", start, {})
        family.await_end()
        assert co.status()["pid"] == 1
        assert service.run("stop") == 0
        service.process.wait(30)


READ_ONLY = """
mount --bind "$0" "$0"
mount -o remount,bind,ro /
touch "$0/works"
if touch /tmp/does_not 2> /dev/null; then exit 1; fi
"""


def test_on_a_read_only_root_only_the_state_dir_must_be_written(
    tmp_path: Path, plugin_file: PluginFile
) -> None:
    source = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with contained(tmp_path, source, READ_ONLY) as service:
        all_serve(service, plugin_file)
        warnings = [line for line in service.log if "warning" in line]
        assert all("died of SIGKILL" in line for line in warnings)


def test_without_proc_it_serves_and_says_what_it_cannot_promise(
    tmp_path: Path, plugin_file: PluginFile
) -> None:
    source = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    starts = ("exec", "spawn")
    hidden = "mount -t tmpfs none /proc"
    with contained(tmp_path, source, hidden, starts=starts) as service:
        service.await_line("there is no /proc here")
        all_serve(service, plugin_file, starts)


OOM_GROUP = """
mount -t tmpfs none /sys/fs/cgroup
folder=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir -p "$folder"
echo 1 > "$folder/memory.oom.group"
"""


def test_where_one_oom_kill_takes_all_along_that_is_said(
    tmp_path: Path, plugin_file: PluginFile
) -> None:
    source = plugin_file("job.py", plugin_text("1.0.0", pure=True))
    with contained(tmp_path, source, OOM_GROUP) as service:
        service.await_line("memory.oom.group = 1 here")
        all_serve(service, plugin_file)
