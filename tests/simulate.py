"""The simulation: the pure core, driven by a seeded scheduler under a virtual clock.

`python -m tests.simulate --seconds 60` runs fresh seeds; `--seed N` replays one; `--defects`
breaks the core in known ways and sees that each is noticed. After every step the invariants are
checked; a seed that breaks one prints what led to it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from dataclasses import dataclass

from changeover.supervisor.states import JobState

from .sim_coverage import State, report
from .sim_defects import DEFECTS, defect
from .sim_law import Violation, require
from .sim_people import People
from .sim_world import World

STEPS = 1500  # of an episode, before everybody rests
QUIET = 30_000  # steps in which everything must have come to an end
DEFECT_SEEDS = 150  # within so many a broken core must be noticed


@dataclass
class Episode:
    """What came of one seed."""

    seed: int
    steps: int
    violation: str = ""
    trace: tuple[str, ...] = ()
    states: frozenset[State] = frozenset()


def run_seed(seed: int, steps: int = STEPS) -> Episode:
    """One episode: turmoil, then rest, then the end. A bad one is run again, to tell the story."""
    episode, _ = _run(World(seed), steps)
    if episode.violation:
        _, episode.trace = _run(World(seed, is_traced=True), steps)
    return episode


def _run(world: World, steps: int) -> tuple[Episode, tuple[str, ...]]:
    violation = ""
    try:
        _live(world, steps)
    except Violation as broken:
        violation = str(broken)
    except Exception:  # noqa: BLE001 - whatever the core raises breaks a law
        violation = traceback.format_exc(limit=-8)
    states = frozenset(world.states)
    return Episode(world.seed, world.steps, violation, states=states), tuple(world.trace)


def _live(world: World, steps: int) -> None:
    people = People(world, plugins=world.rng.choice((1, 1, 2)))
    for _ in range(steps):
        world.step()
    ends_early = world.rng.random() < 0.3
    if ends_early:  # stopped in the middle of everything
        world.core.stop(world.now, at_once=world.rng.random() < 0.5)
        world.act()
    world.heal()
    people.rest()
    world.act()
    _settle(world)
    if not ends_early:
        world.books.check_quiet()
        _prove(world, people)
        world.core.stop(world.now)
        world.act()
        _settle(world)
    world.books.check_stopped()


def _prove(world: World, people: People) -> None:
    """Whatever has happened, good content serves again as soon as somebody asks for it."""
    names = people.ask_once_more()
    world.act()
    _settle(world)
    for name in names:
        plugin = world.core.plugins[name]
        require(plugin.state == "live", f"{name} is {plugin.state}, and all is well")
        job = people.call_once_more(name)
        world.act()
        _settle(world)
        require(job.state is JobState.DONE, f"{job.id} is {job.state}: {job.fault}")


def _settle(world: World) -> None:
    for _ in range(QUIET):
        if not world.step():
            return
    raise Violation(f"still busy after {QUIET} quiet steps")


def seed_that_finds(name: str) -> int | None:
    """The first seed in which the core breaks a law while it has this defect."""
    with defect(name):
        return next((seed for seed in range(DEFECT_SEEDS) if run_seed(seed).violation), None)


def main(argv: list[str] | None = None) -> int:
    """Run seeds; the exit code."""
    options = _options(argv)
    begun = time.monotonic()
    facts = _hunt(options) if options.defects else _search(options, begun)
    seconds = round(time.monotonic() - begun, 3)
    print(json.dumps({"schema": "changeover.simulation/1", "seconds": seconds, **facts}))
    return 1 if facts["violations"] else 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed")
    parser.add_argument("--seconds", type=float, default=10.0, help="run fresh seeds this long")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of one episode")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a violation")
    parser.add_argument(
        "--defects", action="store_true", help="break the core in known ways: is each noticed?"
    )
    return parser.parse_args(argv)


def _search(options: argparse.Namespace, begun: float) -> dict[str, int]:
    """Seeds until the time is over or one breaks a law."""
    fresh = random.SystemRandom().getrandbits(40)
    seed = first = fresh if options.seed is None else options.seed
    steps, broken, states = 0, [], set[State]()
    while True:
        episode = run_seed(seed, options.steps)
        steps += episode.steps
        states |= episode.states
        if episode.violation:
            broken.append(seed)
            print(*episode.trace, f"seed {seed}: {episode.violation}", sep="\n", flush=True)
        is_over = options.seed is not None or time.monotonic() - begun >= options.seconds
        if is_over or (broken and not options.keep_going):
            break
        seed += 1
    print(*report(states), sep="\n")
    return {"steps": steps, "violations": len(broken), "seed": broken[-1] if broken else first}


def _hunt(_options: argparse.Namespace) -> dict[str, int]:
    """Every deliberate defect must be found; `violations` counts those that were not."""
    unseen = 0
    for name in DEFECTS:
        seed = seed_that_finds(name)
        unseen += seed is None
        where = "NOT FOUND" if seed is None else f"found by seed {seed}"
        print(f"{name}: {where}", flush=True)
    return {"steps": 0, "violations": unseen, "seed": 0,
            "defects": len(DEFECTS), "found": len(DEFECTS) - unseen}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
