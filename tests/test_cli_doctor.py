"""`changeover doctor`: what this machine allows, for people and for programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from changeover.supervisor.cli.doctor import levels, lines
from changeover.supervisor.cli.main import main
from changeover.supervisor.machine import cgroup, facts


def test_a_document_says_everything(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0

    document = json.loads(capfd.readouterr().out)
    assert document["schema"] == "changeover.doctor/1"
    assert document["kernel"]["release"] == os.uname().release
    assert document["permissions"]["uid"] == os.geteuid()
    assert set(document["levels"]) == {"trusted", "limited", "sandboxed"}
    assert document["levels"]["trusted"]["why_not"] == ""
    assert {"memfd", "pidfd", "limits", "landlock", "bubblewrap", "cgroup"} <= set(document)


def test_people_see_one_fact_a_line_and_the_levels(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0

    shown = capfd.readouterr().out
    for label in ("kernel", "Landlock", "bubblewrap", "cgroup", "descriptors", "state_dir"):
        assert f"\n{label} " in f"\n{shown}"
    assert "ISOLATION  HERE  WHY NOT" in shown


def test_without_bubblewrap_it_says_what_to_install(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["doctor"]) == 0

    (line,) = (line for line in capfd.readouterr().out.splitlines() if "sandboxed" in line)
    assert line.split()[:2] == ["sandboxed", "no"]
    assert "apt-get install bubblewrap" in line


def test_what_is_missing_is_told() -> None:
    found = facts("changeover")
    found["landlock"]["abi"] = 4
    found["memfd"] = False
    found["limits"]["descriptors"] = {"soft": 1024, "hard": None}
    found["permissions"]["state_dir"]["writable"] = False
    found["cgroup"] = {"path": "/a", "delegated": False, "oom_group": True}
    found["levels"]["limited"] = {"why_not": "", "why_not_with_network": "x is missing"}
    told = dict(lines(found))

    assert told["Landlock"] == "ABI 4: files, truncate, TCP"
    assert told["memfd"].startswith("no")
    assert told["descriptors"] == "1024, at most unlimited"
    assert told["state_dir"].endswith(": cannot be written")
    assert told["cgroup"].startswith("/a, not delegated; memory.oom.group = 1")
    assert ("limited", "yes", "with network = true: x is missing") in levels(found).rows


@pytest.mark.parametrize("text", ["", "4:memory:/a\n", "0::/no/such/cgroup/anywhere\n"])
def test_a_cgroup_that_is_not_ours_is_not_delegated(tmp_path: Path, text: str) -> None:
    given = tmp_path / "cgroup"
    given.write_text(text)

    found = cgroup(given)
    assert (found["delegated"], found["oom_group"]) == (False, False)
