"""What people read: tables, the status screen, the outcome of a changeover."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from changeover.supervisor.cli import reload_view, status_view
from changeover.supervisor.cli.history import table as history_table
from changeover.supervisor.cli.jobs import table as jobs_table
from changeover.supervisor.cli.live import phase_words
from changeover.supervisor.cli.logs import text_of
from changeover.supervisor.cli.output import jsonable, show_document, show_result
from changeover.supervisor.cli.settings import Settings
from changeover.supervisor.cli.tables import Table

OLD = {"number": 3, "version": "2.1.0", "digest": "d" * 64, "hash": "0" * 16}
NEW = {"number": 4, "version": "2.2.0", "digest": "3fa9c1d2" + "e" * 56, "hash": "1" * 16}
NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def plugin(**changes: Any) -> dict[str, Any]:
    """One plugin of a status document."""
    worker = {"pid": 7, "state": "ready", "release": 3, "generation": 9, "busy": 1,
              "rss_bytes": 96 * 2**20, "cpu_percent": 12.4, "jobs": 5, "age_s": 75.0}  # fmt: skip
    counts = {"accepted": 7, "done": 5, "failed": 1, "cancelled": 0, "lost": 0, "rerun": 0}
    return {
        "state": "live", "release": OLD, "generation": 9, "changing": None, "workers": [worker],
        "running": 1, "queued": 3, "counts": counts, **changes,
    }  # fmt: skip


def document(**plugins: dict[str, Any]) -> dict[str, Any]:
    """A status document."""
    return {"name": "mcr-1", "pid": 1, "uptime_s": 3 * 86400 + 4 * 3600, "plugins": plugins}


def test_a_table_is_aligned_and_numbers_stand_right() -> None:
    table = Table(("NAME", "N"), frozenset({"N"}), [("a", "1"), ("long", "100")])

    assert table.lines() == ["NAME    N", "a       1", "long  100"]


def test_the_headline_counts_what_there_is() -> None:
    shown = status_view.headline(document(a=plugin(), b=plugin()))

    assert shown == "mcr-1   up 3d 4h   2 plugins   2 workers   lost 0"


def test_the_overview_has_a_row_a_plugin() -> None:
    lines = status_view.overview(document(detect=plugin())).lines()

    assert lines == [
        "PLUGIN  RELEASE   STATE  WORKERS  BUSY  QUEUE  ERRORS  RSS",
        "detect  2.1.0 @3  live         1     1      3       1  96M",
    ]


def test_rates_have_columns_when_the_document_has_them() -> None:
    known, unknown = plugin(jobs_per_s=48.13, p95_s=0.031), plugin(jobs_per_s=0.0, p95_s=None)

    table = status_view.overview(document(a=known, b=unknown))

    rate, p95 = table.titles.index("JOBS/S"), table.titles.index("P95")
    assert [(row[rate], row[p95]) for row in table.rows] == [("48.1", "31ms"), ("0.0", "-")]


def test_a_plugin_that_never_loaded_is_shown_too() -> None:
    failed = plugin(state="failed", release=None, workers=[], failure="import: boom\n  more")

    assert status_view.overview(document(p=failed)).rows[0][:3] == ("p", "-", "failed")
    assert status_view.remarks(document(p=failed)) == [
        "p  a changed source, or: changeover reload p (import: boom)"
    ]


CHANGING = {"step": "warm", "to": NEW, "since_s": 5.0, "step_since_s": 4.1, "in_flight": 2}


def test_a_changeover_shows_where_it_goes_and_how_far_it_is() -> None:
    changing = plugin(state="changing", changing=CHANGING)

    assert status_view.overview(document(p=changing)).rows[0][1] == "2.1.0 @3→@4"
    assert status_view.remarks(document(p=changing)) == ["p  @4 warm 4.1 s · @3 live, 2 in flight"]


def test_what_is_simply_live_needs_no_remark() -> None:
    assert status_view.remarks(document(p=plugin())) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "nothing"),
        ({"state": "paused"}, "somebody to say: changeover resume p"),
        ({"state": "backoff"}, "the next start of a worker"),
        ({"changing": CHANGING}, "@4 warm 4.1 s"),
        ({"watching": {"until": NOON.isoformat(), "parked": OLD}}, "; @3 is parked"),
    ],
)
def test_details_say_what_a_plugin_waits_for(changes: dict[str, Any], words: str) -> None:
    (line,) = (line for line in status_view.details("p", plugin(**changes)) if "waits for" in line)
    assert words in line


def test_details_say_which_limits_are_set() -> None:
    limits = {"max_jobs": 1000, "max_age_s": 43200.0, "max_rss_bytes": None, "memory_bytes": 2**32}
    lines = [*status_view.details("p", plugin(limits=limits))]
    assert "  limits      max_jobs 1000, max_age 12h 0m, memory 4.0G" in lines
    none = dict.fromkeys(limits)
    assert "limits" not in "".join(status_view.details("p", plugin(limits=none)))


def test_details_list_the_workers() -> None:
    assert status_view.workers(plugin()).lines() == [
        "PID  STATE  RELEASE  GENERATION  BUSY  JOBS     AGE  CPU  RSS",
        "  7  ready  @3                9     1     5  1m 15s  12%  96M",
    ]


def change(**changes: Any) -> dict[str, Any]:
    """One element of the answer to `reload`."""
    phases = [
        {"phase": "staged", "ms": 100, "us": 100_000, "detail": "4 files, 24.1 MB"},
        {"phase": "warmed", "ms": 4300, "us": 4_300_000, "detail": ""},
        {"phase": "parked", "ms": 0, "us": 0, "detail": ""},
    ]
    return {
        "name": "detect", "outcome": "done", "from": OLD, "to": NEW, "stage": "", "cause": "",
        "drained": 2, "killed": 0, "lost": 0, "phases": phases,
        "watched_until": NOON.isoformat(), "parked": True, **changes,
    }  # fmt: skip


def test_a_changeover_that_was_done_shows_its_phases() -> None:
    closing = f"watched until {NOON.astimezone():%H:%M:%S}, @3 parked"

    assert reload_view.lines_of(change()) == [
        "detect  2.1.0 @3 → 2.2.0 @4  3fa9c1d2",
        "  staged      100 ms   4 files, 24.1 MB",
        "  warmed       4.3 s",
        f"done in 4.4 s   lost 0   2 finished on the old release   {closing}",
    ]


def test_a_refused_release_says_why_and_what_it_means() -> None:
    cause = "on_check: AssertionError: no boxes\n  x"
    meanwhile = "callers were held for 0.2 s"
    refused = change(outcome="refused", stage="check", cause=cause, meanwhile=meanwhile)

    assert reload_view.lines_of(refused) == [
        "detect: 2.2.0 @4 refused, still on 2.1.0 @3",
        "  on_check: AssertionError: no boxes",
        "    x",
        "  callers were held for 0.2 s; fix it and save, or: changeover reload detect",
    ]


def test_a_first_release_that_is_refused_leaves_nothing_to_run_on() -> None:
    lines = reload_view.lines_of(change(**{"outcome": "refused", "from": None, "cause": "x"}))

    assert lines[0] == "detect: 2.2.0 @4 refused, there is no other release"


def test_a_policy_that_allows_no_reload_says_how_to_allow_it() -> None:
    cause = "its reload policy is disabled"
    told = {"outcome": "refused", "stage": "policy", "cause": cause, "from": None, "to": None}

    assert reload_view.lines_of(change(**told)) == [
        "detect: refused, its reload policy is disabled",
        '  nothing was changed; to allow it: reload = "on-signal" under [plugins.detect]',
    ]


def test_a_rollback_by_itself_says_what_serves_and_what_it_cost() -> None:
    lines = reload_view.lines_of(change(outcome="rolled_back", stage="watch", cause="5 errors"))

    assert lines[0] == "detect: 2.2.0 @4 rolled back, 2.1.0 @3 serves again"
    assert lines[-1] == "  lost 0; fix it and save, or: changeover reload detect"


def test_unchanged_content_is_nothing_to_do() -> None:
    assert reload_view.lines_of(change(outcome="unchanged"))[0] == (
        "detect: nothing to do, 2.1.0 @3 is what its source holds"
    )


def test_a_dry_run_names_the_jobs_that_might_be_cut() -> None:
    running = [{"job": "j1", "pid": 7, "pure": True}, {"job": "j2", "pid": 8, "pure": False}]
    unknown = {"number": None, "version": "", "digest": "3fa9c1d2" * 8}

    lines = reload_view.dry_lines_of(
        change(dry_run=True, running=running, drain_timeout_s=30.0, to=unknown)
    )

    assert lines == [
        "(dry run) detect  2.1.0 @3 → new content 3fa9c1d2",
        "  job j1 runs on 7; if still after 30.0 s: killed and run again, it is pure",
        "  job j2 runs on 8; if still after 30.0 s: killed and lost",
    ]


def test_a_phase_under_way_is_told_in_the_present() -> None:
    assert phase_words("detect", {"phase": "staged", "next": "warm"}) == "detect: warming"


def test_jobs_are_listed_with_where_they_run() -> None:
    running = {"job": "j1", "plugin": "p", "method": "run", "state": "running", "release": 3,
               "pid": 7, "attempts": 1, "queued_s": 0.5, "running_s": 2.0}  # fmt: skip
    queued = {**running, "job": "j2", "state": "queued", "release": None, "pid": None,
              "running_s": 0.0}  # fmt: skip

    assert jobs_table([running, queued]).rows == [
        ("j1", "p", "run", "running", "@3", "7", "1", "500 ms", "2.0 s"),
        ("j2", "p", "run", "queued", "-", "-", "1", "500 ms", "-"),
    ]


def test_history_tells_who_why_from_to_and_how_it_ended() -> None:
    entry = {"seq": 4, "time": NOON.isoformat(), "event": "changeover", "plugin": "p",
             "who": "uid:0", "why": "reload", "from": OLD, "to": NEW, "outcome": "done",
             "drained": 2, "killed": 0, "lost": 0}  # fmt: skip

    (row,) = history_table([entry]).rows
    assert row[0] == "4"
    assert row[2:] == ("p", "reload", "2.1.0 @3", "2.2.0 @4", "done", "2", "0", "0", "uid:0")


def test_history_names_what_is_no_changeover() -> None:
    (row,) = history_table([{"seq": 1, "time": "now", "event": "history-repaired"}]).rows

    assert row[:4] == ("1", "now", "-", "history-repaired")


def test_a_log_line_names_plugin_and_level() -> None:
    entry = {"time": NOON.timestamp(), "level": "warning", "plugin": "p", "worker": "w1",
             "message": "careful"}  # fmt: skip

    assert text_of(entry) == f"{NOON.astimezone():%H:%M:%S} p/w1: warning: careful"


def test_a_line_of_the_supervisor_says_so() -> None:
    assert text_of({"level": "info", "message": "hello"}) == "changeover: hello"


def test_what_json_lacks_is_spelt_out() -> None:
    assert jsonable({1: b"ab", "at": NOON, "more": (None, [True]), "no": math.nan}) == {
        "1": {"$base64": "YWI="},
        "at": "2026-03-01T12:00:00+00:00",
        "more": [None, [True]],
        "no": {"$float": "nan"},
    }


def test_an_array_is_shown_as_it_travels() -> None:
    shown = jsonable(np.zeros((2, 2), dtype=np.uint8))

    assert shown["$array"] == {"dtype": "|u1", "shape": [2, 2]}
    assert shown["data"] == {"$base64": "AAAAAA=="}


def test_a_document_names_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    show_document("jobs", {"jobs": []})

    assert json.loads(capsys.readouterr().out) == {"schema": "changeover.jobs/1", "jobs": []}


def test_bytes_go_to_a_pipe_as_they_are(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    show_result(Settings(), b"\x00\xff")

    assert capfdbinary.readouterr().out == b"\x00\xff"


def test_every_other_result_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(Settings(), {"a": [1, None, "ü"]})

    assert capsys.readouterr().out == '{"a": [1, null, "ü"]}\n'
