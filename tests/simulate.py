"""The simulation: the pure core, driven by a seeded scheduler under a virtual clock.

`python -m tests.simulate --seconds 60` runs fresh seeds; `--seed N` replays one. After every
step the invariants are checked; a seed that breaks one prints what led to it.
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

from .sim_law import Violation, require
from .sim_people import People
from .sim_world import World

STEPS = 1500  # of an episode, before everybody rests
QUIET = 30_000  # steps in which everything must have come to an end


@dataclass
class Episode:
    """What came of one seed."""

    seed: int
    steps: int
    violation: str = ""
    trace: tuple[str, ...] = ()


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
    return Episode(world.seed, world.steps, violation), tuple(world.trace)


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


def main(argv: list[str] | None = None) -> int:
    """Run seeds; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed")
    parser.add_argument("--seconds", type=float, default=10.0, help="run fresh seeds this long")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of one episode")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a violation")
    options = parser.parse_args(argv)
    begun = time.monotonic()
    seed = first = (
        options.seed if options.seed is not None else random.SystemRandom().getrandbits(40)
    )
    steps, violations = 0, 0
    while True:
        episode = run_seed(seed, options.steps)
        steps += episode.steps
        if episode.violation:
            violations += 1
            print(*episode.trace, f"seed {seed}: {episode.violation}", sep="\n", flush=True)
            if not options.keep_going:
                break
        if options.seed is not None or time.monotonic() - begun >= options.seconds:
            break
        seed += 1
    seconds = round(time.monotonic() - begun, 3)
    print(json.dumps({
        "schema": "changeover.simulation/1", "steps": steps, "seconds": seconds,
        "violations": violations, "seed": seed if violations else first,
    }))  # fmt: skip
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
