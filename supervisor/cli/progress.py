"""How far a job is, on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from .settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from ...client import Progress


class ProgressBar:
    """Shows the newest report; made when the first one comes, gone when the job has ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bar: RichProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, report: Progress) -> None:
        """Take one report, from the thread that reads."""
        if self._settings.quiet:
            return
        if not sys.stderr.isatty():
            self._settings.say(_line(report))
            return
        bar = self._bar or self._start()
        bar.update(
            bar.task_ids[0],
            completed=report.done,
            total=report.total,
            description=report.message or "",
        )

    def _start(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import Progress as RichProgress

        console = Console(stderr=True, no_color=not self._settings.has_color)
        self._bar = RichProgress(console=console, transient=True)
        self._bar.add_task("", total=None)
        self._bar.start()
        return self._bar


def _line(report: Progress) -> str:
    share = f"{report.done:g}" if report.total is None else f"{report.done:g}/{report.total:g}"
    return f"{share}  {report.message}" if report.message else share
