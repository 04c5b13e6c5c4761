"""The group of verbs: each verb's module is imported when the verb is used.

`changeover status` must not pay for what `serve` needs, and `--help` for nothing at all.
"""

from __future__ import annotations

import difflib
from importlib import import_module

import click

from .settings import global_options

# verb: (module:command, one line of help), in the order of a first day
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("demo:demo", "Watch frames flow through a plugin that is replaced and killed."),
    "check": ("check:check", "Validate a plugin or a config; changes nothing."),
    "call": ("call:call", "Run one job and print its result."),
    "pipe": ("pipe:pipe", "Media stream in, media stream out, through a plugin."),
    "serve": ("serve:serve", "Run the supervisor."),
    "stop": ("stop:stop", "Drain, then stop the supervisor."),
    "status": ("status:status", "Show what runs."),
    "logs": ("logs:logs", "Show lines of the supervisor and the workers."),
    "jobs": ("jobs:jobs", "List jobs, running and queued."),
    "cancel": ("jobs:cancel", "Cancel jobs."),
    "reload": ("reload:reload", "Replace plugins by what their sources hold now."),
    "rollback": ("reload:rollback", "Go back to the release before."),
    "pause": ("pause:pause", "Let running jobs finish and hold the others."),
    "resume": ("pause:resume", "Let jobs flow again."),
    "history": ("history:history", "Show who changed what, why, and how it ended."),
    "doctor": ("doctor:doctor", "Show what this machine allows."),
}


class Verbs(click.Group):
    """A group that knows its commands by name and imports one of them."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """All verbs."""
        return list(VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import the module of one verb, and let it take the global options too."""
        if name not in VERBS:
            return None
        module, attribute = VERBS[name][0].split(":")
        command: click.Command = getattr(import_module(f".{module}", __package__), attribute)
        if not any(option.name == "overrides" for option in command.params):
            command.params += global_options()
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that was asked for, or a usage error that names the nearest one."""
        if args and args[0] not in VERBS:
            near = difflib.get_close_matches(args[0], VERBS, n=1)
            meant = f'; did you mean "{near[0]}"?' if near else ""
            context.fail(f'no verb "{args[0]}"{meant}')
        return super().resolve_command(context, args)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing one."""
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])
