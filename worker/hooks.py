"""Calls the author's hooks; what one raises becomes the fault that is answered."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ..protocol.errors import Fault
from .blame import blame_hook
from .release import Release

if TYPE_CHECKING:
    from .coroutines import Coroutines
    from .loaded import LoadedPlugin


class Hooks:
    """Runs plugin code outside of jobs, and owns the event loop that jobs use too."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._coroutines: Coroutines | None = None

    def coroutines(self) -> Coroutines:
        """The event loop of `async def` code, started when first needed."""
        if self._coroutines is None:
            from .coroutines import Coroutines

            self._coroutines = Coroutines()
        return self._coroutines

    def run(self, stage: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call it. Raises Fault, whose message begins with the stage, for whatever it raises."""
        try:
            value = function(*args)
            return self.coroutines().run(value) if isinstance(value, CoroutineType) else value
        except Fault:
            raise
        except BaseException as exc:  # noqa: BLE001  the plugin's: sys.exit() in on_load, too
            raise blame_hook(exc, self._release, stage) from None

    def call(self, plugin: LoadedPlugin, name: str, *args: Any) -> Any:
        """Call the author's hook; None where there is none."""

        def call() -> Any:
            hook = plugin.hook(name)
            return None if hook is None else hook(*args)

        return self.run(name, call)
