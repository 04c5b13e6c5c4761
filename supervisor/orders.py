"""What the core orders the shell to do. Facts go in, these come out; none of them answers.

The shell carries them out in the order in which they were given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from ..protocol.errors import Fault
    from .changeover import Changeover
    from .job import Job
    from .states import Step
    from .worker import Worker


class Stage(NamedTuple):
    """Bring the content of a change into the store; answer `staged` or `stage_failed`."""

    change: Changeover


class Spawn(NamedTuple):
    """Start a worker process; answer `spawned` or `spawn_failed`."""

    worker: Worker


class Ask(NamedTuple):
    """Send a control request; answer `replied`. `params` are values, or bytes packed already."""

    worker: Worker
    method: str
    params: list[Any]


class Tell(NamedTuple):
    """Send a notification to a worker."""

    worker: Worker
    method: str
    params: list[Any]


class Dispatch(NamedTuple):
    """Lend a job to a worker; answer `answered` or, at its death, `exited`.

    One that `is_held` first goes into the journal: then ask `begin` whether it is to be sent.
    """

    worker: Worker
    job: Job


class Close(NamedTuple):
    """Send end of input to a worker."""

    worker: Worker


class Signal(NamedTuple):
    """Signal a worker; `kill` goes to its whole group."""

    worker: Worker
    what: Literal["stacks", "term", "kill"]


class Admit(NamedTuple):
    """A job that waited for room was accepted: tell its caller, who may be waiting for that."""

    job: Job


class Settle(NamedTuple):
    """A job ended: answer its caller. Exactly one of these for every accepted job."""

    job: Job


class Flushed(NamedTuple):
    """What a filter still held came out: hand it to whoever is asking for it.

    One for every worker that a `flush` was asked of; with a fault it gave nothing.
    """

    plugin: str
    values: bytes
    fault: Fault | None = None


class Phase(NamedTuple):
    """A changeover entered a step; it may be further by the time this is read.

    `left` is the step before (its name, the seconds it took, a detail), None at the beginning.
    """

    change: Changeover
    step: Step
    left: tuple[str, float, str] | None = None


class Ended(NamedTuple):
    """A changeover is drained and goes on under watch, or it has come to its end."""

    change: Changeover


class Record(NamedTuple):
    """Append to the history."""

    entry: dict[str, Any]


class Changed(NamedTuple):
    """Something that people watch has changed: a plugin's state or a worker's."""

    topic: Literal["plugin", "worker"]
    plugin: str
    facts: dict[str, Any]


class Narrate(NamedTuple):
    """Say it to people: what happened, what it means for the jobs, what to do."""

    level: Literal["info", "warning", "error"]
    plugin: str
    text: str


Order = (
    Stage
    | Spawn
    | Ask
    | Tell
    | Dispatch
    | Close
    | Signal
    | Admit
    | Settle
    | Flushed
    | Phase
    | Ended
    | Record
    | Changed
    | Narrate
)
