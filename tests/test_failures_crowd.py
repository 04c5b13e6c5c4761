"""Many plugins want workers at once: few start at a time, all serve, and control calls answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from changeover.client import Changeover, launch
from changeover.client.handle import PluginHandle

from .conftest import PluginFile
from .pipes import Hold, plugin_text
from .serving import DEADLINE_S, added

NAMES = [f"job{number}" for number in range(20)]
MAX_SPAWNS = 2
HANGS = """
open({began!r}, "wb", buffering=0).write(b".")
open({hold!r}, "rb", buffering=0).read(1)
"""


@pytest.fixture(scope="module")
def co() -> Iterator[Changeover]:
    with launch({}, settle="50ms", max_spawns=MAX_SPAWNS) as one:
        yield one


def write_all(plugin_file: PluginFile, version: str, before: str = "") -> dict[str, Path]:
    """A new release for each, all of different content."""
    text = f"{before}{plugin_text(version, pure=True)}"
    return {name: plugin_file(f"{name}.py", f"# {name}\n{text}") for name in NAMES}


def versions(jobs: dict[str, PluginHandle]) -> set[str]:
    """Who answers, of all of them."""
    return {job(1, timeout=DEADLINE_S)[1] for job in jobs.values()}


def test_twenty_plugins_that_change_at_once_start_two_by_two_while_all_serve(
    co: Changeover, plugin_file: PluginFile, hold: Hold
) -> None:
    with ExitStack() as stack:
        paths = write_all(plugin_file, "1.0.0")
        keys = {"start": "forkserver"}
        jobs = {n: stack.enter_context(added(co, n, source=str(paths[n]), **keys)) for n in NAMES}
        watch = stack.enter_context(co.watch("plugins"))
        write_all(plugin_file, "2.0.0", HANGS.format(began=hold.began, hold=hold.path))
        warming = (event.params[0] for event in watch if event.params[1].get("next") == "warm")
        assert {next(warming) for _ in NAMES} == set(NAMES)
        hold.wait_for(MAX_SPAWNS)
        for _ in range(3):
            assert versions(jobs) == {"1.0.0"}
            assert len(co.status()["plugins"]) == len(NAMES)
            co.pause(NAMES[-1])
            co.resume(NAMES[-1])
        assert hold.is_quiet()  # nobody else has begun
        for _ in NAMES[MAX_SPAWNS:]:
            hold.release(1)
            hold.wait_for(1)
            assert hold.is_quiet()
        hold.release(MAX_SPAWNS)
        for name in NAMES:
            assert co.reload(name).outcome == "unchanged"
        assert versions(jobs) == {"2.0.0"}
        counts = [plugin["counts"] for plugin in co.status()["plugins"].values()]
        assert sum(each["lost"] + each["failed"] for each in counts) == 0
