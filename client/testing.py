"""Fixtures for people who test their plugins (a pytest plugin, there once this is installed).

    def test_no_frame_is_lost(stage):
        stage.load("denoise.py")
        out = stage.run(stage.slate(50), changeover_at=25, kill_at=40)
        assert stage.numbers(out) == list(range(50))

Every pytest run imports this file, so it imports nothing that is not used.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..protocol.frame import Frame
    from .call import Reply
    from .changeover import Changeover
    from .handle import PluginHandle


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A private supervisor for this test, with the plugins that it loads."""
    folders = (request.path.parent, request.config.rootpath, Path.cwd())
    made = Stage(folders)
    yield made
    made.close()


class Stage:
    """Real workers, numbered pictures, and trouble at the moment that a test chooses."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)
        self._co: Changeover | None = None
        self._handle: PluginHandle | None = None

    @property
    def co(self) -> Changeover:
        """The connection to the supervisor, for everything else that a test wants of it."""
        if self._co is None:
            from .connecting import launch

            # A release changes when the test says so, not when it saves a file.
            self._co = launch({}, watch="off")
        return self._co

    def load(self, source: Any, *, name: str | None = None, **keys: Any) -> PluginHandle:
        """Load a plugin: a path beside the test, a callable, or anything that `launch` takes.

        `keys` are the config's (`workers=2`). Raises Refused when it does not come up.
        """
        if isinstance(source, (str, Path)):
            source = self._find(Path(source))
            name = name or source.stem
        name = name or getattr(source, "__name__", "plugin").strip("<>")
        self.co.add(name, {"source": source, **keys})
        self._handle = self.co[name]
        return self._handle

    def slate(self, count: int, width: int = 320, height: int = 180) -> list[Frame]:
        """So many pictures with their numbers in the pixels, from 0."""
        from .slate import slate

        return [slate(number, width, height) for number in range(count)]

    def numbers(self, pictures: Iterable[Any]) -> list[int]:
        """The numbers that are in the pixels. Raises SlateError where there is none."""
        from .slate import read_number

        return [read_number(picture) for picture in pictures]

    def run(
        self,
        items: Iterable[Any],
        *,
        changeover_at: int | None = None,
        kill_at: int | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        """Everything through the plugin that was loaded last, in order.

        While item `changeover_at` goes in, the release is replaced (by what the source holds now,
        even if it is the same); while item `kill_at` goes in, a worker is killed.
        """
        handle = self._loaded()
        changes: list[Reply] = []

        def source() -> Iterator[Any]:
            for index, item in enumerate(items):
                if index == changeover_at:
                    changes.append(self._change(handle.plugin))
                if index == kill_at:
                    self._kill(handle.plugin)
                yield item

        results = list(handle.map(source(), **kwargs))
        for change in changes:
            change.result()
        return results

    def close(self) -> None:
        """End the supervisor and its workers."""
        if self._co is not None:
            self._co.close()

    def _loaded(self) -> PluginHandle:
        if self._handle is None:
            raise RuntimeError("no plugin on stage: load one first, stage.load('denoise.py')")
        return self._handle

    def _find(self, source: Path) -> Path:
        for folder in self._folders:
            if (folder / source).exists():
                return folder / source
        where = ", ".join(map(str, dict.fromkeys(self._folders)))
        raise FileNotFoundError(f"no {source} in {where}")

    def _change(self, plugin: str) -> Reply:
        from .ask import reload

        asked = reload(plugin, None, force=True, dry_run=False, wait=None, timeout_s=None)
        return self.co.connection.request(asked.method, asked.params, asked.read)

    def _kill(self, plugin: str) -> None:
        facts = self.co.status(plugin)["plugins"][plugin]
        serving = [w for w in facts["workers"] if w["generation"] == facts["generation"]]
        victim = max(serving, key=lambda worker: int(worker["busy"]))
        os.kill(victim["pid"], signal.SIGKILL)
