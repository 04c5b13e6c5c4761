"""The keys of the config: one typed dict a table, checked by pydantic.

A key exists here exactly if a field of `spec.py` exists for it; the defaults live there, and
a table holds only what somebody wrote. Must not know where a value came from: the file, `-o`
and the `add` request all pass through these tables.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainValidator, with_config
from typing_extensions import TypedDict  # typing's own from Python 3.12 on

from . import config_values, units
from .registry import ReloadPolicy
from .spec import Isolation, Start, Swap

STRICT = ConfigDict(extra="forbid", strict=True)

Count = Annotated[int, Field(ge=1, le=2**31)]
Uid = Annotated[int, Field(ge=0, le=2**32 - 2)]
Text = Annotated[str, PlainValidator(config_values.text)]
Argument = Annotated[str, PlainValidator(config_values.argument)]
Texts = Annotated[list[Text], Field(max_length=1024)]
Duration = Annotated[float, PlainValidator(units.duration)]
PositiveDuration = Annotated[float, PlainValidator(units.positive_duration)]


@with_config(STRICT)
class PluginTable(TypedDict, total=False):
    """`[plugins.NAME]`."""

    source: Annotated[str | bytes, PlainValidator(config_values.source)]
    object: Argument
    command: Annotated[list[Argument], Field(max_length=1024)]
    python: Annotated[str, PlainValidator(config_values.python)]
    include: Texts
    config: Annotated[dict[str, Any], PlainValidator(config_values.carried)]
    env: Annotated[dict[str, str], PlainValidator(config_values.env)]
    pin: Annotated[str, PlainValidator(config_values.pin)]
    workers: Count
    concurrency: Count
    queue: Count
    full: Literal["block", "reject"]
    timeout: Annotated[float | None, PlainValidator(units.duration_or_off)]
    retries: Annotated[int, Field(ge=0, le=2**31)]
    poison: Count
    kill_grace: Duration
    restart: Annotated[tuple[float, float], PlainValidator(units.backoff)]
    crash_loop: Annotated[tuple[int, float], PlainValidator(units.burst)]
    isolation: Isolation
    env_pass: Annotated[list[str], PlainValidator(config_values.variables)]
    network: bool
    launcher: Annotated[list[Argument], Field(max_length=1024)]
    max_jobs: Annotated[int | None, PlainValidator(config_values.count_or_off)]
    max_age: Annotated[float | None, PlainValidator(units.duration_or_off)]
    max_rss: Annotated[int | None, PlainValidator(units.size_or_off)]
    memory: Annotated[int | None, PlainValidator(units.size_or_off)]
    durable: bool
    start: Start
    preload: Texts
    reload: Annotated[ReloadPolicy, PlainValidator(config_values.reload)]
    swap: Swap
    warm_timeout: PositiveDuration
    drain_timeout: Duration
    drain_over: Literal["kill", "wait"]
    hold_timeout: PositiveDuration
    probation: Duration
    rollback_keep: Literal["warm", "staged", "auto"]
    max_errors: Annotated[tuple[float | None, float | None], PlainValidator(units.error_limit)]


@with_config(STRICT)
class SupervisorTable(TypedDict, total=False):
    """`[supervisor]`."""

    name: Annotated[str, PlainValidator(config_values.plugin_name)]
    socket: Text
    socket_mode: Annotated[int, PlainValidator(config_values.mode)]
    socket_group: Argument
    allow_uids: Annotated[list[Uid], Field(max_length=1024)]
    allow_add: bool
    state_dir: Text
    watch: Literal["auto", "poll", "off"]
    settle: Duration
    stop_timeout: Duration
    keep_releases: Count
    session_jobs: Count
    session_bytes: Annotated[int, PlainValidator(units.size)]
    max_spawns: Count


@with_config(STRICT)
class LogTable(TypedDict, total=False):
    """`[log]`."""

    level: Literal["debug", "info", "warning", "error"]
    format: Literal["auto", "text", "json"]


# Where a key's value goes in `PluginSpec`, if not into the field of the same name.
PLUGIN_FIELDS: dict[str, tuple[str, ...]] = {
    "source": ("source", "pickled"),
    "timeout": ("timeout_s",),
    "kill_grace": ("kill_grace_s",),
    "restart": ("restart_min_s", "restart_max_s"),
    "crash_loop": ("crash_loop_count", "crash_loop_window_s"),
    "max_age": ("max_age_s",),
    "max_rss": ("max_rss_bytes",),
    "memory": ("memory_bytes",),
    "warm_timeout": ("warm_timeout_s",),
    "drain_timeout": ("drain_timeout_s",),
    "hold_timeout": ("hold_timeout_s",),
    "probation": ("probation_s",),
    "max_errors": ("max_errors_factor", "max_errors_rate"),
}
SUPERVISOR_FIELDS = {"settle": "settle_s", "stop_timeout": "stop_timeout_s"}
PLUGIN_KEYS = tuple(PluginTable.__annotations__)
SUPERVISOR_KEYS = tuple(SupervisorTable.__annotations__)
LOG_KEYS = tuple(LogTable.__annotations__)


def plugin_fields(key: str, value: Any) -> dict[str, Any]:
    """One checked value of `[plugins.NAME]` as the fields of `PluginSpec` that it sets."""
    if key == "source":
        return {"pickled" if isinstance(value, bytes) else "source": value}
    if isinstance(value, list):
        return {key: tuple(value)}
    names = PLUGIN_FIELDS.get(key, (key,))
    return dict(zip(names, value if len(names) > 1 else (value,), strict=True))
