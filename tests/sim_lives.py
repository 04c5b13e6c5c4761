"""How a simulated content behaves: what its workers do when they are asked something."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

OK, RAISES, HANGS, EXITS, KILLED = "ok", "raises", "hangs", "exits", "killed"
CRASHES, GARBAGE, UNLUCKY = "crashes", "garbage", "unlucky"

# What may go wrong with each request: outcomes and how often, beside OK.
Odds = dict[str, float]


@dataclass
class Life:
    """One content. `odds[request]` says what its workers do instead of answering well."""

    name: str
    odds: dict[str, Odds] = field(default_factory=dict)
    methods: dict[str, dict[str, bool]] = field(default_factory=dict)
    capabilities: frozenset[str] = frozenset()
    concurrency: int = 1
    frames: str = "independent"
    state: dict[str, Any] = field(default_factory=dict)
    slowness: float = 1.0
    ignores_term: bool = False
    ignores_exit: bool = False
    ignores_cancel: bool = False
    strays: bool = False  # answers twice

    def draw(self, rng: Random, request: str) -> str:
        """What a worker does now."""
        odds = self.odds.get(request)
        if not odds:
            return OK
        dice = rng.random()
        for outcome, chance in odds.items():
            dice -= chance
            if dice < 0:
                return outcome
        return OK

    def loaded(self) -> dict[str, Any]:
        """The answer to `load`."""
        return {
            "name": self.name,
            "version": "1.0.0",
            "methods": self.methods,
            "concurrency": self.concurrency,
            "frames": self.frames,
            "capabilities": dict.fromkeys(self.capabilities, True),
            "state": self.state,
        }


# Named misbehaviours: each is laid over a good life.
FAULTS: dict[str, dict[str, Odds]] = {
    "import_error": {"load": {RAISES: 1.0}},
    "exits_at_boot": {"hello": {EXITS: 1.0}},
    "hangs_at_boot": {"load": {HANGS: 1.0}},
    "garbage_at_boot": {"hello": {GARBAGE: 1.0}},
    "killed_while_warming": {"load": {KILLED: 0.5}},
    "no_process": {"spawn": {UNLUCKY: 0.5, RAISES: 0.1}},
    "check_raises": {"check": {RAISES: 1.0}},
    "check_hangs": {"check": {HANGS: 1.0}},
    "adopt_raises": {"adopt": {RAISES: 1.0}},
    "adopt_hangs": {"adopt": {HANGS: 1.0}},
    "dies_in_adopt": {"adopt": {EXITS: 0.5, KILLED: 0.5}},
    "crashes_on_every_job": {"job": {CRASHES: 1.0}},
    "crashes_now_and_then": {"job": {CRASHES: 0.1}},
    "errors_always": {"job": {RAISES: 1.0}},
    "errors_now_and_then": {"job": {RAISES: 0.2}},
    "hangs_now_and_then": {"job": {HANGS: 0.15}},
    "garbage_now_and_then": {"job": {GARBAGE: 0.1}},
    "export_raises": {"export_state": {RAISES: 1.0}, "flush": {RAISES: 0.5}},
    "export_hangs": {"export_state": {HANGS: 0.7}, "flush": {HANGS: 0.3}},
    "dies_in_export": {"export_state": {CRASHES: 0.7}},
    "unload_hangs": {"unload": {HANGS: 1.0}},
    "mixed": {
        "job": {CRASHES: 0.03, RAISES: 0.05, HANGS: 0.03, GARBAGE: 0.01},
        "load": {KILLED: 0.1, RAISES: 0.1},
        "check": {RAISES: 0.1, HANGS: 0.1},
        "adopt": {RAISES: 0.1, HANGS: 0.1, EXITS: 0.1},
        "unload": {HANGS: 0.2, CRASHES: 0.2},
        "spawn": {UNLUCKY: 0.1},
        "export_state": {RAISES: 0.1, HANGS: 0.1, CRASHES: 0.1},
    },
}
CAPABILITIES = ("check", "cancel", "flush", "state", "stacks")


def random_life(rng: Random, name: str, *, is_stateful: bool) -> Life:
    """A content: one in three is good."""
    fault = rng.choice([*FAULTS, *["good"] * (len(FAULTS) // 2)])
    capabilities = {c for c in CAPABILITIES if c != "state" and rng.random() < 0.5}
    if is_stateful and rng.random() < 0.9:
        capabilities.add("state")
    return Life(
        name=name,
        odds=FAULTS.get(fault, {}),
        methods={
            "run": {"pure": not is_stateful, "stream": False},
            "act": {"pure": False, "stream": False},
        },
        capabilities=frozenset(capabilities),
        concurrency=rng.choice((1, 2, 3)),
        frames=rng.choice(("independent", "independent", "ordered")),
        state={"format": rng.choice("12"), "accepts": rng.choice(([], ["1"], ["1", "2"]))},
        slowness=rng.choice((0.3, 1.0, 1.0, 4.0)),
        ignores_term=rng.random() < 0.2,
        ignores_exit=rng.random() < 0.2,
        ignores_cancel=rng.random() < 0.4,
        strays=rng.random() < 0.1,
    )
