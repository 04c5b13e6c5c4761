"""A running supervisor as a thread sees it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from . import ask
from .ask import Ask, Until
from .changes import Change, ChangeWatcher
from .connection import Connection
from .executor import PluginExecutor
from .handle import PluginHandle
from .outcome import ChangeOutcome
from .spec import Source
from .watch import Filter, Watch, WatchHub

T = TypeVar("T")

ANSWER_S = 60.0  # for what a supervisor answers at once


class Changeover:
    """`connect()` and `launch()` return it. Leaving the `with` finishes what was sent; leaving it
    by an exception cancels that instead. Every wait for the supervisor itself has a deadline.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._hub = WatchHub(connection)
        self._changes: ChangeWatcher | None = None
        self._finalizer = weakref.finalize(self, abandon, connection)
        self._finalizer.atexit = False  # `closing.py` waits at the interpreter's exit

    # -- plugins

    def __getitem__(self, plugin: str) -> PluginHandle:
        """The plugin of that name. Whether there is one shows when it is called."""
        return PluginHandle(self.connection, plugin, self)

    def executor(self, plugin: str) -> PluginExecutor:
        """The plugin as a `concurrent.futures.Executor`."""
        return PluginExecutor(self[plugin])

    def __contains__(self, plugin: str) -> bool:
        """Has it a plugin of that name?"""
        return plugin in self.status()["plugins"]

    def __iter__(self) -> Iterator[str]:
        """The names of its plugins."""
        return iter(self.status()["plugins"])

    def add(
        self, name: str, plugin: Source | Mapping[str, Any], *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Load a plugin: a path, a callable or a map of its keys. Raises Refused if it fails,
        TimeoutError after `timeout` seconds; it goes on then.
        """
        return self._wait(ask.add(name, plugin), timeout)

    def remove(self, name: str) -> dict[str, Any]:
        """Finish its jobs and unload it."""
        return self._wait(ask.remove(name), None)

    # -- changeovers

    def reload(
        self,
        name: str,
        new_callable: Callable[..., Any] | None = None,
        *,
        wait: Until | None = None,
        force: bool = False,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> ChangeOutcome:
        """Replace a plugin's release by what its source holds now, or by `new_callable`.

        Returns how it ended once the old release has drained (`wait` says until when: cut,
        drained, watched). Raises Refused when the new one was refused or rolled back.
        """
        asked = ask.reload(
            name, new_callable, force=force, dry_run=dry_run, wait=wait, timeout_s=timeout
        )
        return self._wait(asked, None)[0]

    def reload_changed(
        self, names: Iterable[str] = (), *, wait: Until | None = None, force: bool = False
    ) -> list[ChangeOutcome]:
        """Several at once; without names whatever changed, and the config."""
        asked = ask.reload(list(names), None, force=force, dry_run=False, wait=wait, timeout_s=None)
        return self._wait(asked, None)

    def rollback(
        self,
        name: str,
        *,
        to: str | int | None = None,
        dry_run: bool = False,
        wait: Until | None = None,
    ) -> ChangeOutcome:
        """Back to the release that the last cut replaced, or to `to`."""
        return self._wait(ask.rollback(name, to=to, dry_run=dry_run, wait=wait), None)

    def on_changeover(self, callback: Callable[[Change], None]) -> None:
        """Call `callback` whenever a plugin's traffic has gone to another generation.

        It runs in the thread that reads; what it raises is logged.
        """
        if self._changes is None:
            self._changes = ChangeWatcher()
            self._hub.join(self._changes).result(ANSWER_S)
        self._changes.callbacks.append(callback)

    # -- operating

    def status(self, plugin: str | None = None, *, job: str | None = None) -> dict[str, Any]:
        """The `changeover.status/1` document."""
        return self._wait(ask.status(plugin, job))

    def jobs(self, plugin: str | None = None) -> list[dict[str, Any]]:
        """What runs and what is queued."""
        return self._wait(ask.jobs(plugin))

    def cancel(self, job: str, *, kill: bool = False) -> dict[str, Any]:
        """Cancel a job, by asking or (`kill`) by ending its worker: `{job, state}`."""
        return self._wait(ask.cancel(job, kill=kill))

    def pause(self, plugin: str | None = None, *, reject: bool = False) -> dict[str, Any]:
        """What runs finishes, callers wait meanwhile (or are refused): `{running, queued}`."""
        return self._wait(ask.pause(plugin, reject=reject))

    def resume(self, plugin: str | None = None) -> dict[str, Any]:
        """Undo `pause`."""
        return self._wait(ask.resume(plugin))

    def history(
        self, plugin: str | None = None, *, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """The audit trail, oldest first."""
        return self._wait(ask.history(plugin, limit))

    def logs(
        self,
        plugin: str | None = None,
        *,
        job: str | None = None,
        limit: int | None = None,
        level: str | None = None,
    ) -> list[dict[str, Any]]:
        """Lines of the supervisor and the workers, oldest first."""
        return self._wait(ask.logs(plugin, job, limit, level))

    def watch(self, *topics: str, plugin: str | None = None, min_level: str | None = None) -> Watch:
        """An iterator over what happens: topics plugins, workers, jobs, log, stats."""
        watch = Watch(self._hub, frozenset(topics), Filter(plugin, min_level))
        self._hub.join(watch).result(ANSWER_S)
        return watch

    def request(self, method: str, *params: Any, timeout: float | None = ANSWER_S) -> Any:
        """Ask anything of the wire's method table; plain values in and out."""
        self.connection.check_may_wait()
        return self.connection.request(method, params).result(timeout)

    # -- the end

    def close(self, *, now: bool = False) -> None:
        """Finish what was sent (`now`: cancel it) and leave. A private supervisor ends with it:
        within its `stop_timeout`, or by force.
        """
        self._finalizer.detach()
        self.connection.close(now=now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(now=error is not None)

    def _wait(self, asked: Ask[T], timeout_s: float | None = ANSWER_S) -> T:
        self.connection.check_may_wait()
        reply = self.connection.request(asked.method, asked.params, asked.read)
        answer: T = reply.result(timeout_s)
        return answer


def abandon(connection: Connection) -> None:
    """Nobody holds it any more: futures that somebody holds still end."""
    connection.abandon(connection.stop_timeout_s)
