"""The `changeover` command: global options, one verb, one exit code."""

from __future__ import annotations

import errno
import sys

import click

from ...client.errors import ChangeoverError
from .exits import FAILED, INTERRUPTED, NOT_IN_TIME, USAGE, exit_code
from .output import drop_stdout
from .settings import Settings, global_options
from .verbs import Verbs

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
HELP = """Runs each plugin of a media pipeline in its own worker process and replaces it while
work flows.

PLUGIN is the name of a plugin of the running supervisor, or a path (./denoise.py): a path
starts a private supervisor for the time of the command.

Exit codes: 0 done, 1 failed, 2 usage or bad config, 3 no supervisor there, 4 no such plugin,
job or release, 5 refused and nothing was changed, 6 rolled back, 7 not finished in time and
nothing lost, 130 interrupted."""

cli = Verbs(
    "changeover",
    help=HELP,
    params=global_options(),
    subcommand_metavar="VERB [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main(args: list[str] | None = None) -> int:
    """Run one command line; the exit code is what the console script exits with."""
    try:
        code = _run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # `changeover logs | head`: nobody reads on
        drop_stdout()
        return 0
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        drop_stdout()
        click.echo(f"changeover: stdout cannot be written: {error.strerror}", err=True)
        return FAILED
    return code


def _run(args: list[str] | None) -> int:
    given = (sys.argv[1:] if args is None else list(args)) or ["--help"]
    try:
        with cli.make_context("changeover", given, obj=Settings()) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("changeover: interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        _say_usage(error)
        return USAGE
    except ChangeoverError as error:
        words = str(error)
        is_named = error.plugin is not None and words.startswith(error.plugin)
        click.echo(words if is_named else f"changeover: {words}", err=True)
        return exit_code(error)
    except TimeoutError:
        click.echo("changeover: no answer from the supervisor; what was asked goes on", err=True)
        return NOT_IN_TIME
    return code if isinstance(code, int) else 0


def _say_usage(error: click.ClickException) -> None:
    click.echo(f"changeover: {error.format_message()}", err=True)
    context = getattr(error, "ctx", None)
    if context is not None:
        click.echo(f"  see: {context.command_path} --help", err=True)
