"""What a verb does on a terminal and nowhere else: colours, a bar, a live line."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from changeover.supervisor.cli.settings import Settings
from changeover.supervisor.cli.tables import Table

COMMAND = [sys.executable, "-P", "-m", "changeover.supervisor"]
DEADLINE_S = 30.0
PLUGIN = """
from changeover.worker import Progress, plugin

@plugin(version="1.0.0")
def counted(n: int = 3):
    for part in range(n):
        yield Progress(part + 1, n, f"part {part + 1}")
    return n
"""


def on_terminal(folder: Path, *line: str, environment: dict[str, str] | None = None) -> str:
    """Run a verb with a terminal as stdout and stderr; what it showed."""
    ours, its = pty.openpty()
    try:
        process = subprocess.Popen(
            [*COMMAND, *line],
            cwd=folder, stdin=its, stdout=its, stderr=its,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", **(environment or {})},
        )  # fmt: skip
        os.close(its)
        try:
            shown = _read(ours, time.monotonic() + DEADLINE_S)
            assert process.wait(DEADLINE_S) == 0, shown
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(ours)
    return shown


def _read(terminal: int, deadline: float) -> str:
    shown = b""
    while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # EIO: the last one has closed the other end
            break
    return shown.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a plugin."""
    (tmp_path / "counted.py").write_text(PLUGIN)
    return tmp_path


def test_progress_is_a_bar_that_goes_away(folder: Path) -> None:
    shown = on_terminal(folder, "call", "./counted.py")

    assert "part 3" in shown
    assert "━" in shown
    assert shown.rstrip().endswith("3")


def test_quiet_shows_the_result_alone(folder: Path) -> None:
    assert on_terminal(folder, "call", "./counted.py", "-q") == "3\r\n"


def test_states_are_coloured(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(("PLUGIN", "STATE"), frozenset(), [("p", "live")])

    assert shown_on_terminal(table, capsys, Settings()).count("\x1b[32mlive") == 1
    assert "\x1b[32m" not in shown_on_terminal(table, capsys, Settings(no_color=True))


def test_a_table_that_is_too_wide_is_not_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(("PLUGIN", "WHO"), frozenset(), [("p", "w" * 200)])

    assert "w" * 200 in shown_on_terminal(table, capsys, Settings())


def shown_on_terminal(table: Table, capsys: pytest.CaptureFixture[str], settings: Settings) -> str:
    """What rich prints when it is told that this is a terminal of 100 columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORCE_COLOR", "1")
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "100")
        table._show_rich(settings)
    return capsys.readouterr().out
