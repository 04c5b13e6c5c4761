"""The life of a plugin in this worker: hello, load, check, adopt, flush, export_state, unload.

One handler for each request: packed params in, packed result out. Knows no pipe.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..protocol import messages, versions
from ..protocol.errors import Code, Fault
from ..protocol.messages import NIL
from .hooks import Hooks
from .log import Log
from .outlet import Outlet
from .release import Release

if TYPE_CHECKING:
    from .context import Context
    from .loaded import LoadedPlugin
    from .runner import Runner

CONCURRENCY = "CHANGEOVER_CONCURRENCY"


class Life:
    """`handlers` by request, `runner` for jobs once the plugin is loaded.

    `find` gets the plugin's function or class out of the release.
    """

    def __init__(
        self,
        release: Release,
        find: Callable[[], Any],
        outlet: Outlet,
        *,
        prints_stacks: bool = False,
    ) -> None:
        self.concurrency = 1
        self.is_unloaded = False
        self.handlers: dict[str, Callable[[list[bytes]], bytes]] = {
            "hello": self._hello,
            "load": self._load,
            "check": self._check,
            "adopt": self._adopt,
            "flush": self._flush,
            "export_state": self._export_state,
            "unload": self._unload,
        }
        self._release = release
        self._find = find
        self._outlet = outlet
        self._prints_stacks = prints_stacks
        self._log = Log(outlet)
        self._hooks = Hooks(release)
        self._plugin: LoadedPlugin | None = None
        self._runner: Runner | None = None
        self._context: Context | None = None

    @property
    def runner(self) -> Runner:
        """Raises Fault before `load` has succeeded and after `unload`."""
        if self._runner is None or self.is_unloaded:
            what = "unloaded already" if self.is_unloaded else "not loaded"
            raise Fault.new(Code.INVALID_REQUEST, f"the plugin is {what}")
        return self._runner

    def end(self) -> None:
        """The end of input without `unload`: the plugin still gets its last call."""
        try:
            self._unload([])
        except Fault as fault:
            self._log.error(fault.message)

    def _hello(self, params: list[bytes]) -> bytes:
        options = _options(params)
        return messages.pack({"protocol": versions.negotiate(options.get("protocol"))})

    def _load(self, params: list[bytes]) -> bytes:
        if self._plugin is not None:
            raise Fault.new(Code.INVALID_REQUEST, "the plugin is loaded already")
        options = _options(params)
        self.concurrency = _concurrency(options)
        # Only now: `hello` is answered before any of this is imported.
        from .context import Context
        from .loaded import LoadedPlugin
        from .runner import Runner

        plugin = self._plugin = self._hooks.run("import", lambda: LoadedPlugin(self._find()))
        self._context = Context(options.get("config") or {}, self._log, self._release)
        try:
            self._hooks.call(plugin, "on_load", self._context)
        except Fault:
            self.end()  # it may have got half-way: its last call comes in any case
            raise
        if any(method.is_async for method in plugin.methods.values()):
            self._hooks.coroutines()
        if options.get("reason") == "change":
            # In a handoff callers wait for `adopt`; for this import nobody waits yet.
            from . import adoption  # noqa: F401
        self._runner = Runner(plugin.methods, self._release, self._outlet, self._hooks.coroutines)
        # Also the plugin's own code: its facts may be properties.
        return bytes(self._hooks.run("import", lambda: messages.pack(self._card(plugin))))

    def _card(self, plugin: LoadedPlugin) -> dict[str, Any]:
        """What `load` answers."""
        capabilities = {"ping": True, "stacks": self._prints_stacks, **plugin.capabilities()}
        return {
            "name": plugin.name,
            "version": plugin.version,
            "methods": {name: method.wire() for name, method in plugin.methods.items()},
            "concurrency": self.concurrency,
            "frames": plugin.frames,
            "capabilities": capabilities,
            "state": {"format": plugin.state_format, "accepts": list(plugin.state_accepts)},
        }

    def _check(self, params: list[bytes]) -> bytes:
        self._hooks.call(self._loaded(), "on_check", self._context)
        return NIL

    def _adopt(self, params: list[bytes]) -> bytes:
        from .adoption import Adoption

        plugin = self._loaded()
        adoption = Adoption.of(params)
        if adoption.has_state and plugin.hook("on_reload") is None:
            self._log.warning(
                f"the state of {adoption.version} is dropped: this release has no on_reload"
            )
        else:
            adoption.check_format(plugin.state_accepts)
        self._hooks.call(plugin, "on_reload", adoption.old_version, adoption.state)
        return NIL

    def _flush(self, params: list[bytes]) -> bytes:
        from .results import pack_within

        plugin = self._loaded()

        def held() -> list[Any]:
            return _listed(self._hooks.call(plugin, "on_flush"))

        return pack_within(self._hooks.run("on_flush", held), "value", lambda: "on_flush")

    def _export_state(self, params: list[bytes]) -> bytes:
        from .results import pack_within

        plugin = self._loaded()
        if plugin.hook("export_state") is None:
            raise Fault.new(Code.METHOD_NOT_FOUND, "the plugin exports no state")
        state = {
            "format": plugin.state_format,
            "version": plugin.version,
            "data": self._hooks.call(plugin, "export_state"),
        }
        # `adopt` carries it two containers deeper than this answer does.
        return pack_within(state, "state", lambda: "export_state", inside=2)

    def _unload(self, params: list[bytes]) -> bytes:
        if self._plugin is not None and not self.is_unloaded:
            self.is_unloaded = True
            self._hooks.call(self._plugin, "on_unload")
        return NIL

    def _loaded(self) -> LoadedPlugin:
        if self._plugin is None or self.is_unloaded:
            raise Fault.new(Code.INVALID_REQUEST, "the plugin is not loaded")
        return self._plugin


def _options(params: list[bytes]) -> dict[str, Any]:
    return messages.unpack_options(params[0]) if params else {}


def _concurrency(options: dict[str, Any]) -> int:
    """What the supervisor asks for, by message or environment."""
    asked = options.get("concurrency", os.environ.get(CONCURRENCY, "1"))
    try:
        count = int(asked)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise Fault.new(Code.INVALID_PARAMS, f"concurrency must be from 1, not {asked!r:.60}")
    return count


def _listed(held: Any) -> list[Any]:
    """One value, several, or none; a generator's are drawn here."""
    if held is None:
        return []
    if isinstance(held, (list, tuple)) or hasattr(held, "__next__"):
        return list(held)
    return [held]
