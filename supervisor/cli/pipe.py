"""`changeover pipe`: a media stream through a plugin, between two other programs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .asking import is_path, plugin_at
from .exits import FAILED
from .output import drop_stdout
from .settings import Settings
from .tables import many

if TYPE_CHECKING:
    from ...client import Changeover, Watch
    from ...client.rawvideo import RawFormat
    from ...protocol.frame import Frame
    from .passage import OnError, Passage
    from .ports import FrameWriter, Ports

BROKEN_PIPE = 141  # 128 + SIGPIPE: what a shell shows of a program whose reader has gone
AHEAD = 8
FLUSH_S = 60.0
# A private supervisor speaks to people here, and takes up a saved file quickly.
PRIVATE = ["log.format=text", "log.level=info", "settle=100ms"]


@click.command
@click.argument("plugin")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "y4m"]),
    default="auto",
    help="What comes in; auto recognises yuv4mpeg, the only one so far.",
)
@click.option("--raw", metavar="WxH:FMT@FPS", help="Raw video, such as 1920x1080:rgb24@25.")
@click.option(
    "--ahead",
    type=click.IntRange(1, 4096),
    default=AHEAD,
    show_default=True,
    help="Frames under way at once.",
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip", "passthrough", "repeat"]),
    default="raise",
    show_default=True,
    help="What becomes of a frame that fails or is lost.",
)
@click.pass_obj
def pipe(
    settings: Settings,
    plugin: str,
    arguments: tuple[str, ...],
    *,
    form: str,
    raw: str | None,
    ahead: int,
    on_error: OnError,
) -> int:
    """Media stream in, media stream out, through a plugin.

    ffmpeg -i CLIP -f yuv4mpegpipe - | changeover pipe ./denoise.py strength=0.5 | ffplay -

    Frames keep their order. PLUGIN is replaced whenever its file is saved, while the stream
    flows. KEY=VALUE are keyword arguments of its method; a VALUE that is JSON is taken as such.
    The plugin answers each frame with a frame, an array, a list of them (more or fewer), or
    nothing; size and format of the first one hold for the stream.
    """
    if settings.json:
        raise click.UsageError("stdout carries the stream: there is no place for --json")
    shape = _raw_format(raw, form)
    named = _named(arguments)
    from .ports import open_ports

    try:
        ports = open_ports(shape)
    except ValueError as error:
        return _stopped(str(error))
    with _supervisor(settings, plugin) as (supervisor, name):
        return _flow(settings, supervisor, name, ports, ahead=ahead, on_error=on_error, named=named)


def _raw_format(text: str | None, form: str) -> RawFormat | None:
    if text is None:
        return None
    if form != "auto":
        raise click.UsageError("--raw says what comes in: leave --format away")
    from ...client.rawvideo import RawError, RawFormat

    try:
        return RawFormat.parse(text)
    except RawError as error:
        raise click.UsageError(f"--raw {error}") from None


def _named(arguments: tuple[str, ...]) -> dict[str, Any]:
    from .call import read_arguments

    for text in arguments:
        if "=" not in text:
            raise click.UsageError(f"{text}: must be KEY=VALUE, an argument of the plugin")
    return read_arguments(arguments).named


@contextmanager
def _supervisor(settings: Settings, plugin: str) -> Iterator[tuple[Changeover, str]]:
    """The running one, whose words are passed on; or a private one, which speaks for itself."""
    if not is_path(plugin):
        with (
            plugin_at(settings, plugin) as (supervisor, name),
            _words_of(settings, supervisor, name),
        ):
            yield supervisor, name
        return
    if not settings.quiet:
        settings.overrides[:0] = PRIVATE  # what was said with -o comes after it, and wins
    with plugin_at(settings, plugin) as reached:
        yield reached


@contextmanager
def _words_of(settings: Settings, supervisor: Changeover, name: str) -> Iterator[None]:
    with supervisor.watch("log", plugin=name, min_level="info") as watch:
        teller = threading.Thread(target=_pass_on, args=(settings, watch), daemon=True)
        teller.start()
        yield


def _pass_on(settings: Settings, watch: Watch) -> None:
    for kind, params in watch:
        if kind == "log_line":
            plugin, level, message, fields = params
            if not fields.get("worker") and (level != "info" or not settings.quiet):
                click.echo(f"{plugin}: {message}", err=True)


def _flow(
    settings: Settings,
    supervisor: Changeover,
    name: str,
    ports: Ports,
    *,
    ahead: int,
    on_error: OnError,
    named: dict[str, Any],
) -> int:
    from .passage import Flushed, FrameError, Passage, revived

    flushed = Flushed(name)
    supervisor.connection.session.listen(flushed.hear)
    passage = Passage(
        supervisor[name].options(flush=True),
        on_error=on_error,
        flushed=flushed,
        flush=lambda: list(map(revived, supervisor.request("flush", name, {}, timeout=FLUSH_S))),
        say=settings.say,
    )
    try:
        for frame in passage.run(ports.frames, ahead, named):
            _write(ports.writer, frame, passage)
    except BrokenPipeError:
        drop_stdout()  # nobody reads on
        return BROKEN_PIPE
    except OSError as error:
        drop_stdout()
        return _stopped(f"{name}: stdout cannot be written: {error.strerror}\n  {_told(passage)}")
    except (FrameError, ValueError) as error:
        return _stopped(f"{name}: {error}\n  {_told(passage)}")
    settings.say(f"{name}: {_told(passage)}")
    return 0


def _write(writer: FrameWriter, frame: Frame, passage: Passage) -> None:
    try:
        writer.write(frame)
    except ValueError as error:
        raise ValueError(f"frame {passage.counts['in'] - 1}: {error}") from None


def _told(passage: Passage) -> str:
    counts = passage.counts
    more = [f"{counts[key]} {key}" for key in ("failed", "done again") if counts[key]]
    if counts["changeovers"]:
        more.append(many(counts["changeovers"], "changeover"))
    return ", ".join([f"{many(counts['in'], 'frame')} in", f"{counts['out']} out", *more])


def _stopped(text: str) -> int:
    click.echo(f"changeover: {text}", err=True)
    return FAILED
