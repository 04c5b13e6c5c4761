"""The `changeover.status/1` document. It reads the core and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .changeover import Changeover
from .core import Core
from .generation import Generation
from .job import Job
from .plugin import Plugin
from .release import Release
from .spec import PluginSpec
from .usage import Usage


def release_facts(release: Release | None) -> dict[str, Any] | None:
    """`{number, version, digest, hash}`."""
    if release is None:
        return None
    return {
        "number": release.number,
        "version": release.version,
        "digest": release.digest,
        "hash": f"{release.hash:016x}",
    }


def plugin_facts(core: Core, plugin: Plugin, usage: Mapping[int, Usage]) -> dict[str, Any]:
    """One plugin of the document."""
    live = plugin.live
    release = release_facts(live.release if live else None)
    loaded = core.registry.loaded_plugins.get(plugin.name)
    if release is not None and loaded is not None:
        release["loaded_at"] = loaded.loaded_at.isoformat()
    return {
        "state": plugin.state,
        "release": release,
        "generation": live.number if live else None,
        "changing": _changing(core, plugin.change),
        "watching": _watching(core, plugin),
        "workers": [
            worker
            for generation in plugin.generations.values()
            for worker in _workers(generation, usage, core.desk.now)
        ],
        "running": plugin.running,
        "queued": len(plugin.queue) + len(plugin.lobby),
        "counts": asdict(plugin.counts),
        "limits": _limits(plugin.spec),
        "methods": _methods(live),
        "durable": plugin.spec.durable,
        "source": live.release.shown if live else plugin.spec.source,
        "python": live.spec.python if live else plugin.spec.python,
        "isolation": (live.spec if live else plugin.spec).isolation,
        "failure": plugin.failure,
        "bad": {digest[:12]: why for digest, why in plugin.bad.items()},
        "held": sorted(digest[:12] for digest in plugin.held),
    }


def _limits(spec: PluginSpec) -> dict[str, float | None]:
    """Where its workers are recycled, and above which memory they are killed; None: nowhere."""
    return {
        "max_jobs": spec.max_jobs,
        "max_age_s": spec.max_age_s,
        "max_rss_bytes": spec.max_rss_bytes,
        "memory_bytes": spec.memory_bytes,
    }


def _methods(live: Generation | None) -> dict[str, dict[str, bool]]:
    methods = live.loaded.methods if live else {}
    return {name: {"pure": pure, "stream": stream} for name, (pure, stream) in methods.items()}


def _changing(core: Core, change: Changeover | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return {
        "step": change.step.value,
        "plan": change.plan,
        "reason": change.reason,
        "who": change.who,
        "generation": change.number or None,
        "to": release_facts(change.release),
        "since_s": round(core.desk.now - change.started_at, 3),
        "step_since_s": round(core.desk.now - change.entered_at, 3),
        "in_flight": change.old.borrowed if change.old else 0,
    }


def _watching(core: Core, plugin: Plugin) -> dict[str, Any] | None:
    watch = plugin.watch
    if watch is None or watch.change.watched_until is None:
        return None
    parked = watch.change.parked
    return {
        "generation": watch.generation.number,
        "until": core.desk.wall(watch.change.watched_until).isoformat(),
        "parked": release_facts(parked.release if parked else None),
    }


def _workers(
    generation: Generation, usage: Mapping[int, Usage], now: float
) -> list[dict[str, Any]]:
    return [
        {
            "id": worker.id,
            "pid": worker.pid,
            "state": worker.state.value,
            "release": generation.release.number,
            "generation": generation.number,
            "slot": worker.slot,
            "busy": len(worker.jobs),
            "rss_bytes": usage[worker.pid].rss_bytes if worker.pid in usage else 0,
            "cpu_percent": usage[worker.pid].cpu_percent if worker.pid in usage else 0.0,
            "jobs": worker.ended_jobs,
            "age_s": round(now - worker.started_at, 3) if worker.pid else 0.0,
        }
        for worker in (*generation.workers.values(), *generation.leaving)
    ]


def job_facts(core: Core, job: Job) -> dict[str, Any]:
    """One job that has not ended."""
    now = core.desk.now
    is_running = job.state.value == "running"
    return {
        "job": job.id,
        "plugin": job.plugin,
        "method": job.method,
        "state": job.state.value,
        "key": job.key,
        "attempts": job.attempts,
        "worker": job.worker.id if job.worker else None,
        "pid": job.worker.pid if job.worker else None,
        "release": job.release.number if job.release else None,
        "queued_s": round(job.queued_s + (0.0 if is_running else now - job.queued_at), 3),
        "running_s": round(now - job.started_at, 3) if is_running else 0.0,
    }
