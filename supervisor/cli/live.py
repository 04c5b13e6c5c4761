"""What happens while a verb waits: one line on a terminal that keeps changing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .settings import Settings

if TYPE_CHECKING:
    from rich.status import Status

    from ...client import Changeover, Watch

PRESENT = {"stage": "staging", "warm": "warming", "check": "checking", "adopt": "handing over",
           "hold": "holding callers", "cut": "cutting", "drain": "draining",
           "export": "exporting state", "stop": "stopping the old one", "park": "parking",
           "watch": "watching", "retire": "retiring the old one"}  # fmt: skip
JOIN_S = 5.0


@contextmanager
def phases_shown(settings: Settings, supervisor: Changeover) -> Iterator[None]:
    """Show the phases of changeovers on stderr while the block runs, if that is a terminal."""
    if settings.quiet or settings.json or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    console = Console(stderr=True, no_color=not settings.has_color)
    with supervisor.watch("plugins") as watch, console.status("") as line:
        teller = threading.Thread(target=_tell, args=(watch, line), daemon=True)
        teller.start()
        try:
            yield
        finally:
            watch.close()
            teller.join(JOIN_S)


def _tell(watch: Watch, line: Status) -> None:
    for kind, params in watch:
        if kind == "change_phase":
            line.update(phase_words(*params))


def phase_words(name: str, facts: dict[str, Any]) -> str:
    """`detect: warming`: `phase` is the step that ended, `next` the one that began."""
    step = str(facts.get("next", ""))
    return f"{name}: {PRESENT.get(step, step)}"
