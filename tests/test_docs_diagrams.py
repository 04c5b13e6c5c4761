"""The README shows the tables as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_diagrams_in_the_readme_are_those_of_the_tables() -> None:
    drawn = subprocess.run(
        [sys.executable, "-P", str(ROOT / "docs" / "diagrams.py")],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    assert "stateDiagram-v2" in drawn
    readme = (ROOT / "README.md").read_text()
    shown = readme.split("<!-- diagrams -->")[1].split("<!-- /diagrams -->")[0].strip()
    assert shown == drawn, "make it anew: python docs/diagrams.py README.md"
