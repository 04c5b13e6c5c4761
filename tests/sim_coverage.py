"""Which states the simulated plugins were seen in: every pair of gate, step and restart policy.

A step that never rests (it is over within the fact that began it) is not among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from changeover.supervisor.plugin import Plugin
from changeover.supervisor.states import Gate, Restart, Step

State = tuple[Gate, Step | None, Restart | None]
Part = Gate | Step | Restart | None
Pair = tuple[str, Part, Part]

AXES: tuple[tuple[str, tuple[Part, ...]], ...] = (
    ("gate", tuple(Gate)),
    ("step", (None, Step.STAGE, Step.WARM, Step.CHECK, Step.DRAIN, Step.EXPORT, Step.ADOPT,
              Step.STOP)),
    ("restart", (None, *Restart)),
)  # fmt: skip
PLANES = ((0, 1), (0, 2), (1, 2))
_S, _R = Step, Restart
# What cannot be, and why; everything else must be seen.
IMPOSSIBLE: dict[Pair, str] = {
    ("gate step", Gate.HELD, None): "a changeover holds it, or nobody",
    ("gate step", Gate.OPEN, _S.EXPORT): "callers wait while the state is on its way",
    ("gate step", Gate.OPEN, _S.STOP): "callers wait while nothing runs",
    ("gate restart", Gate.HELD, None): "nothing to hold for: the first release has no old one",
    ("step restart", _S.ADOPT, None): "nobody to adopt from",
    ("step restart", _S.DRAIN, None): "nobody to drain",
    ("step restart", _S.EXPORT, None): "nobody to export",
    ("step restart", _S.EXPORT, _R.FAILED): "its only worker is gone: nothing to wait for",
    ("step restart", _S.STOP, None): "nobody to stop",
}
# Once in a thousand seeds: may be missing.
RARE: set[Pair] = {
    ("step restart", _S.EXPORT, _R.BACKOFF),
    ("step restart", _S.STOP, _R.FAILED),
}


def state_of(plugin: Plugin) -> State:
    """Where the three machines of a plugin stand."""
    change, live = plugin.change, plugin.live
    step = change.step if change is not None else None
    return plugin.gate, step, live.restart if live is not None else None


def pairs(states: Iterable[State]) -> set[Pair]:
    """What was seen together."""
    return {
        (_name(one, other), state[one], state[other])
        for state in states
        for one, other in PLANES
    }  # fmt: skip


def missing(states: Iterable[State]) -> list[Pair]:
    """What can be and was not seen."""
    seen = pairs(states)
    return [pair for pair in _expected() if pair not in seen]


def report(states: Iterable[State]) -> list[str]:
    """For people."""
    seen, lines = pairs(states), []
    for one, other in PLANES:
        name = _name(one, other)
        can_be = [pair for pair in _expected() if pair[0] == name]
        unseen = [f"{_word(p[1])}+{_word(p[2])}" for p in can_be if p not in seen]
        rest = f"; not seen: {', '.join(unseen)}" if unseen else ""
        lines.append(f"{name}: {len(can_be) - len(unseen)} of {len(can_be)} pairs{rest}")
    return lines


def _expected() -> Iterator[Pair]:
    for one, other in PLANES:
        for parts in product(AXES[one][1], AXES[other][1]):
            pair = (_name(one, other), *parts)
            if pair not in IMPOSSIBLE and pair not in RARE:
                yield pair


def _name(one: int, other: int) -> str:
    return f"{AXES[one][0]} {AXES[other][0]}"


def _word(part: Part) -> str:
    return "none" if part is None else part.value
