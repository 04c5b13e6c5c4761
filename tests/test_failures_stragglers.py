"""Old workers that do not let go: killed at the deadline, one outcome for each caller."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from changeover.client import Changeover, WorkerLost, launch

from .conftest import PluginFile
from .pipes import Hold

PLUGINS = Path(__file__).parent / "plugins"
STARTS = ("exec", "spawn", "forkserver")
GOOD = """
from changeover.worker import plugin

@plugin(version="2.0.0")
def good(number):
    return number
"""


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, watch="off") as one:
        yield one


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    held = Hold(tmp_path)
    yield held
    held.close()


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("how", ["ignores TERM", "masks signals", "is stuck in C", "is stopped"])
def test_a_worker_that_does_not_let_go_is_killed_at_the_drain_timeout(
    co: Changeover, tmp_path: Path, plugin_file: PluginFile, hold: Hold, how: str, start: str
) -> None:
    path = tmp_path / "job.py"
    shutil.copy(PLUGINS / "clings.py", path)
    keys = {"drain_timeout": "50ms", "kill_grace": "100ms", "start": start}
    co.add("job", {"source": str(path), "config": {"how": how}, **keys})
    pid = co.status()["plugins"]["job"]["workers"][0]["pid"]
    straggler = co["job"].submit(hold.path)
    hold.wait_for(1)
    if how == "is stopped":
        os.kill(pid, signal.SIGSTOP)
    plugin_file("job.py", GOOD)

    outcome = co.reload("job")

    assert (outcome.killed, outcome.lost) == (1, 1)
    with pytest.raises(WorkerLost) as lost:
        straggler.result(30)
    assert (lost.value.reason, lost.value.executed) == ("killed_at_drain", "maybe")
    assert co["job"](7) == 7
    assert not is_there(pid)
    if how in ("ignores TERM", "is stuck in C"):
        assert any("job.py" in line["message"] for line in co.logs("job"))
    assert co.remove("job")["lost"] == 1
