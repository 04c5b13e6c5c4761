"""A plugin's own folder in the state_dir, and a worker's own temporary one.

The first is kept over releases and restarts, the second goes with the worker. What a supervisor
that was killed has left of those, the next one removes.
"""

from __future__ import annotations

import os
from pathlib import Path

from .files import Files
from .trees import remove_tree


class Folders:
    """Made when they are asked for; removed by the helper thread. Raises OSError."""

    def __init__(self, state_dir: Path, supervisor_id: str, files: Files) -> None:
        self._plugins = state_dir / "plugins"
        self._temporary = state_dir / "tmp"
        self._id = supervisor_id
        self._files = files
        if self._temporary.exists():
            files.submit(self._remove_abandoned)

    def of_plugin(self, name: str) -> Path:
        """The plugin's `ctx.state_dir`."""
        folder = self._plugins / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def of_worker(self, worker_id: str) -> Path:
        """The worker's `$TMPDIR`."""
        folder = self._temporary / f"{self._id}.{worker_id}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def discard(self, worker_id: str) -> None:
        """The worker has left."""
        folder = self._temporary / f"{self._id}.{worker_id}"
        if folder.exists():
            self._files.submit(remove_tree, folder)

    def _remove_abandoned(self) -> None:
        for name in os.listdir(self._temporary):
            if not name.startswith(f"{self._id}."):
                remove_tree(self._temporary / name)
