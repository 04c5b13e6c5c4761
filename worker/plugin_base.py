"""The class that a plugin derives from when it has something to load or to hand over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .plugin_mark import UNVERSIONED

if TYPE_CHECKING:
    from ..protocol.plugin_version import PluginVersion
    from .context import Context


class Plugin:
    """A plugin with something to load or to hand over. Every hook is optional; hooks raise.

    `name` is what messages call it (default: the class's), `version` the author's SemVer. `pure`:
    same input, same output, no side effects, so a lost job may be run again. `frames`
    `"ordered"`: it looks at its neighbours, one worker sees a stream in order.
    `state_format` names what `export_state` gives; `state_accepts` what `on_reload` can take.
    """

    name: str = ""
    version: str = UNVERSIONED
    pure: bool = False
    frames: str = "independent"
    state_format: str = "1"
    state_accepts: tuple[str, ...] = ()

    def on_load(self, ctx: Context) -> None:
        """Once per worker, before any job."""

    def on_check(self, ctx: Context) -> None:
        """Before traffic; raise, and the release is refused."""

    def on_reload(self, old_version: PluginVersion, state: Any) -> None:
        """In the new worker, before its first job; `state` is None without a handoff."""

    def on_flush(self) -> Iterable[Any] | None:
        """The values still held, at the end of a stream and before a cut."""
        return None

    def export_state(self) -> Any:
        """What the next release takes over. This instance must be able to go on."""
        return None

    def on_unload(self) -> None:
        """The last call; it comes even if `on_load` raised."""
