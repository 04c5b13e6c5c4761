"""Durable jobs: the supervisor is killed at any moment, and each accepted job ends once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from .conftest import PluginFile
from .serving import Service
from .wire import Supervisor, Wire, packed

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


@pytest.mark.parametrize("seed", range(3))
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
