"""The check that nothing is left behind has to be able to fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

LEAKS = {
    "descriptor": "import os\ndef test_it():\n    os.pipe()\n",
    "process": (
        "import subprocess\nkept = []\ndef test_it():\n"
        "    kept.append(subprocess.Popen(['sleep', '100']))\n"
    ),
    "orphan": (
        "import subprocess\ndef test_it():\n"
        "    subprocess.run(['sh', '-c', 'sleep 100 >/dev/null 2>&1 &'], check=True)\n"
    ),
    "thread": (
        "import threading\ndef test_it():\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_what_is_left_behind_fails_the_test(leak: str, tmp_path: Path) -> None:
    text = (HERE / "conftest.py").read_text().replace("GRACE_S = 5.0", "GRACE_S = 0.2")
    (tmp_path / "conftest.py").write_text(text)
    (tmp_path / "test_leak.py").write_text(LEAKS[leak])

    ran = _pytest(tmp_path)

    assert ran.returncode == 1, ran.stdout
    assert f"left behind: {'process' if leak == 'orphan' else leak}" in ran.stdout


def test_a_tidy_test_passes(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((HERE / "conftest.py").read_text())
    (tmp_path / "test_tidy.py").write_text("def test_it():\n    pass\n")

    assert _pytest(tmp_path).returncode == 0


def _pytest(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
    )
