"""The plugins of the service: config, sources under watch, schedules, and what operators ask.

It turns requests into facts for the core and has no opinion on what follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from ..protocol.errors import Code, Fault
from .changeover import Changeover
from .config import Config, ConfigError
from .config_changes import changed_keys
from .digest import Fingerprint
from .looks import Looks
from .news import News
from .past import Past
from .plugin import Plugin
from .rates import Rates
from .registry import OnChange
from .shell import Shell
from .source import SourceSet
from .spec import PluginSpec
from .staged import Staged
from .watcher import Watcher

T = TypeVar("T")
NOT_DURABLE = (
    "durable = true takes a state_dir that outlives the supervisor, and this one is temporary\n"
    '  name one, as in launch(…, state_dir="…") or -o state_dir=…, or leave durable away'
)
CRON_LOOK_S = 60.0  # the wall clock may jump, so a cron is looked at this often at least


class Roster:
    """Everything that is done to plugins by name."""

    def __init__(
        self, config: Config, shell: Shell, news: News, past: Past, *, may_be_durable: bool
    ) -> None:
        self.config = config
        self._may_be_durable = may_be_durable
        self._shell = shell
        self._core = shell.core
        self._news = news
        self._past = past
        self._core.desk.last_generation = past.last_generation
        self._watcher = Watcher(
            settle_s=config.supervisor.settle_s,
            mode=config.supervisor.watch,
            executor=shell.files,
            on_candidate=self._candidate,
            on_note=lambda name, text: news.narrate("warning", name, text),
            breathe=shell.files.breathe,
        )
        self._looks = Looks(shell)
        self._schedule: asyncio.TimerHandle | None = None
        self._removing: dict[str, list[asyncio.Future[None]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- coming and going

    def start(self) -> list[Changeover]:
        """Begin the first load of everything in the config."""
        changes = [self.add(spec, reason="start") for spec in self.config.plugins.values()]
        for name, count in self._shell.ledger.homeless.items():
            text = f"{count} durable jobs wait in the journal for a plugin of this name"
            self._news.narrate("warning", name, text)
        return changes

    def add(self, spec: PluginSpec, *, reason: Any = "add", who: str = "config") -> Changeover:
        """Register a plugin and begin its first load. Raises Fault CONFLICT, INVALID_PARAMS."""
        self._check_durable(spec)
        plugin = self._past.plugin(spec)
        change = self._core.add(self._shell.now(), spec, reason=reason, who=who, plugin=plugin)
        self._news.rates[spec.name] = Rates()
        self._shell.restore(spec.name)
        self._shell.act()
        self._arm_schedule()
        self._looks.arm()
        return change

    def _check_durable(self, spec: PluginSpec) -> None:
        if spec.durable and not self._may_be_durable:
            raise Fault.new(Code.INVALID_PARAMS, f"{spec.name}: {NOT_DURABLE}", plugin=spec.name)

    def remove(self, name: str) -> Coroutine[Any, Any, Plugin]:
        """Close a plugin. To await: until its last worker has left."""
        plugin = self._core.remove(self._shell.now(), name)
        self._watcher.unwatch(name)
        self._shell.act()
        return self._await_removal(plugin)

    async def _await_removal(self, plugin: Plugin) -> Plugin:
        if self._core.plugins.get(plugin.name) is plugin:
            gone: asyncio.Future[None] = self._shell.loop.create_future()
            self._removing.setdefault(plugin.name, []).append(gone)
            await gone
        return plugin

    def notice_removed(self) -> None:
        """Tell those who wait for a plugin that has gone."""
        for name in [name for name in self._removing if name not in self._core.plugins]:
            for gone in self._removing.pop(name):
                if not gone.done():
                    gone.set_result(None)

    # -- changeovers

    def change(
        self,
        name: str,
        reason: Any,
        *,
        who: str = "",
        force: bool = False,
        spec: PluginSpec | None = None,
    ) -> Changeover:
        """Begin a changeover to what the source holds."""
        return self._tell(self._core.change, name, reason, who=who, force=force, spec=spec)

    def rollback(self, name: str, *, to: int | None, who: str) -> Changeover:
        """Begin a changeover back."""
        return self._tell(self._core.rollback, name, to=to, who=who)

    def pause(self, name: str, *, reject: bool = False) -> Plugin:
        """Shut a queue."""
        return self._tell(self._core.pause, name, reject=reject)

    def resume(self, name: str) -> Plugin:
        """Open a queue."""
        return self._tell(self._core.resume, name)

    def _tell(self, fact: Callable[..., T], *args: Any, **facts: Any) -> T:
        told = fact(self._shell.now(), *args, **facts)
        self._shell.act()
        return told

    def reload_all(self, *, who: str) -> list[Changeover]:
        """Whatever changed, and the config. Raises Fault INVALID_PARAMS on a bad config."""
        configured = self._read_config(who)
        begun = [
            self._core.change(self._shell.now(), name, "signal", who=who)
            for name, plugin in self._core.plugins.items()
            if name not in configured
            and not plugin.is_closing  # the config has it no more
            and self._core.registry.auto_reload_enabled(name)
        ]
        self._shell.act()
        return [*configured.values(), *begun]

    # -- the config

    def _read_config(self, who: str) -> dict[str, Changeover]:
        if self.config.path is None:
            return {}
        try:
            fresh = self.config.read_again()
        except ConfigError as error:
            problems = "\n  ".join(error.problems)
            self._news.narrate("error", "", f"config not taken, the old one stays\n  {problems}")
            raise Fault.new(Code.INVALID_PARAMS, "\n".join(error.problems)) from None
        for spec in fresh.plugins.values():
            self._check_durable(spec)
        old, self.config = self.config, fresh
        for name in old.plugins.keys() - fresh.plugins.keys():
            self._remove_later(name)
        changes = {name: self._configure(name, spec, who) for name, spec in fresh.plugins.items()}
        return {name: change for name, change in changes.items() if change is not None}

    def _remove_later(self, name: str) -> None:
        task = self._shell.loop.create_task(self.remove(name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _configure(self, name: str, spec: PluginSpec, who: str) -> Changeover | None:
        plugin = self._core.plugins.get(name)
        if plugin is None:
            return self.add(spec, reason="config", who=who)
        if plugin.spec == spec:
            return None
        _, taking_a_change = changed_keys(plugin.spec, spec)
        needs_change = bool(taking_a_change)
        change = self._core.reconfigure(self._shell.now(), spec, needs_change=needs_change)
        self._watch_source(spec, None)
        self._shell.act()
        self._arm_schedule()
        self._looks.arm()
        return change

    # -- sources and schedules

    def registered(self, name: str, staged: Staged | None) -> None:
        """A release serves: its source is compared with it from now on."""
        plugin = self._core.plugins.get(name)
        if plugin is not None and staged is not None:
            self._watch_source(plugin.spec, staged)

    def refused(self, change: Changeover) -> None:
        """Nothing serves yet: whatever differs from what was refused is worth a look.

        Not before: a candidate would race with the first load of the same content.
        """
        plugin = self._core.plugins.get(change.plugin)
        if plugin is not None and plugin.live is None and not plugin.is_closing:
            release = change.release
            self._watch_source(
                plugin.spec, self._shell.staging.known.get(release.digest) if release else None
            )

    def _watch_source(self, spec: PluginSpec, known: Staged | None) -> None:
        if isinstance(spec.reload, OnChange) and not spec.pickled:
            fingerprint = known.fingerprint if known else None
            keys = known.keys if known else ()
            self._watcher.watch(spec.name, SourceSet.of(spec), fingerprint, keys)
        else:
            self._watcher.unwatch(spec.name)

    def _candidate(self, name: str, seen: Fingerprint) -> None:
        self._tell(self._core.candidate, name, seen.hash, seen.digest)

    def _arm_schedule(self) -> None:
        if self._schedule is not None:
            self._schedule.cancel()
        wait_s = self._core.registry.next_due_s(self._shell.now(), _wall())
        if wait_s is not None:
            wait_s = min(wait_s, CRON_LOOK_S)
            self._schedule = self._shell.loop.call_later(wait_s, self._check_schedules)

    def _check_schedules(self) -> None:
        self._tell(self._core.check_schedules, _wall())
        self._arm_schedule()

    async def close(self) -> None:
        """Look at nothing any more."""
        if self._schedule is not None:
            self._schedule.cancel()
        self._looks.close()
        await self._watcher.close()


def _wall() -> datetime:
    return datetime.now(UTC).astimezone()
