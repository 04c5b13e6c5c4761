"""Which level of isolation can be had, by what the kernel and bubblewrap can do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from changeover.supervisor.children import Children
from changeover.supervisor.containment import LIMITED_ABI, SANDBOXED_ABI, Containment
from changeover.supervisor.levels import Levels
from changeover.supervisor.spec import Isolation

BWRAP = """#!/bin/sh
echo "$*" >> "{log}"
"""


def why_not(abi: int, level: Isolation, *, network: bool = False) -> str:
    """What is missing on a kernel with that Landlock."""
    return asyncio.run(Levels(Children(), abi).why_not(level, network=network))


@pytest.fixture
def bwrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only program in PATH: one that can make any sandbox. Where it writes that it did."""
    log, program = tmp_path / "log", tmp_path / "bwrap"
    program.write_text(BWRAP.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return log


@pytest.mark.parametrize("network", [False, True])
def test_trusted_takes_nothing(network: bool) -> None:
    assert why_not(0, "trusted", network=network) == ""


@pytest.mark.parametrize("abi", range(LIMITED_ABI))
@pytest.mark.parametrize("network", [False, True])
def test_limited_takes_a_landlock_that_keeps_all_its_promises(abi: int, network: bool) -> None:
    missing = why_not(abi, "limited", network=network)

    assert "Landlock" in missing
    assert "it takes Linux 6.12" in missing
    assert why_not(LIMITED_ABI, "limited", network=network) == ""


def test_in_a_sandbox_the_namespaces_keep_most_promises(bwrap: Path) -> None:
    assert "no Landlock" in why_not(0, "sandboxed")
    assert why_not(SANDBOXED_ABI, "sandboxed") == ""


def test_a_sandbox_with_the_network_takes_what_limited_takes(bwrap: Path) -> None:
    assert why_not(LIMITED_ABI - 1, "sandboxed", network=True) != ""
    assert why_not(LIMITED_ABI, "sandboxed", network=True) == ""


def test_a_sandbox_is_tried_once_with_the_network_and_once_without(bwrap: Path) -> None:
    async def ask() -> None:
        levels = Levels(Children(), LIMITED_ABI)
        for network in (False, False, True, True):
            assert await levels.why_not("sandboxed", network=network) == ""

    asyncio.run(ask())
    tried = bwrap.read_text().splitlines()
    assert ["--share-net" in line for line in tried] == [False, True]


def test_what_failed_is_tried_again(bwrap: Path, tmp_path: Path) -> None:
    async def ask() -> None:
        levels = Levels(Children(), LIMITED_ABI)
        program = tmp_path / "bwrap"
        program.rename(tmp_path / "away")
        for _ in range(2):
            missing = await levels.why_not("sandboxed", network=False)
            assert "apt-get install bubblewrap" in missing
        (tmp_path / "away").rename(program)
        assert await levels.why_not("sandboxed", network=False) == ""

    asyncio.run(ask())


def test_a_sandbox_has_each_folder_once_and_its_own_network() -> None:
    words = Containment(level="sandboxed", read=("/usr/lib", "/usr/libx"), write=("/w",)).sandbox()
    bound = [words[at + 1] for at, word in enumerate(words) if word == "--ro-bind-try"]

    assert "/usr" in bound
    assert not [path for path in bound if path.startswith("/usr/")]
    assert words[-3:] == ["--bind", "/w", "/w"]
    assert "--share-net" not in words
    assert "--share-net" in Containment(level="sandboxed", network=True).sandbox()
