"""Durable jobs: the supervisor is killed at any moment, and each accepted job ends once."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import pytest

from changeover.client import (
    Busy,
    ChangeoverError,
    Disconnected,
    WorkerLost,
    connect,
    launch,
)
from changeover.protocol.errors import Code

from .conftest import PluginFile
from .pipes import Hold, plugin_text
from .serving import COMMAND, DEADLINE_S, Service, need_mounts
from .test_failures_resources import SmallDisk
from .wire import Supervisor, Wire, ids, packed

WRITES = """
import os
from changeover.worker import plugin

@plugin(version="1.0.0", pure={pure})
def job(number, trace):
    fd = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b"%d\\n" % number)
    os.close(fd)
    return number
"""
KEYS = 'durable = true\nreload = "on-signal"\nqueue = 4096\n'
REQUEST = 0
LIVES, JOBS = 6, 100


class Load:
    """Two durable plugins, one of them pure, and what became of their jobs from life to life."""

    def __init__(self, folder: Path, rng: Random) -> None:
        self.trace = str(folder / "trace")
        self.rng = rng
        self.calls: dict[str, tuple[str, int]] = {}  # id: plugin, number
        self.accepted: set[str] = set()
        self.told: dict[str, dict[str, Any]] = {}  # id: record

    def run_into(self, service: Supervisor) -> None:
        """Send jobs and some changeovers at once, and kill it somewhere amid the answers."""
        with service.connect() as wire:
            asked: dict[int, str] = {}
            messages: list[Any] = []
            for _ in range(JOBS):
                job_id, method = f"j{len(self.calls)}", self.rng.choice(("run", "submit"))
                plugin = self.rng.choice(("pure", "plain"))
                self.calls[job_id] = (plugin, len(self.calls))
                asked[len(asked) + 1] = job_id
                messages.append([REQUEST, len(asked), method, self.params(job_id)])
            wire.expect(*asked, 1000)
            force = [REQUEST, 1000, "reload", [["pure", "plain"], {"force": True}]]
            messages.insert(self.rng.randrange(len(messages)), force)
            wire.write(packed(*messages))
            answers = sum({"run": 1, "submit": 2}.get(message[2], 0) for message in messages)
            for _ in range(self.rng.randrange(answers)):
                wire.next()
            service.kill()
            wire.rest()
            for msgid, job_id in asked.items():
                self.take(wire, msgid, job_id)

    def params(self, job_id: str) -> list[Any]:
        plugin, number = self.calls[job_id]
        return [plugin, "run", [number, self.trace], {"id": job_id, "record": True, "notify": True}]

    def take(self, wire: Wire, msgid: int, job_id: str) -> None:
        """What was told of one job before the end."""
        for message in wire.seen:
            if message[0] == 1 and message[1] == msgid:
                _, _, error, result = message
                assert error is None, error
                if "state" in result:
                    self.hear(result)
                else:
                    self.accepted.add(job_id)
            elif message[1] == "job_done" and message[2][0]["job"] == job_id:
                self.hear(message[2][0])

    def hear(self, record: dict[str, Any]) -> None:
        """A job has one outcome, however often it is told."""
        known = self.told.setdefault(record["job"], record)
        assert known == record

    def settle(self, service: Supervisor) -> None:
        """Ask for everything that was not told; what is not known never ran."""
        with service.connect() as wire:
            known = set(wire.call("status", {"known": list(self.calls)})["known"])
            assert self.accepted - self.told.keys() <= known
            for job_id in known:
                if self.calls[job_id][0] == "pure":
                    self.hear(wire.call("run", *self.params(job_id)))
                else:
                    self.hear(wire.call("wait", [job_id])[0])
            for job_id, record in self.told.items():
                assert record["state"] == "done" or self.is_truly_lost(record), (job_id, record)
            assert wire.call("status")["journal"]["waiting"] == {}

    def is_truly_lost(self, record: dict[str, Any]) -> bool:
        code, _, data = record["error"]
        return record["plugin"] == "plain" and (code, data["executed"]) == (1003, "maybe")

    def check_trace(self) -> None:
        """What the plugins wrote down, against what was told."""
        runs = Counter(map(int, Path(self.trace).read_text().split()))
        for job_id, (plugin, number) in self.calls.items():
            record = self.told.get(job_id)
            least = record is not None and record["state"] == "done"
            most = 0 if record is None else LIVES if plugin == "pure" else 1
            assert least <= runs[number] <= most, (job_id, plugin, runs[number], record)


@pytest.mark.parametrize("seed", range(2))
def test_every_accepted_job_ends_once_though_the_supervisor_is_killed_again_and_again(
    tmp_path: Path, plugin_file: PluginFile, seed: int
) -> None:
    load, keys = Load(tmp_path, Random(seed)), ""
    for name in ("pure", "plain"):
        path = plugin_file(f"{name}.py", WRITES.format(pure=name == "pure"))
        keys += f'[plugins.{name}]\nsource = "{path}"\n{KEYS}'
    for _ in range(LIVES):
        with Service(tmp_path, keys) as service:
            service.await_line("live", 2)
            load.run_into(service)
    with Service(tmp_path, keys) as service:
        load.settle(service)
        load.check_trace()
    assert len(load.told) > len(load.accepted) * 0.9


# -- one job at a time


def held_keys(plugin_file: PluginFile, *, pure: bool = False, keys: str = "") -> str:
    """The config of one plugin that hangs when it is told to."""
    path = plugin_file("job.py", plugin_text("1.0.0", pure=pure))
    return f'[plugins.job]\nsource = "{path}"\n{KEYS}{keys}'


def submit(wire: Wire, number: int, hold: Hold | None = None, **options: Any) -> dict[str, Any]:
    args = [number] if hold is None else [number, hold.path]
    answer: dict[str, Any] = wire.call(
        "submit", "job", "run", args, {"id": f"j{number}", **options}
    )
    return answer


def test_what_ran_and_is_not_pure_is_lost_and_what_was_queued_runs_in_its_order(
    tmp_path: Path, plugin_file: PluginFile, hold: Hold
) -> None:
    keys = held_keys(plugin_file)
    with Service(tmp_path, keys) as service, service.connect() as wire:
        submit(wire, 1, hold)
        hold.wait_for(1)
        for number in (4, 3, 2):
            submit(wire, number)
        service.kill()
    with Service(tmp_path, keys) as service, service.connect() as wire:
        assert submit(wire, 3) == {"job": "j3", "duplicate": True}
        lost, *done = wire.call("wait", ["j1", "j2", "j3", "j4"])
        code, _, data = lost["error"]
        assert (code, data["executed"], data["reason"]) == (1003, "maybe", "stopped")
        assert lost["state"] == "lost"
        assert [record["result"][0] for record in done] == [2, 3, 4]
        queued = {record["job"]: record["queued_ms"] for record in done}
        assert queued["j4"] <= queued["j3"] <= queued["j2"]  # in whole milliseconds
    assert hold.is_quiet()


@pytest.mark.parametrize("pure", [True, False], ids=["pure", "idempotent"])
def test_what_ran_and_may_be_repeated_is_run_again(
    tmp_path: Path, plugin_file: PluginFile, hold: Hold, pure: bool
) -> None:
    keys = held_keys(plugin_file, pure=pure)
    with Service(tmp_path, keys) as service, service.connect() as wire:
        submit(wire, 1, hold, idempotent=not pure)
        hold.wait_for(1)
        service.kill()
    with Service(tmp_path, keys) as service, service.connect() as wire:
        hold.wait_for(1)
        assert wire.call("status", {"job": "j1"})["jobs"][0]["state"] == "running"
        hold.release(1)
        (record,) = wire.call("wait", ["j1"])
        assert (record["state"], record["attempts"]) == ("done", 2)


def test_a_kill_while_a_changeover_drains_loses_no_pure_job(
    tmp_path: Path, plugin_file: PluginFile, hold: Hold
) -> None:
    keys = held_keys(plugin_file, pure=True)
    with Service(tmp_path, keys) as service, service.connect() as wire:
        submit(wire, 1, hold)
        hold.wait_for(1)
        plugin_file("job.py", plugin_text("2.0.0", pure=True))
        wire.call("reload", ["job"], {"wait": "cut"})
        submit(wire, 2, hold)
        hold.wait_for(1)
        service.kill()
    with Service(tmp_path, keys) as service, service.connect() as wire:
        hold.release(2)
        records = wire.call("wait", ["j1", "j2"])
        assert [record["result"][:2] for record in records] == [[1, "2.0.0"], [2, "2.0.0"]]


def test_an_outcome_is_kept_over_a_kill_for_any_client_until_it_is_delivered(
    tmp_path: Path, plugin_file: PluginFile
) -> None:
    keys = held_keys(plugin_file)
    with Service(tmp_path, keys) as service, service.connect() as wire:
        submit(wire, 1)
        while wire.call("status", {"jobs": True})["jobs"]:
            pass
        with service.connect() as other:  # it waits for what the journal has, and takes nothing
            assert submit(other, 1) == {"job": "j1", "duplicate": True}
        service.kill()
    with Service(tmp_path, keys) as service:
        with service.connect() as wire:
            facts = wire.call("status", {"job": "j1"})["jobs"][0]
            assert (facts["state"], facts["attempts"]) == ("done", 1)
            code, _, _ = wire.refused("submit", "job", "run", [2], {"id": "j1"})
            assert code == Code.CONFLICT
            assert wire.call("run", "job", "run", [1], {"id": "j1"})[0] == 1
        with service.connect() as wire:
            service.await_line("live")
            assert wire.call("status")["journal"]["outcomes"] == 0
            assert wire.refused("wait", ["j1"])[0] == Code.NOT_FOUND


def let_time_pass(journal: Path, job_id: str) -> None:
    """As if nobody had started a supervisor for years: the deadline is long ago."""
    with contextlib.closing(sqlite3.connect(journal)) as db, db:
        (packed_options,) = db.execute("SELECT options FROM jobs WHERE id = ?", [job_id]).fetchone()
        options = {**msgpack.unpackb(packed_options), "deadline": 0.0}
        db.execute("UPDATE jobs SET options = ? WHERE id = ?", [msgpack.packb(options), job_id])


def test_a_deadline_goes_on_while_no_supervisor_runs(
    tmp_path: Path, plugin_file: PluginFile
) -> None:
    keys = held_keys(plugin_file)
    with Service(tmp_path, keys) as service, service.connect() as wire:
        wire.call("pause", "job")
        submit(wire, 1, timeout_ms=10_000_000)
        submit(wire, 2, timeout_ms=10_000_000)
        service.kill()
    let_time_pass(tmp_path / "state" / "journal.db", "j1")
    with Service(tmp_path, keys) as service, service.connect() as wire:
        late, done = wire.call("wait", ["j1", "j2"])
        assert late["error"][0] == Code.DEADLINE
        assert late["error"][2]["executed"] == "no"
        assert done["state"] == "done"


def test_nobody_who_joins_a_job_that_was_brought_back_takes_it_along(
    tmp_path: Path, plugin_file: PluginFile, hold: Hold
) -> None:
    keys = held_keys(plugin_file, pure=True)
    with Service(tmp_path, keys) as service, service.connect() as wire:
        submit(wire, 1, hold)
        hold.wait_for(1)
        service.kill()
    with Service(tmp_path, keys) as service, service.connect() as wire:
        hold.wait_for(1)
        with service.connect() as passer_by:
            passer_by.ask("run", "job", "run", [1, hold.path], {"id": "j1"})
            assert passer_by.call("ping", 1) == 1
        hold.release(1)
        assert wire.call("wait", ["j1"])[0]["state"] == "done"


def test_a_python_client_finds_its_jobs_again(
    tmp_path: Path, plugin_file: PluginFile, hold: Hold
) -> None:
    keys = held_keys(plugin_file)
    keys += keys.replace("plugins.job", "plugins.volatile").replace("durable = true\n", "")
    with Service(tmp_path, keys) as service, connect(service.path) as co:
        running = co["job"].submit(1, hold=hold.path)
        other = co["volatile"].submit(1, hold=hold.path)
        hold.wait_for(2)
        queued = [co["job"].submit(number) for number in range(2, 30)]
        while len(co.jobs("job")) < 29:
            pass
        with service.connect() as wire:
            submit(wire, 30)  # whose answer waits for the journal, and so for all before it
        service.kill()
        with Service(tmp_path, keys):
            assert [each.result(DEADLINE_S)[0] for each in queued] == list(range(2, 30))
            lost = running.exception(DEADLINE_S)
            assert isinstance(lost, WorkerLost)
            assert lost.executed == "maybe"
            unknown = other.exception(DEADLINE_S)
            assert isinstance(unknown, Disconnected)
            assert unknown.executed == "maybe"
    hold.release(2)


# -- the journal cannot be had


def test_with_a_full_disk_durable_jobs_are_refused_and_the_others_run(
    tmp_path: Path, plugin_file: PluginFile
) -> None:
    need_mounts()
    keys = held_keys(plugin_file)
    keys += keys.replace("plugins.job", "plugins.volatile").replace("durable = true\n", "")
    with SmallDisk(tmp_path, keys) as service, service.client() as co:
        service.await_line("live", 2)
        with service.full():
            refused = None
            for _ in range(200):  # there may be room in what the journal has already
                refused = co["job"].submit("x" * 20_000).exception(DEADLINE_S)
                if refused is not None:
                    break
            assert isinstance(refused, Busy)
            assert (refused.executed, refused.data["reason"]) == ("no", "journal")
            service.await_line("free some space there")
            assert co["volatile"](1)[0] == 1
            assert co.status()["journal"]["failure"]
        while co["job"].submit(2).exception(DEADLINE_S) is not None:
            pass
        service.await_line("the journal can be written again")
        counts = co.status()["plugins"]["job"]["counts"]
        assert counts["accepted"] == counts["done"]


def test_what_was_accepted_waits_for_a_full_disk_and_then_runs(
    tmp_path: Path, plugin_file: PluginFile, hold: Hold
) -> None:
    need_mounts()
    keys = held_keys(plugin_file)
    with SmallDisk(tmp_path, keys) as service, service.connect() as wire:
        service.await_line("live")
        submit(wire, 1, hold)
        hold.wait_for(1)
        submit(wire, 2)
        with service.full():
            code, number = 0, 2
            while code != Code.BUSY:
                number += 1
                error = wire.answer(
                    wire.ask("submit", "job", "run", ["x" * 20_000], {"id": f"j{number}"})
                ).error
                code = error[0] if error else 0
            hold.release(1)
            (record,) = wire.call("wait", ["j1"])  # an outcome that is known is told
            assert record["state"] == "done"
        assert wire.call("wait", ["j2"])[0]["state"] == "done"


def test_a_journal_that_was_damaged_is_said_and_kept_aside(
    tmp_path: Path, plugin_file: PluginFile
) -> None:
    keys = held_keys(plugin_file)
    with Service(tmp_path, keys) as service, service.connect() as wire:
        submit(wire, 1)
    journal = tmp_path / "state" / "journal.db"
    journal.write_bytes(b"nonsense" * 1000)
    with Service(tmp_path, keys) as service, service.connect() as wire:
        service.await_line("it is kept as journal.db.bad-1")
        assert submit(wire, 1) == {"job": "j1", "duplicate": False}
    assert (tmp_path / "state" / "journal.db.bad-1").read_bytes().startswith(b"nonsense")


def test_a_journal_that_cannot_be_read_refuses_durable_jobs_alone(
    tmp_path: Path, plugin_file: PluginFile
) -> None:
    keys = held_keys(plugin_file)
    keys += keys.replace("plugins.job", "plugins.volatile").replace("durable = true\n", "")
    (tmp_path / "state" / "journal.db").mkdir(parents=True)
    with Service(tmp_path, keys) as service, service.client() as co:
        service.await_line("journal.db cannot be read: Is a directory")
        with pytest.raises(Busy, match="then start the supervisor again"):
            co["job"](1)
        assert co["volatile"](1)[0] == 1


def test_a_journal_that_was_removed_is_begun_anew(tmp_path: Path, plugin_file: PluginFile) -> None:
    keys = held_keys(plugin_file)
    with Service(tmp_path, keys) as service, service.connect() as wire:
        submit(wire, 1)
        (tmp_path / "state" / "journal.db").unlink()
        submit(wire, 2)
        service.await_line("was moved or removed")
        service.kill()
    with Service(tmp_path, keys) as service, service.connect() as wire:
        assert wire.call("status", {"known": ["j1", "j2"]})["known"] == ["j2"]


def test_a_job_waits_in_the_journal_for_its_plugin(tmp_path: Path, plugin_file: PluginFile) -> None:
    keys = held_keys(plugin_file)
    with Service(tmp_path, keys) as service, service.connect() as wire:
        wire.call("pause", "job")
        submit(wire, 1)
        service.kill()
    with Service(tmp_path, keys.replace("plugins.job", "plugins.other")) as service:
        service.await_line("1 durable jobs wait in the journal")
        with service.connect() as wire:
            code, _, _ = wire.refused("submit", "other", "run", [1], {"id": "j1"})
            assert code == Code.CONFLICT
    with Service(tmp_path, keys) as service, service.connect() as wire:
        assert ids(wire.call("wait", ["j1"])) == ["j1"]


def test_durable_without_a_state_dir_is_refused(tmp_path: Path, plugin_file: PluginFile) -> None:
    path = str(plugin_file("job.py", plugin_text("1.0.0", pure=True)))
    plugin = {"source": path, "durable": True}
    with pytest.raises(ChangeoverError, match="takes a state_dir that outlives the supervisor"):
        launch({"job": plugin})
    with launch({"job": plugin}, state_dir=str(tmp_path / "state")) as co:
        assert co["job"](1)[0] == 1
    config = tmp_path / "changeover.toml"
    config.write_text(held_keys(plugin_file))
    done = subprocess.run(
        [*COMMAND, "serve", "--stdio", "-c", str(config)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == 2
    assert "outlives the supervisor" in done.stderr
    assert "Traceback" not in done.stderr
