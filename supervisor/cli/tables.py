"""Tables: aligned text for pipes and files, rich on a terminal.

Must not know what is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from .settings import Settings

STYLES = {"live": "green", "changing": "cyan", "paused": "yellow", "holding": "cyan",
          "backoff": "yellow", "failed": "red", "lost": "red", "refused": "red",
          "rolled_back": "red", "done": "green"}  # fmt: skip


def many(count: int, noun: str) -> str:
    """`1 worker`, `2 workers`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@dataclass(slots=True)
class Table:
    """Titles, rows of text, and which columns hold numbers (those are set right)."""

    titles: Sequence[str]
    numbers: frozenset[str] = frozenset()
    rows: list[Sequence[str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Plain text, two spaces between the columns."""
        table = [self.titles, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.titles))]
        return ["  ".join(map(self._cell, self.titles, row, widths)).rstrip() for row in table]

    def _cell(self, title: str, text: str, width: int) -> str:
        return text.rjust(width) if title in self.numbers else text.ljust(width)

    def show(self, settings: Settings) -> None:
        """Print it in the way that fits where it goes."""
        if settings.is_screen:
            self._show_rich(settings)
        else:
            click.echo("\n".join(self.lines()))

    def _show_rich(self, settings: Settings) -> None:
        from rich.console import Console

        console = Console(no_color=not settings.has_color, highlight=False)
        lines = self.lines()
        if max(map(len, lines)) > console.width:
            click.echo("\n".join(lines))  # whole lines that the terminal wraps, nothing cut off
        else:
            console.print(self.rich())

    def rich(self) -> object:
        """The same for a terminal, with coloured states."""
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for title in self.titles:
            table.add_column(title, justify="right" if title in self.numbers else "left")
        for row in self.rows:
            table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        return table
