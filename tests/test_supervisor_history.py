"""The audit trail: chained, on disk, and never in the way of what runs."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from changeover.supervisor.chain import BrokenChain, HistoryError, read_backwards
from changeover.supervisor.history import History

NOW = "2026-01-02T03:04:05Z"
LATER = "2026-01-02T04:00:00Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.jsonl"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    made = History(path, time=NOW)
    yield made
    made.close()


@pytest.fixture
def reopened(path: Path) -> Iterator[Callable[[], History]]:
    made: list[History] = []

    def reopen() -> History:
        made.append(History(path, time=LATER))
        return made[-1]

    yield reopen
    for each in made:
        each.close()


def fill(history: History, count: int) -> None:
    for number in range(1, count + 1):
        plugin = "odd" if number % 2 else "even"
        history.append({"plugin": plugin, "n": number}, time=NOW)


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def put(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def numbers(history: History) -> list[int]:
    return [entry["n"] for entry in history.replay() if "n" in entry]


def test_each_line_names_the_bytes_of_the_one_before(history: History, path: Path) -> None:
    fill(history, 3)
    entries = [json.loads(line) for line in lines_of(path)]
    hashes = [hashlib.sha256(line).hexdigest() for line in lines_of(path)]
    assert [entry["prev"] for entry in entries] == ["0" * 64, *hashes[:2]]
    assert [(entry["seq"], entry["time"]) for entry in entries] == [(n, NOW) for n in (1, 2, 3)]


def test_an_entry_comes_back_complete(history: History) -> None:
    entry = history.append({"plugin": "größe", "why": "a\nb"}, time=NOW)
    assert history.tail(1) == [entry]
    assert (entry["seq"], entry["plugin"], entry["why"]) == (1, "größe", "a\nb")


def test_a_name_that_is_no_utf_8_is_kept(history: History) -> None:
    name = os.fsdecode(b"/x/\xff.py")
    history.append({"source": name}, time=NOW)
    assert history.tail(1)[0]["source"] == name
    assert history.verify().is_ok


def test_its_own_keys_can_not_be_given(history: History) -> None:
    with pytest.raises(ValueError, match="the history's own"):
        history.append({"seq": 7}, time=NOW)


def test_the_tail_is_the_last_entries_oldest_first(history: History) -> None:
    fill(history, 9)
    assert [entry["n"] for entry in history.tail(3)] == [7, 8, 9]
    assert [entry["n"] for entry in history.tail(3, "even")] == [4, 6, 8]
    assert ([*history.tail(0)], len(history.tail(100))) == ([], 9)


def test_a_tail_of_long_lines_is_read_across_blocks(history: History, path: Path) -> None:
    for number in range(5):
        history.append({"n": number, "text": "x" * 50_000}, time=NOW)
    assert [entry["n"] for entry in history.tail(5)] == [0, 1, 2, 3, 4]
    assert list(read_backwards(path)) == lines_of(path)[::-1]


def test_the_chain_goes_on_after_a_restart(
    history: History, reopened: Callable[[], History]
) -> None:
    fill(history, 2)
    again = reopened()
    assert again.append({"n": 3}, time=LATER)["seq"] == 3
    assert (again.verify().is_ok, again.verify().lines, again.notes) == (True, 3, [])
    assert numbers(again) == [1, 2, 3]


def test_an_empty_history_is_right(history: History) -> None:
    assert (history.verify().is_ok, history.tail(5), [*history.replay()]) == (True, [], [])


@pytest.mark.parametrize(
    ("harm", "bad_line", "reason"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b"odd", b"odt"), *lines[3:]], 3, "changed"),
        (lambda lines: lines[:2] + lines[3:], 3, "2 is followed by 4"),
        (lambda lines: [*lines[:1], lines[2], lines[1], *lines[3:]], 2, "out of order"),
        (lambda lines: lines[1:], 1, "lines before it are gone"),
        (lambda lines: [*lines[:2], b"not json", *lines[3:]], 3, "is not an entry"),
        (lambda lines: [*lines[:2], lines[2][:20], *lines[3:]], 3, "is not an entry"),
        (lambda lines: [*lines[:2], b"[1]", *lines[3:]], 3, "is not an entry"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b"odd", b"odt")], 5, "is not the last"),
        (lambda lines: lines[:-2], 3, "lines after it are gone"),
        (lambda lines: [], 1, "lines after it are gone"),
    ],
    ids=[
        "edited",
        "removed",
        "moved",
        "beginning removed",
        "overwritten",
        "cut in the middle",
        "no object",
        "last edited",
        "end removed",
        "emptied",
    ],
)
def test_harm_by_hand_is_found_at_its_line(
    history: History,
    path: Path,
    harm: Callable[[list[bytes]], list[bytes]],
    bad_line: int,
    reason: str,
) -> None:
    fill(history, 5)
    put(path, harm(lines_of(path)))
    found = history.verify()
    assert (found.is_ok, found.bad_line) == (False, bad_line)
    assert reason in found.reason


def test_every_changed_byte_is_found(history: History, path: Path) -> None:
    fill(history, 3)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert not history.verify().is_ok, f"byte {at}"


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_last_line_cut_off_by_a_crash_is_kept_aside(
    history: History, path: Path, reopened: Callable[[], History], cut: int
) -> None:
    fill(history, 3)
    whole = path.read_bytes()
    last = lines_of(path)[-1] + b"\n"
    path.write_bytes(whole[: len(whole) - len(last) + cut])
    again = reopened()
    assert path.with_name("history.jsonl.torn-1").read_bytes() == last[:cut]
    assert "cut off by a crash" in again.notes[0]
    assert again.append({"n": 4}, time=LATER)["seq"] == 4
    assert (again.verify().is_ok, numbers(again)) == (True, [1, 2, 4])


def test_a_last_line_that_lacks_only_its_newline_counts(
    history: History, path: Path, reopened: Callable[[], History]
) -> None:
    fill(history, 3)
    path.write_bytes(path.read_bytes()[:-1])
    again = reopened()
    assert (again.verify().is_ok, numbers(again), again.notes) == (True, [1, 2, 3], [])


def test_zeros_after_a_power_cut_are_kept_aside(
    history: History, path: Path, reopened: Callable[[], History]
) -> None:
    fill(history, 2)
    with path.open("ab") as file:
        file.write(bytes(300_000))
    again = reopened()
    assert (again.verify().is_ok, numbers(again)) == (True, [1, 2])
    assert path.with_name("history.jsonl.torn-1").stat().st_size == 300_000


def test_a_damaged_history_is_kept_aside_and_a_new_one_names_it(
    history: History, path: Path, reopened: Callable[[], History]
) -> None:
    fill(history, 5)
    lines = lines_of(path)
    put(path, [*lines[:2], b"oops", *lines[3:]])
    damaged = path.read_bytes()
    again = reopened()
    (first,) = again.tail(10)
    assert (first["event"], first["aside"], first["good_lines"], first["time"]) == (
        "history-restarted",
        "history.jsonl.bad-1",
        2,
        LATER,
    )
    assert path.with_name(first["aside"]).read_bytes() == damaged
    assert "what runs goes on" in again.notes[0]


def test_after_damage_the_good_lines_are_replayed_and_no_number_is_used_twice(
    history: History, path: Path, reopened: Callable[[], History]
) -> None:
    fill(history, 5)
    lines = lines_of(path)
    put(path, [*lines[:2], b"oops", *lines[3:]])
    again = reopened()
    assert again.append({"n": 6}, time=LATER)["seq"] == 7
    assert (numbers(again), again.verify().is_ok) == ([1, 2, 6], True)


def test_damage_twice_keeps_both_aside(
    history: History, path: Path, reopened: Callable[[], History]
) -> None:
    fill(history, 2)
    with path.open("ab") as file:
        file.write(b"oops\n")
    second = reopened()
    second.append({"n": 3}, time=LATER)
    with path.open("ab") as file:
        file.write(b"oops\n")
    third = reopened()
    third.append({"n": 4}, time=LATER)
    assert numbers(third) == [1, 2, 3, 4]
    assert sorted(os.listdir(path.parent)) == [
        "history.jsonl",
        "history.jsonl.bad-1",
        "history.jsonl.bad-2",
    ]


def test_a_kept_file_that_names_itself_ends_the_replay(
    history: History, path: Path, reopened: Callable[[], History]
) -> None:
    history.append({"n": 1, "aside": "history.jsonl.bad-1", "good_lines": 1}, time=NOW)
    path.with_name("history.jsonl.bad-1").write_bytes(path.read_bytes())
    assert numbers(reopened()) == [1, 1]


def test_a_file_that_went_while_it_was_open_is_begun_anew(history: History, path: Path) -> None:
    fill(history, 2)
    path.unlink()
    assert history.append({"n": 3}, time=NOW)["seq"] == 4
    assert (history.verify().is_ok, numbers(history)) == (True, [3])
    assert "nothing is left of it" in history.notes[0]


def test_a_file_in_its_place_is_kept_aside(history: History, path: Path) -> None:
    fill(history, 2)
    path.rename(path.with_name("rotated"))
    path.write_bytes(b"somebody else's\n")
    history.append({"n": 3}, time=NOW)
    assert path.with_name("history.jsonl.bad-1").read_bytes() == b"somebody else's\n"
    assert history.verify().is_ok


def test_a_full_disk_leaves_the_history_as_it_was(history: History, path: Path) -> None:
    fill(history, 2)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(HistoryError, match="what runs goes on"):
            history.append({"n": 3}, time=NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    assert history.append({"n": 3}, time=NOW)["seq"] == 3
    assert history.verify().is_ok


def test_an_entry_that_is_too_long_is_refused(history: History) -> None:
    with pytest.raises(HistoryError, match="too long"):
        history.append({"text": "x" * (1 << 20)}, time=NOW)
    assert history.append({"n": 1}, time=NOW)["seq"] == 1


@pytest.mark.parametrize("place", ["a folder", "no folder"])
def test_a_history_that_can_not_be_opened_says_what_to_do(tmp_path: Path, place: str) -> None:
    path = tmp_path if place == "a folder" else tmp_path / "no" / "history.jsonl"
    with pytest.raises(HistoryError, match=r"cannot be opened: .*\n.*set state_dir"):
        History(path, time=NOW)


def test_damage_while_it_is_open_is_not_replayed(history: History, path: Path) -> None:
    fill(history, 3)
    put(path, [b"oops", *lines_of(path)[1:]])
    with pytest.raises(BrokenChain, match="line 1 is not an entry"):
        list(history.replay())


def test_what_was_appended_survives_a_sigkill(path: Path, reopened: Callable[[], History]) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from changeover.supervisor.history import History

        history = History(Path(sys.argv[1]), time="2026-01-02T03:04:05Z")
        for number in range(1, 4):
            history.append({"n": number}, time="2026-01-02T03:04:05Z")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", dedent(script), path], check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL
    assert numbers(reopened()) == [1, 2, 3]
