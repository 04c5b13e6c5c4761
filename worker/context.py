"""What `on_load` and `on_check` are given: the plugin's config, its files, its folder, its log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .log import Log
from .release import Release

if TYPE_CHECKING:
    from pathlib import Path

STATE_DIR = "CHANGEOVER_STATE_DIR"


class Context:
    """`config` is the plugin's table of the configuration; `log` writes to the supervisor's log."""

    def __init__(self, config: dict[str, Any], log: Log, release: Release) -> None:
        self.config = config
        self.log = log
        self._release = release

    def path(self, relative: str | os.PathLike[str]) -> Path:
        """A file that came with the source (`include`), as it was staged: read-only.

        Raises FileNotFoundError for one that was not staged, ValueError for one outside.
        """
        from pathlib import Path

        return Path(self._release.staged(os.fspath(relative)))

    @property
    def state_dir(self) -> Path:
        """A folder of this plugin's own, kept over releases and restarts; made when asked for."""
        from pathlib import Path

        given = os.environ.get(STATE_DIR)
        if not given:
            raise RuntimeError(f"no folder for state: the supervisor set no {STATE_DIR}")
        folder = Path(given)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
