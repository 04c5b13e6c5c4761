"""The shim before a contained worker: all of it is applied, or the program is not started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from changeover.supervisor import confine
from tests.serving import need_level

PLAN = {"abi": 1, "network": False, "read": ["/usr", "/bin", "/lib", "/lib64"], "write": []}


@pytest.fixture(autouse=True)
def _limited() -> None:
    need_level("limited")


def shim(plan: dict[str, Any], *argv: str) -> subprocess.CompletedProcess[str]:
    """Become that program, contained."""
    return subprocess.run(
        [sys.executable, "-I", "-S", confine.__file__, json.dumps(plan), *argv],
        capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_program_runs_with_its_arguments_and_exit_code() -> None:
    done = shim(PLAN, "sh", "-c", 'echo "$0 $1"; exit 7', "one", "two")

    assert (done.returncode, done.stdout, done.stderr) == (7, "one two\n", "")


def test_a_kernel_that_cannot_do_what_is_needed_is_a_refusal(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    plan = {**PLAN, "abi": 99, "write": [str(tmp_path)]}
    done = shim(plan, "touch", str(proof))

    assert done.returncode == confine.CANNOT
    assert "isolation: Landlock ABI 99 is needed, this kernel has" in done.stderr
    assert not proof.exists()


def test_a_folder_that_is_to_be_writable_and_is_not_there_is_a_refusal(tmp_path: Path) -> None:
    done = shim({**PLAN, "write": [str(tmp_path / "gone")]}, "true")

    assert done.returncode == confine.CANNOT
    assert "gone" in done.stderr


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    done = shim({**PLAN, "read": [*PLAN["read"], str(tmp_path / "gone")]}, "true")  # type: ignore[misc]

    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_is_not_there_is_named() -> None:
    done = shim(PLAN, "no-such-program")

    assert done.returncode == confine.CANNOT
    assert "cannot start no-such-program: No such file or directory" in done.stderr


def test_a_program_outside_is_not_started_and_one_is_told_why(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    done = shim(PLAN, str(program))

    assert done.returncode == confine.CANNOT
    assert f"cannot start {program}: Permission denied" in done.stderr
    assert "may not be run here" in done.stderr


def test_a_writable_folder_takes_files_folders_links_and_renames(tmp_path: Path) -> None:
    script = 'cd "$0" && mkdir a b && touch a/x && ln -s x a/y && mv a/x b/ && rm a/y && ls b'
    done = shim({**PLAN, "write": [str(tmp_path)]}, "sh", "-c", script, str(tmp_path))

    assert (done.stdout, done.stderr) == ("x\n", "")


def test_a_readable_folder_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("long")
    plan = {**PLAN, "read": [*PLAN["read"], str(tmp_path)], "write": ["/dev/null"]}  # type: ignore[misc]
    for script in ('echo x > "$0/file"', 'truncate -s 0 "$0/file"', 'mkdir "$0/a"', 'rm "$0/file"'):
        assert shim(plan, "sh", "-c", script, str(tmp_path)).returncode != 0
    assert (tmp_path / "file").read_text() == "long"


def test_disks_serve_it_last() -> None:
    done = shim(PLAN, "ionice")

    assert done.stdout.strip() == "idle"


def test_the_score_of_the_out_of_memory_killer_ends_at_its_limit() -> None:
    plan = {**PLAN, "read": [*PLAN["read"], "/proc"]}  # type: ignore[misc]
    here = Path("/proc/self/oom_score_adj")
    before = here.read_text()
    here.write_text("900")
    try:
        assert shim(plan, "cat", str(here)).stdout == "1000\n"
    finally:
        here.write_text(before)


def test_it_needs_nothing_but_the_standard_library() -> None:
    code = f"import runpy, sys; runpy.run_path({confine.__file__!r}); print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert loaded <= {*sys.stdlib_module_names, "__main__"}
    assert os.path.isabs(confine.__file__)
