"""Plugins come, change and go: add, remove, reload, rollback, pause, resume."""

from __future__ import annotations

from pathlib import Path

from tests.pipes import Hold
from tests.wire import PLUGINS, Wire

pytest_plugins = ["tests.wire_fixtures"]


def test_add_answers_with_what_serves_and_remove_with_counts(wire: Wire) -> None:
    answer = wire.call("add", "added", {"source": str(PLUGINS / "echoes.py"), "workers": 2})
    assert set(answer) == {"name", "release", "generation"}
    assert answer["release"]["version"] == "1.2.3"
    assert wire.refused("add", "added", {"source": "x.py"})[0] == 1014
    wire.call("run", "added", "run", [1])
    counts = wire.call("remove", "added", {})
    assert counts == {
        "accepted": 1, "done": 1, "failed": 0, "cancelled": 0, "lost": 0, "rerun": 0
    }  # fmt: skip
    assert wire.refused("run", "added", "run", [1])[0] == 1013
    assert wire.refused("remove", "added")[0] == 1013


def test_remove_finishes_what_was_accepted(wire: Wire, hold: Hold) -> None:
    wire.call("add", "leaving", {"source": str(PLUGINS / "holds.py")})
    jobs = [wire.ask("run", "leaving", "run", [hold.path, n]) for n in range(3)]
    hold.wait_for(1)
    removed = wire.ask("remove", "leaving")
    assert wire.refused("run", "leaving", "run", [])[0] == 1011
    hold.release(3)
    assert [wire.result(job) for job in jobs] == [0, 1, 2]
    assert wire.result(removed)["done"] == 3


def test_a_first_release_that_fails_is_1016(wire: Wire, tmp_path: Path) -> None:
    source = tmp_path / "broken.py"
    source.write_text("import no_such_module\n")
    code, _, data = wire.refused("add", "broken", {"source": str(source)})
    assert (code, data["executed"], data["retryable"]) == (1016, "no", False)
    assert data["plugin"] == "broken"
    assert isinstance(data["stage"], str)
    assert "no_such_module" in data["cause"]
    assert "broken.py:1" in data["cause"]
    assert wire.refused("run", "broken", "run", [])[0] == 1013


def test_all_mistakes_of_an_add_are_told(wire: Wire) -> None:
    keys = {"source": "x.py", "worker": 2, "queue": -1, "gpu_memory": "1GiB", "swap": "slowly"}
    code, message, _ = wire.refused("add", "wrong", keys)
    assert code == -32602
    for word in ("worker", "queue", "gpu_memory", "swap"):
        assert word in message
    assert "workers" in message, "did you mean"


def test_reload_rollback_and_their_outcomes(wire: Wire, tmp_path: Path) -> None:
    source = tmp_path / "versions.py"
    text = "from changeover.worker import plugin\n@plugin(version='{}')\ndef f(): return '{}'\n"
    source.write_text(text.format("1.0.0", "one"))
    wire.call("add", "versions", {"source": str(source), "reload": "on-signal"})
    (same,) = wire.call("reload", ["versions"])
    assert (same["outcome"], same["to"]["number"]) == ("unchanged", 1)
    source.write_text(text.format("2.0.0", "two"))
    (plan,) = wire.call("reload", ["versions"], {"dry_run": True})
    assert plan["name"] == "versions"
    assert wire.call("run", "versions", "run", []) == "one"
    (done,) = wire.call("reload", ["versions"], {"wait": "cut"})
    assert {
        "name", "outcome", "from", "to", "stage", "cause", "drained", "killed", "lost", "phases"
    } <= set(done)  # fmt: skip
    assert (done["outcome"], done["from"]["number"], done["to"]["number"]) == ("done", 1, 2)
    assert wire.call("run", "versions", "run", []) == "two"
    source.write_text("raise OSError('no model')\n")
    (refused,) = wire.call("reload", ["versions"])
    assert (refused["outcome"], refused["stage"] != "") == ("refused", True)
    assert "no model" in refused["cause"]
    assert wire.call("run", "versions", "run", []) == "two"
    (back,) = wire.call("rollback", "versions", {"wait": "drained"})
    assert (back["outcome"], back["to"]["number"]) == ("done", 1)
    assert wire.call("run", "versions", "run", []) == "one"
    (forth,) = wire.call("rollback", "versions", {"to": 2})
    assert forth["to"]["number"] == 2
    assert wire.refused("rollback", "versions", {"to": 99})[0] == 1013
    wire.call("remove", "versions")


def test_reload_of_an_unknown_plugin_changes_none(wire: Wire) -> None:
    code, _, data = wire.refused("reload", ["echo", "ech"])
    assert (code, data["did_you_mean"]) == (1013, "echo")
    assert wire.refused("reload", ["echo"], {"wait": "done"})[0] == -32602


def test_a_reload_that_takes_too_long_goes_on(wire: Wire, own: str, hold: Hold) -> None:
    running = wire.ask("run", own, "run", [hold.path, 1])
    hold.wait_for(1)
    code, _, data = wire.refused("reload", [own], {"force": True, "timeout_ms": 20})
    assert (code, data["plugin"]) == (1002, own)
    hold.release(1)
    assert wire.result(running) == 1
    (answer,) = wire.call("reload", [own])
    assert answer["outcome"] == "unchanged"


def test_pause_holds_and_resume_lets_go(wire: Wire, own: str, hold: Hold) -> None:
    assert wire.call("pause", own) == {"running": 0, "queued": 0}
    held = wire.ask("run", own, "run", [hold.path, 1])
    assert wire.call("pause", own) == {"running": 0, "queued": 1}
    assert hold.is_quiet()
    wire.call("resume", own)
    hold.wait_for(1)
    hold.release(1)
    assert wire.result(held) == 1
    wire.call("pause", own, {"reject": True})
    code, _, data = wire.refused("run", own, "run", [hold.path])
    assert (code, data["reason"], data["executed"]) == (1012, "paused", "no")
    wire.call("resume", own)


def test_without_a_name_all_plugins_are_paused(wire: Wire) -> None:
    wire.call("pause", None)
    states = {p["state"] for p in wire.call("status")["plugins"].values()}
    wire.call("resume", None)
    assert states == {"paused"}
    assert wire.refused("pause", "nobody")[0] == 1013
