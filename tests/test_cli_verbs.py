"""The verbs against a real `serve`: what they print and what they exit with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pytest

from changeover.supervisor.cli.main import main

COMMAND = [sys.executable, "-P", "-m", "changeover.supervisor"]
DEADLINE_S = 30.0

CONFIG = """
[supervisor]
socket = "s.sock"
state_dir = "state"
settle = "100ms"
[log]
format = "json"
[defaults]
reload = "on-signal"
probation = "1s"
[plugins.double]
source = "double.py"
[plugins.slow]
source = "slow.py"
"""
DOUBLE = """
from changeover.worker import plugin

@plugin(version="{version}", pure=True)
def double(x=1):
    return {factor} * x
"""
SLOW = """
import time
from changeover.worker import Job, Progress, plugin

@plugin(version="0.1.0")
def slow(job: Job, parts: int = 2, until: str = "") -> bytes:
    import pathlib
    for part in range(parts):
        yield Progress(part + 1, parts, f"part {part + 1}")
    while until and not pathlib.Path(until).exists():
        job.check()
        time.sleep(0.01)
    if until == "":
        raise_it = parts < 0
        if raise_it:
            raise ValueError("parts must not be negative")
    return b"\\x00\\xff"
"""


class Served:
    """A `changeover serve` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[dict[str, Any]] = []
        self.strays: list[str] = []  # a traceback of ours, or a plugin's stderr that got through
        self._more = threading.Condition()
        self.process = subprocess.Popen(
            [*COMMAND, "serve"], cwd=folder, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def await_line(self, words: str) -> None:
        """Until the supervisor has said so."""
        with self._more:
            assert self._more.wait_for(lambda: self._said(words), DEADLINE_S), (
                self.lines,
                self.strays,
            )

    def _said(self, words: str) -> bool:
        return any(words in f"{line.get('plugin')}: {line['message']}" for line in self.lines)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                if line.startswith("{"):
                    self.lines.append(json.loads(line))
                else:
                    self.strays.append(line)
                self._more.notify_all()

    def end(self) -> int:
        """Stop it as an operator would, if it has not been."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
            self._reader.join()
            assert self.process.stderr is not None
            self.process.stderr.close()


def write_double(folder: Path, version: str, factor: int) -> None:
    """A release of `double`."""
    beside = folder / ".double.new"
    beside.write_text(DOUBLE.format(version=version, factor=factor))
    beside.replace(folder / "double.py")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Two plugins, both live; the current folder is the config's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHANGEOVER_SOCKET", raising=False)
    (tmp_path / "changeover.toml").write_text(CONFIG)
    (tmp_path / "slow.py").write_text(SLOW)
    write_double(tmp_path, "1.0.0", 2)
    service = Served(tmp_path)
    try:
        service.await_line("double: 1.0.0 @1 live")
        service.await_line("slow: 0.1.0 @1 live")
        yield service
    finally:
        service.end()
    assert not service.strays


@contextmanager
def command(served: Served, *line: str) -> Iterator[subprocess.Popen[str]]:
    """A verb in a process of its own; it ends with the block at the latest."""
    with subprocess.Popen(
        [*COMMAND, *line],
        cwd=served.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def lines_of(stream: IO[str] | None) -> Iterator[str]:
    """What it writes, as it comes."""
    assert stream is not None
    return iter(stream.readline, "")


Told = pytest.CaptureFixture[str]


def asked(capsys: Told, *line: str) -> dict[str, Any]:
    """The document that a verb prints with --json."""
    main([*line, "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.usefixtures("served")
def test_status_shows_every_plugin(capsys: Told) -> None:
    assert main(["status"]) == 0

    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("changeover   up ")
    assert [line.split()[:4] for line in shown[3:5]] == [
        ["double", "1.0.0", "@1", "live"],
        ["slow", "0.1.0", "@1", "live"],
    ]


def test_status_as_a_document(served: Served, capsys: Told) -> None:
    document = asked(capsys, "status")

    assert document["schema"] == "changeover.status/1"
    assert document["pid"] == served.process.pid
    double = document["plugins"]["double"]
    assert double["state"] == "live"
    assert double["release"]["number"] == 1
    assert set(double["counts"]) == {"accepted", "done", "failed", "cancelled", "lost", "rerun"}
    (worker,) = double["workers"]
    assert {"pid", "state", "release", "generation", "busy", "rss_bytes", "cpu_percent",
            "jobs", "age_s"} <= set(worker)  # fmt: skip


@pytest.mark.usefixtures("served")
def test_status_of_one_plugin_shows_what_it_waits_for(capsys: Told) -> None:
    main(["pause", "double"])
    capsys.readouterr()

    assert main(["status", "double"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("double   1.0.0 @1   paused\n")
    assert "waits for   somebody to say: changeover resume double" in shown


@pytest.mark.usefixtures("served")
def test_ready_says_so_by_the_exit_code_alone(capsys: Told) -> None:
    assert main(["status", "--ready"]) == 0
    assert capsys.readouterr().out == ""

    main(["pause", "double"])
    capsys.readouterr()
    assert main(["status", "--ready"]) == 1
    assert capsys.readouterr().err == "double: not ready, paused\n"


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    "line",
    [
        ["status", "doubel"],
        ["call", "doubel"],
        ["call", "double", "rnu"],
        ["reload", "doubel"],
        ["rollback", "doubel"],
        ["pause", "doubel"],
        ["cancel", "no-such-job"],
        ["rollback", "double", "--to", "@9"],
    ],
    ids=" ".join,
)
def test_what_is_not_there_exits_4(line: list[str], capsys: Told) -> None:
    assert main(line) == 4
    assert capsys.readouterr().err


@pytest.mark.usefixtures("served")
def test_call_prints_the_result_as_json(capsys: Told) -> None:
    assert main(["call", "double", "x=21"]) == 0
    assert main(["call", "double", "run", "x=ab"]) == 0

    assert capsys.readouterr().out == '42\n"abab"\n'


def test_call_tells_progress_on_stderr_and_writes_bytes(served: Served) -> None:
    ran = subprocess.run(
        [*COMMAND, "call", "slow"], cwd=served.folder, capture_output=True, check=True, timeout=30
    )

    assert ran.stdout == b"\x00\xff"
    assert ran.stderr == b"1/2  part 1\n2/2  part 2\n"


def test_call_takes_bytes_from_stdin(served: Served) -> None:
    ran = subprocess.run(
        [*COMMAND, "call", "double", "-"],
        cwd=served.folder, input=b"\x01\x02", capture_output=True, check=True, timeout=30,
    )  # fmt: skip

    assert ran.stdout == b"\x01\x02\x01\x02"


@pytest.mark.usefixtures("served")
def test_call_as_a_document_says_who_ran_it(capsys: Told) -> None:
    document = asked(capsys, "call", "double", "x=3", "--id", "my-job")

    assert document["schema"] == "changeover.call/1"
    assert (document["job"], document["state"], document["result"]) == ("my-job", "done", 6)
    assert (document["release"]["version"], document["attempts"]) == ("1.0.0", 1)


@pytest.mark.usefixtures("served")
def test_a_job_that_raised_exits_1_with_the_plugins_own_line(capsys: Told) -> None:
    assert main(["call", "slow", "parts=-1"]) == 1
    told = capsys.readouterr().err
    assert "ValueError: parts must not be negative" in told
    assert "slow.py" in told


@pytest.mark.usefixtures("served")
def test_a_job_that_raised_is_a_document_too(capsys: Told) -> None:
    document = asked(capsys, "call", "slow", "parts=-1")

    assert document["state"] == "failed"
    assert document["error"]["type"] == "ValueError"
    assert document["error"]["executed"] == "yes"


@pytest.mark.usefixtures("served")
def test_a_job_that_is_too_slow_exits_7() -> None:
    assert main(["call", "slow", "until=/never", "--timeout", "200ms"]) == 7


def test_a_call_that_is_interrupted_cancels_its_job(served: Served, capsys: Told) -> None:
    with command(served, "call", "slow", "until=/never", "--id", "endless") as call:
        assert next(lines_of(call.stderr)) == "1/2  part 1\n"
        assert [job["job"] for job in asked(capsys, "jobs")["jobs"]] == ["endless"]
        call.send_signal(signal.SIGINT)
        assert call.wait(DEADLINE_S) == 130
    assert asked(capsys, "call", "slow")["state"] == "done"  # the worker is free again


def test_jobs_are_listed_and_cancelled(served: Served, capsys: Told) -> None:
    with command(served, "call", "slow", "until=/never", "--id", "endless") as call:
        next(lines_of(call.stderr))
        assert main(["jobs", "slow"]) == 0
        listed = capsys.readouterr().out.splitlines()[1].split()
        assert listed[:4] == ["endless", "slow", "run", "running"]
        assert main(["cancel", "endless"]) == 0
        assert call.wait(DEADLINE_S) == 1


@pytest.mark.usefixtures("served")
def test_without_jobs_there_is_nothing_to_list(capsys: Told) -> None:
    assert main(["jobs"]) == 0
    assert capsys.readouterr() == ("", "no jobs\n")


def test_reload_replaces_what_has_changed(served: Served, capsys: Told) -> None:
    write_double(served.folder, "1.1.0", 3)

    assert main(["reload", "double"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("double  1.0.0 @1 → 1.1.0 @2  ")
    assert [line.split()[0] for line in shown[1:-1]] == [
        "staged", "warmed", "checked", "adopted", "cut", "drained",
    ]  # fmt: skip
    assert shown[-1].startswith("done in ")
    assert shown[-1].endswith("@1 parked")
    assert main(["call", "double", "x=2"]) == 0
    assert capsys.readouterr().out == "6\n"


@pytest.mark.usefixtures("served")
def test_reload_of_the_same_content_is_nothing_to_do(capsys: Told) -> None:
    assert main(["reload", "double"]) == 0
    assert capsys.readouterr().out.startswith("double: nothing to do, 1.0.0 @1 is what its")
    assert asked(capsys, "reload", "double", "--force")["changes"][0]["outcome"] == "done"


def test_a_dry_run_changes_nothing(served: Served, capsys: Told) -> None:
    write_double(served.folder, "1.1.0", 3)

    assert main(["reload", "double", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("(dry run) double  1.0.0 @1 → ")
    assert asked(capsys, "status")["plugins"]["double"]["release"]["number"] == 1


def test_a_refused_release_exits_5_and_says_where(served: Served, capsys: Told) -> None:
    (served.folder / "double.py").write_text("1 / 0\n")

    assert main(["reload", "double"]) == 5
    told = capsys.readouterr().err
    assert "refused, still on 1.0.0 @1" in told
    assert "ZeroDivisionError: division by zero (double.py:1)" in told
    assert asked(capsys, "reload", "double")["changes"][0]["outcome"] == "refused"


def test_a_release_that_fails_its_watch_exits_6(served: Served, capsys: Told) -> None:
    (served.folder / "double.py").write_text(
        "import os\nfrom changeover.worker import plugin\n"
        "@plugin(version='9.0.0', pure=True)\n"
        "def double(x=1):\n    os._exit(3)\n"
    )
    with command(served, "reload", "double", "--wait", "watched") as reload:
        served.await_line("double: 1.0.0 @1 → 9.0.0 @2")
        assert main(["call", "double", "x=21"]) == 0
        _, told = reload.communicate(timeout=DEADLINE_S)

    assert capsys.readouterr().out == "42\n"  # the bad release cost the job nothing
    assert reload.returncode == 6
    assert told.startswith("double: 9.0.0 @2 rolled back, 1.0.0 @1 serves again\n")


def test_rollback_goes_back_to_the_release_before(served: Served, capsys: Told) -> None:
    write_double(served.folder, "1.1.0", 3)
    main(["reload", "double"])
    capsys.readouterr()

    assert main(["rollback", "double", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("(dry run) double  1.1.0 @2 → 1.0.0 @1")
    assert main(["rollback", "double"]) == 0
    assert capsys.readouterr().out.startswith("double  1.1.0 @2 → 1.0.0 @1")


def test_a_changed_config_is_taken_by_a_bare_reload(served: Served, capsys: Told) -> None:
    (served.folder / "changeover.toml").write_text(CONFIG + "workers = 2\n")

    assert main(["reload"]) == 0
    assert capsys.readouterr().out.startswith("slow  0.1.0 @1 → 0.1.0 @1")
    assert len(asked(capsys, "status")["plugins"]["slow"]["workers"]) >= 2


def test_a_bad_config_is_refused_with_all_its_mistakes(served: Served, capsys: Told) -> None:
    (served.folder / "changeover.toml").write_text(CONFIG + "wrokers = 2\nqueue = 0\n")

    assert main(["reload"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("changeover: 2 mistakes in the config; the one in force stays\n")
    assert 'plugins.slow.wrokers: unknown key; did you mean "workers"?' in told
    assert "plugins.slow.queue: must be at least 1, not 0" in told
    assert main(["status", "--ready"]) == 0


@pytest.mark.usefixtures("served")
def test_a_paused_plugin_holds_its_jobs_until_it_is_resumed(capsys: Told) -> None:
    assert asked(capsys, "pause", "double") == {
        "schema": "changeover.pause/1", "plugin": "double", "running": 0, "queued": 0,
    }  # fmt: skip
    assert main(["call", "double", "--timeout", "200ms"]) == 7
    assert main(["resume", "double"]) == 0
    assert "double: resumed" in capsys.readouterr().err
    assert main(["call", "double"]) == 0


@pytest.mark.usefixtures("served")
def test_a_plugin_that_rejects_refuses_jobs_at_once(capsys: Told) -> None:
    assert main(["pause", "double", "--reject"]) == 0
    assert "new jobs are refused" in capsys.readouterr().err
    assert main(["call", "double"]) in {1, 5}


@pytest.mark.usefixtures("served")
def test_history_tells_each_changeover(capsys: Told) -> None:
    assert main(["history", "double"]) == 0
    titles, row = capsys.readouterr().out.splitlines()
    assert titles.split()[:4] == ["SEQ", "TIME", "PLUGIN", "WHY"]
    assert row.split()[3:] == [
        "double",
        "start",
        "-",
        "1.0.0",
        "@1",
        "done",
        "0",
        "0",
        "0",
        "config",
    ]


@pytest.mark.usefixtures("served")
def test_history_is_verified(capsys: Told) -> None:
    assert main(["history", "--verify"]) == 0
    assert "lines follow from one another" in capsys.readouterr().err


def test_an_edited_history_is_found_out(served: Served, capsys: Told) -> None:
    path = served.folder / "state" / "history.jsonl"
    text = path.read_text()
    with path.open("r+") as file:
        file.write(text.replace('"why":"start"', '"why":"START"', 1))

    assert main(["history", "--verify"]) == 1
    assert "history: line 1 " in capsys.readouterr().err


@pytest.mark.usefixtures("served")
def test_logs_show_what_the_supervisor_said(capsys: Told) -> None:
    assert main(["logs", "double"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("double: 1.0.0 @1 live")
    entries = asked(capsys, "logs", "-n", "1")["entries"]
    assert len(entries) == 1
    assert datetime.fromisoformat(entries[0]["time"]).tzinfo is not None


def test_logs_follow_until_the_supervisor_leaves(served: Served) -> None:
    with command(served, "logs", "double", "-f") as logs:
        told = lines_of(logs.stdout)
        assert next(told).rstrip().endswith("double: 1.0.0 @1 live")
        write_double(served.folder, "1.1.0", 3)
        assert main(["reload", "double"]) == 0
        assert "1.0.0 @1 → 1.1.0 @2" in next(told)
        assert main(["stop"]) == 0
        assert logs.wait(DEADLINE_S) == 0


def test_status_is_watched_as_json_lines(served: Served) -> None:
    with command(served, "status", "--watch", "--json") as status:
        told = lines_of(status.stdout)
        states = (json.loads(line)["plugins"]["double"]["state"] for line in told)
        assert next(states) == "live"
        main(["pause", "double"])
        assert "paused" in states
        status.send_signal(signal.SIGINT)
        assert status.wait(DEADLINE_S) == 130


def test_a_reader_that_leaves_ends_the_verb_quietly(served: Served) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [*COMMAND, "status"], cwd=served.folder, stdout=writer, stderr=subprocess.PIPE,
        check=False, timeout=30,
    )  # fmt: skip
    os.close(writer)

    assert (ran.returncode, ran.stderr) == (0, b"")


def test_stop_ends_the_supervisor(served: Served, capsys: Told) -> None:
    main(["call", "double"])
    capsys.readouterr()

    document = asked(capsys, "stop")

    assert document["schema"] == "changeover.stop/1"
    assert document["done"] == 1
    assert served.process.wait(DEADLINE_S) == 0
    assert main(["status"]) == 3


def test_a_status_that_was_answered_has_imported_nothing_heavy(served: Served) -> None:
    script = (
        "import sys\nfrom changeover.supervisor.cli.main import main\n"
        "assert main(['status']) == 0\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=served.folder, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip

    heavy = {"pydantic", "watchfiles", "multiprocess", "psutil", "numpy", "dill", "rich"}
    assert not heavy & set(ran.stderr.split())
    assert "msgpack" in ran.stderr.split()
