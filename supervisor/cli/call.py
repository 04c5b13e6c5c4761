"""`changeover call`: one job."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ...client.errors import Cancelled, ChangeoverError
from .asking import Seconds, milliseconds, plugin_at
from .exits import exit_code
from .output import show_document, show_result
from .progress import ProgressBar
from .settings import Settings

if TYPE_CHECKING:
    from ...client import JobFuture


@dataclass(slots=True)
class Arguments:
    """What stood behind PLUGIN."""

    method: str = "run"
    positional: list[bytes] = field(default_factory=list)
    named: dict[str, Any] = field(default_factory=dict)


@click.command
@click.argument("plugin")
@click.argument("arguments", nargs=-1, metavar="[METHOD] [KEY=VALUE]...")
@click.option("--timeout", type=Seconds(), help="Give up after this long, such as 5s.")
@click.option("--id", "job", help="The job's id; the same id and arguments are the same job.")
@click.pass_obj
def call(
    settings: Settings,
    plugin: str,
    arguments: tuple[str, ...],
    timeout: float | None,
    job: str | None,
) -> int:
    """Run one job and print its result.

    A VALUE that is JSON is taken as such (strength=0.5, on=true, size=[2,3]), any other as
    text. "-" is what comes in on stdin, as bytes, as the one positional argument. The result is
    printed as JSON; bytes go to a pipe or file as they are.
    """
    given = read_arguments(arguments)
    with plugin_at(settings, plugin, timeout) as (supervisor, name):
        with ProgressBar(settings) as bar:
            options = {**milliseconds(timeout), "id": job, "on_progress": bar.show}
            target = supervisor[name].method(given.method).options(**options)
            future = target.submit(*given.positional, **given.named)
            _await(future)
        return _tell(settings, future)


def read_arguments(arguments: tuple[str, ...]) -> Arguments:
    """Sort METHOD, "-" and KEY=VALUE; only "-" reads stdin."""
    given = Arguments()
    for index, text in enumerate(arguments):
        key, equals, value = text.partition("=")
        if text == "-":
            given.positional.append(sys.stdin.buffer.read())
        elif not equals and index == 0:
            given.method = text
        elif not equals:
            raise click.UsageError(f"{text}: must be KEY=VALUE, or - for bytes on stdin")
        elif key == "timeout":
            raise click.UsageError(f"timeout is the job's own: --timeout {value}")
        else:
            given.named[key] = _read_value(value)
    if len(given.positional) > 1:
        raise click.UsageError("- stands for all of stdin: once is enough")
    return given


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _await(future: JobFuture) -> None:
    try:
        future.exception()
    except KeyboardInterrupt:
        future.cancel()
        raise
    except Cancelled:
        return  # `_tell` says so


def _tell(settings: Settings, future: JobFuture) -> int:
    try:
        result = future.result()
    except ChangeoverError as error:
        if not settings.json:
            raise
        facts = {"code": error.code, "message": error.message, "executed": error.executed}
        _show_record(future, result=None, error={**error.data, **facts})
        return exit_code(error)
    if settings.json:
        _show_record(future, result=result, error=None)
    else:
        show_result(settings, result)
    return 0


def _show_record(future: JobFuture, *, result: Any, error: dict[str, Any] | None) -> None:
    info = future.info
    show_document(
        "call",
        {
            "job": info.job,
            "plugin": info.plugin,
            "state": info.state,
            "release": {
                "number": info.release,
                "version": info.version,
                "digest": info.digest,
            },
            "generation": info.generation,
            "worker": info.worker,
            "attempts": info.attempts,
            "queued_s": info.queued_ms and info.queued_ms / 1000,
            "ran_s": info.ran_ms and info.ran_ms / 1000,
            "result": result,
            "error": error,
        },
    )
