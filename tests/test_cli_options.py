"""The command itself: global options on either side of the verb, help, and what is no verb."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from changeover.supervisor.cli.asking import Seconds, is_path, name_of, overrides
from changeover.supervisor.cli.main import cli, main
from changeover.supervisor.cli.settings import Settings
from changeover.supervisor.cli.verbs import VERBS


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No config, no socket: nothing of the machine is met by accident."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHANGEOVER_SOCKET", raising=False)
    return tmp_path


NOWHERE = "/nowhere/changeover.sock"


@pytest.mark.parametrize(
    "line",
    [
        ["-s", NOWHERE, "status"],
        ["status", "-s", NOWHERE],
        ["--socket", NOWHERE, "--json", "status"],
        ["status", "--json", "-q", "-v", "--no-color", "--socket", NOWHERE],
    ],
)
def test_global_options_stand_on_either_side_of_the_verb(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == 3
    assert capsys.readouterr().err == (
        f"changeover: no supervisor at {NOWHERE}\n"
        "  start one: changeover serve       or name it: -s PATH / $CHANGEOVER_SOCKET\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        ["status", "p", "--ready"],
        ["history", "-n", "3", "--verify"],
        ["jobs", "p"],
        ["logs", "p", "-f", "--job", "j", "--level", "error"],
        ["cancel", "j", "--now"],
        ["reload", "p", "--dry-run", "--force", "--wait", "cut", "--timeout", "5s"],
        ["rollback", "p", "--to", "@3", "--dry-run", "--wait", "watched"],
        ["pause", "p", "--reject"],
        ["resume", "p"],
        ["stop", "--now", "--timeout", "5"],
        ["call", "p", "run", "x=1", "--timeout", "5s", "--id", "a"],
    ],
    ids=lambda line: line[0],
)
def test_without_a_supervisor_every_client_exits_3(line: list[str]) -> None:
    assert main(["-s", NOWHERE, *line]) == 3


def test_the_environment_names_the_socket(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHANGEOVER_SOCKET", "/elsewhere/x.sock")

    assert main(["status"]) == 3
    assert "no supervisor at /elsewhere/x.sock" in capsys.readouterr().err


def test_the_config_in_the_current_folder_names_the_socket(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("changeover.toml").write_text('[supervisor]\nsocket = "run/x.sock"\n')

    assert main(["status"]) == 3
    assert f"no supervisor at {empty_folder}/run/x.sock" in capsys.readouterr().err


def test_the_name_in_the_config_names_the_socket(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/nowhere")
    Path("changeover.toml").write_text('[supervisor]\nname = "studio"\n')

    assert main(["status"]) == 3
    assert "no supervisor at /nowhere/studio.sock" in capsys.readouterr().err


def test_a_config_that_is_not_toml_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    Path("changeover.toml").write_text("[supervisor")

    assert main(["status"]) == 2
    assert "changeover.toml" in capsys.readouterr().err


def test_overrides_of_a_running_supervisor_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["status", "-o", "workers=3"]) == 2
    assert "a running supervisor has its config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["stauts"], 'no verb "stauts"; did you mean "status"?'),
        (["status", "--wacth"], "--wacth"),
        (["reload", "--wait", "forever"], "forever"),
        (["reload", "--timeout", "soon"], 'must be a duration, such as "30s"'),
        (["rollback", "p", "--to", "old"], "must be the number of a release, such as @3"),
        (["call", "p", "run", "x"], "x: must be KEY=VALUE, or - for bytes on stdin"),
        (["call", "p", "timeout=3"], "--timeout 3"),
        (["call", "./none.py"], "./none.py: no such file or folder"),
        (["serve", "--stdio", "-s", "x.sock"], "--stdio has no socket"),
        (["serve"], "no changeover.toml in"),
        (["serve", "-c", "none.toml"], "none.toml: No such file or directory"),
        (["check", "none.toml"], "none.toml: No such file or directory"),
        (["check"], "changeover.toml: No such file or directory"),
        (["check", "./none.py"], "./none.py: no such file or folder"),
    ],
    ids=" ".join,
)
def test_bad_usage_exits_2_and_says_what_is_wrong(
    line: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == 2
    assert words in capsys.readouterr().err


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_the_global_options(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--socket PATH" in shown
    assert "--json" in shown


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("changeover 0.")


def test_nothing_is_shown_twice_for_the_same_verb() -> None:
    context = click.Context(cli)
    first = cli.get_command(context, "status")
    again = cli.get_command(context, "status")

    assert first is not None
    assert again is not None
    names = [parameter.name for parameter in again.params]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("plugin", "is_one"),
    [
        ("denoise", False),
        ("denoise.v2", False),
        ("./denoise", True),
        ("denoise.py", True),
        ("plugins/denoise", True),
        ("denoise.whl", True),
        ("program", True),
        ("folder", False),
    ],
)
def test_a_plugin_is_a_name_or_a_path(plugin: str, is_one: bool) -> None:
    Path("program").touch()
    Path("folder").mkdir()

    assert is_path(plugin) is is_one


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("./denoise.py", "denoise"),
        ("plugins/my filter.py", "my-filter"),
        ("/x/_private.py", "private"),
        ("/x/thumb-1.0-py3.whl", "thumb-1.0-py3.whl"),
    ],
)
def test_a_path_gives_its_plugin_a_name(path: str, name: str) -> None:
    assert name_of(path) == name


def test_overrides_may_name_the_one_plugin() -> None:
    texts = ["denoise.workers=3", "settle=100ms", "include=['a']"]

    assert overrides("denoise", Settings(overrides=texts)) == {
        "workers": 3,
        "settle": "100ms",
        "include": ["a"],
    }


@pytest.mark.parametrize(("text", "seconds"), [("5", 5.0), ("0.5", 0.5), ("250ms", 0.25)])
def test_a_timeout_is_a_duration_or_plain_seconds(text: str, seconds: float) -> None:
    assert Seconds().convert(text, None, None) == seconds


HEAVY = {"pydantic", "watchfiles", "multiprocess", "psutil", "cronsim", "numpy", "dill", "rich"}


@pytest.mark.parametrize(
    "line",
    [["status"], ["call", "p"], ["reload"], ["logs"], ["history"], ["jobs"], ["stop"], ["--help"]],
    ids=" ".join,
)
def test_a_verb_that_only_talks_imports_nothing_heavy(line: list[str]) -> None:
    script = (
        "import json, sys\n"
        "from changeover.supervisor.cli.main import main\n"
        f"main({[*line, '-s', NOWHERE]!r})\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    modules = {name.partition(".")[0] for name in json.loads(ran.stderr.splitlines()[-1])}
    assert "changeover" in modules
    assert not modules & HEAVY
