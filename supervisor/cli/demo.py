"""`changeover demo`: see frames flow through a plugin while it is replaced and killed."""

from __future__ import annotations

import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .exits import FAILED
from .output import show_document
from .settings import Settings
from .tables import many

if TYPE_CHECKING:
    from .demo_run import Score
    from .demo_save import Tape

SECONDS = 9.0
RATE = 25
# The demo tells by itself; every release is good, and the next one comes within a second.
SUPERVISOR = {"settle": "50ms", "log.level": "error", "log.format": "text"}
WORKERS = 2


@click.command
@click.option("--seconds", type=click.FloatRange(min=1), default=SECONDS, show_default=True)
@click.option(
    "--rate", type=click.IntRange(1, 240), default=RATE, show_default=True, help="Frames a second."
)
@click.option(
    "--input",
    "source",
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path),
    help="Frames of this file instead of a test picture.",
)
@click.option(
    "--save",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write out.mp4 and contact.png, whose borders show the releases.",
)
@click.pass_obj
def demo(
    settings: Settings, seconds: float, rate: int, source: Path | None, save: Path | None
) -> int:  # fmt: skip
    """Watch frames flow through a plugin that is replaced and killed.

    Numbered frames go through a filter whose file is saved anew about every second, with one of
    two looks by turns; on the way one of its workers is killed. At the end the numbers are
    counted: 1 if any is missing.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # the demo's folder goes, as by Ctrl-C
    _need("av", "numpy")
    if settings.overrides:
        raise click.UsageError("-o: the demo has its own settings")
    from .demo_save import Tape

    try:
        tape = Tape(save, rate) if save is not None else None
    except OSError as error:
        raise click.UsageError(f"--save {save}: {error.strerror}") from None
    sent, score = _perform(settings, source, rate=rate, seconds=seconds, tape=tape)
    if tape is not None:
        tape.close()
    _report(settings, sent, score, tape)
    return FAILED if score.lost(sent) or score.out_of_order else 0


def _need(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise click.UsageError(
            f"the demo needs {' and '.join(missing)}, which is not installed here\n"
            "  install it: pip install 'changeover[media]'"
        )


def _perform(
    settings: Settings, source: Path | None, *, rate: int, seconds: float, tape: Tape | None
) -> tuple[int, Score]:
    from ...client import launch
    from .demo_filter import NAME, DemoFilter
    from .demo_frames import DemoFrames
    from .demo_line import DemoLine
    from .demo_run import DemoRun

    frames = DemoFrames(source, rate=rate, seconds=seconds)
    line = DemoLine(settings, frames)
    with tempfile.TemporaryDirectory(prefix="changeover-demo-") as folder:
        filter_file = DemoFilter(Path(folder))
        table = {"source": str(filter_file.path), "workers": WORKERS}
        with launch({NAME: table}, **SUPERVISOR) as supervisor, line:
            run = DemoRun(
                supervisor, filter_file, frames, seconds=seconds, tape=tape, watch=line.show
            )
            try:
                score = run.perform()
            except (OSError, ValueError) as error:
                # What ffmpeg says has a number in front, which nobody knows.
                said = getattr(error, "strerror", None)
                raise click.UsageError(f"{source}: {said}" if said else str(error)) from None
    return frames.sent, score


def _report(settings: Settings, sent: int, score: Score, tape: Tape | None) -> None:
    if score.first_error:
        settings.say(score.first_error)
    if settings.json:
        show_document("demo", {
            "in": sent,
            "out": score.out,
            "lost": score.lost(sent),
            "out_of_order": score.out_of_order,
            "changeovers": score.changeovers,
            "killed": score.killed,
            "rerun": score.reruns,
            "longest_gap_s": round(score.longest_gap_s, 4),
            "releases": {str(number): score.releases[number] for number in sorted(score.releases)},
        })  # fmt: skip
        return
    click.echo(
        f"{sent} frames in, {score.out} out   lost {score.lost(sent)}   "
        f"out of order {score.out_of_order}\n"
        f"{many(score.changeovers, 'changeover')}, {many(score.killed, 'worker')} killed "
        f"({many(score.reruns, 'frame')} done again)   "
        f"longest gap {score.longest_gap_s * 1000:.0f} ms"
    )
    for number, count in sorted(score.releases.items()):
        click.echo(f"  @{number}  {count} frames")
    if tape is not None:
        click.echo(f"saved {tape.film} and {tape.sheet} (the colour of a border is the release)")
