"""The line that moves while the demo runs, on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .settings import Settings

if TYPE_CHECKING:
    from .demo_frames import DemoFrames
    from .demo_run import Score

_ERASE = "\r\x1b[K"


class DemoLine:
    """One line on stderr, written over with every frame; nothing where nobody looks."""

    def __init__(self, settings: Settings, frames: DemoFrames) -> None:
        self._frames = frames
        self._is_shown = sys.stderr.isatty() and not (settings.quiet or settings.json)

    def show(self, score: Score) -> None:
        """How it stands."""
        if not self._is_shown:
            return
        sys.stderr.write(
            f"{_ERASE}frame {score.out} of {self._frames.total}   release @{score.release}   "
            f"changeovers {score.changeovers}   killed {score.killed}   "
            f"longest gap {score.longest_gap_s * 1000:.0f} ms"
        )
        sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_shown:
            sys.stderr.write(_ERASE)
            sys.stderr.flush()
