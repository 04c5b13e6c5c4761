"""What a plugin and a supervisor are asked to be: plain records, read by the pure core.

The config (`config.py`) makes them from TOML, the `add` request from a map. Nothing here
knows where a value came from. Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .registry import ON_CHANGE, ReloadPolicy

Swap = Literal["auto", "overlap", "handoff", "stop-first"]
Start = Literal["auto", "exec", "spawn", "forkserver"]
Isolation = Literal["trusted", "limited", "sandboxed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSpec:
    """One `[plugins.NAME]` table with every default filled in."""

    name: str
    source: str = ""  # absolute path of a file or folder; "" with `command` or `pickled`
    pickled: bytes = b""  # a callable given from code, pickled by dill in the client
    object: str = ""
    command: tuple[str, ...] = ()
    python: str = ""  # an absolute path, or a name for PATH; "" is the supervisor's own
    include: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    pin: str = ""  # 64 hex digits, without "sha256:"

    workers: int = 1
    concurrency: int = 1
    queue: int = 256
    full: Literal["block", "reject"] = "block"
    timeout_s: float | None = None
    retries: int = 0
    poison: int = 3
    kill_grace_s: float = 2.0
    restart_min_s: float = 0.1
    restart_max_s: float = 30.0
    crash_loop_count: int = 5
    crash_loop_window_s: float = 60.0
    isolation: Isolation = "trusted"
    env_pass: tuple[str, ...] = ()
    network: bool = False
    launcher: tuple[str, ...] = ()
    max_jobs: int | None = None
    max_age_s: float | None = None
    max_rss_bytes: int | None = None
    memory_bytes: int | None = None
    durable: bool = False
    start: Start = "auto"
    preload: tuple[str, ...] = ()

    reload: ReloadPolicy = ON_CHANGE
    swap: Swap = "auto"
    warm_timeout_s: float = 60.0
    drain_timeout_s: float = 30.0
    drain_over: Literal["kill", "wait"] = "kill"
    hold_timeout_s: float = 10.0
    probation_s: float = 30.0
    rollback_keep: Literal["warm", "staged", "auto"] = "auto"
    max_errors_factor: float | None = 2.0  # "2x": times the old release's rate
    max_errors_rate: float | None = None  # "5%": 0.05, instead of the factor


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSpec:
    """The `[supervisor]` and `[log]` tables with every default filled in."""

    name: str = "changeover"
    socket: str = "auto"
    socket_mode: int = 0o600
    socket_group: str = ""
    allow_uids: tuple[int, ...] = ()
    allow_add: bool = False
    state_dir: str = "auto"
    watch: Literal["auto", "poll", "off"] = "auto"
    settle_s: float = 0.5
    stop_timeout_s: float = 60.0
    keep_releases: int = 5
    session_jobs: int = 4096
    session_bytes: int = 512 * 1024 * 1024
    max_spawns: int = 2
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json"] = "auto"
