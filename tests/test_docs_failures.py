"""docs/failures.md: every row is there, and every test and defect that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .sim_defects import DEFECTS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/failures.md").read_text()
ROWS = {line.split("|")[1].strip(): line for line in PAGE.splitlines() if re.match(r"\| \d", line)}
NAMED = sorted(set(re.findall(r"`tests/([a-z_]+)\.py::(test_\w+)`", PAGE)))


def test_every_row_is_there_in_order() -> None:
    assert list(ROWS) == [str(number) for number in range(1, 30)]


@pytest.mark.parametrize("number", [str(number) for number in range(1, 30)])
def test_a_row_has_a_test_that_was_seen_to_fail_or_says_what_is_missing(number: str) -> None:
    _, _, wrong, must, tests, seen, _ = ROWS[number].split("|")
    assert wrong.strip()
    assert must.strip()
    assert ("::test_" in tests and len(seen) > 10) or "not yet" in tests


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    text = (ROOT / f"tests/{file}.py").read_text()
    assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE)


def test_programs_and_defects_that_are_named_exist() -> None:
    for program in re.findall(r"python -m tests\.(\w+)", PAGE):
        assert (ROOT / f"tests/{program}.py").exists()
    told = [line for row in ROWS.values() for line in re.findall(r"defects: ([^|<.]+)", row)]
    assert {defect.strip() for line in told for defect in line.split(";")} <= set(DEFECTS)
