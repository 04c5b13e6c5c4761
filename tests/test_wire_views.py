"""What can be looked at: status, watches, history, logs."""

from __future__ import annotations

from tests.pipes import Hold
from tests.wire import PLUGINS, Wire

pytest_plugins = ["tests.wire_fixtures"]


def test_status_is_the_document(wire: Wire, hold: Hold) -> None:
    msgid = wire.ask("run", "hold", "run", [hold.path], {"id": "seen", "key": "k"})
    hold.wait_for(1)
    document = wire.call("status", {"plugin": "hold"})
    assert document["schema"] == "changeover.status/1"
    assert {"name", "pid", "uptime_s", "seq"} <= set(document)
    assert list(document["plugins"]) == ["hold"]
    plugin = document["plugins"]["hold"]
    assert (plugin["state"], plugin["running"], plugin["queued"]) == ("live", 1, 0)
    assert {"number", "version", "digest", "hash", "loaded_at"} <= set(plugin["release"])
    assert {
        "pid",
        "state",
        "release",
        "generation",
        "busy",
        "rss_bytes",
        "cpu_percent",
        "jobs",
    } <= (set(plugin["workers"][0]))
    (job,) = wire.call("status", {"job": "seen"})["jobs"]
    assert (job["job"], job["state"], job["key"], job["plugin"]) == ("seen", "running", "k", "hold")
    assert "echo" in wire.call("status")["plugins"]
    hold.release(1)
    wire.result(msgid)
    assert wire.refused("status", {"job": "seen"})[0] == 1013
    assert wire.refused("status", {"plugin": "hodl"})[2]["did_you_mean"] == "hold"


def test_a_watch_joins_its_snapshot_without_a_gap(wire: Wire) -> None:
    wire.call("add", "watched", {"source": str(PLUGINS / "echoes.py")})
    begun = wire.call("watch", ["plugins", "workers", "jobs"], {"plugin": "watched"})
    assert begun["snapshot"]["seq"] == begun["seq"]
    assert begun["snapshot"]["plugins"]["watched"]["state"] == "live"
    wire.call("pause", "watched")
    name, facts = wire.note("plugin_changed")
    assert (name, facts["state"], facts["reason"]) == ("watched", "paused", "pause")
    assert facts["seq"] > begun["seq"]
    wire.call("pause", "echo")
    wire.call("resume", "echo")
    assert wire.notes == []
    wire.call("resume", "watched")
    assert wire.note("plugin_changed")[1]["state"] == "live"
    (change,) = wire.call("reload", ["watched"], {"force": True})
    phases = [
        facts["phase"]
        for method, (_, facts) in wire.notes
        if method == "change_phase" and facts["generation"] in (None, change["generation"])
    ]
    assert phases[:7] == ["begun", "staged", "warmed", "checked", "adopted", "cut", "drained"]
    seqs = [params[1]["seq"] for method, params in wire.notes if method != "job_ended"]
    assert seqs == sorted(set(seqs))
    states = {params[1]["state"] for method, params in wire.notes if method == "worker_changed"}
    assert {"starting", "ready"} <= states
    wire.call("remove", "watched")


def test_watching_the_log_has_a_lowest_level(wire: Wire) -> None:
    assert wire.call("watch", ["log"], {"min_level": "error"})["watch"] >= 1
    wire.call("reload", ["echo"], {"source": "/no/such/file.py"})
    plugin, level, message, fields = wire.note("log_line")
    assert (plugin, level) == ("echo", "error")
    assert "/no/such/file.py" in message
    assert isinstance(fields, dict)


def test_watching_the_stats_ticks(wire: Wire) -> None:
    wire.call("watch", ["stats"])
    (stats,) = wire.note("stats_tick")
    assert stats["schema"] == "changeover.status/1"


def test_what_cannot_be_watched_is_refused(wire: Wire) -> None:
    code, message, _ = wire.refused("watch", ["plugins", "weather"])
    assert (code, "weather" in message) == (-32602, True)
    assert wire.refused("watch", ["log"], {"min_level": "loud"})[0] == -32602
    assert wire.refused("watch", ["log"], {"plugin": "nobody"})[0] == 1013


def test_history_and_logs_are_entries(wire: Wire) -> None:
    entries = wire.call("history", {"plugin": "echo", "limit": 1})
    assert len(entries) == 1
    assert wire.call("history", {"limit": 0}) == []
    lines = wire.call("logs", {"plugin": "hold", "limit": 3})
    assert len(lines) <= 3
    assert all(line["plugin"] == "hold" for line in lines)
    assert wire.refused("logs", {"level": "loud"})[0] == -32602
    assert wire.refused("history", {"limit": -1})[0] == -32602
