"""`changeover check`: does a plugin, or everything in a config, stand what will come?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..units import format_duration
from .asking import is_path, name_of, overrides, private, table_of
from .exits import FAILED, USAGE
from .output import say_mistakes, show_document
from .settings import DEFAULT_CONFIG, Settings
from .trial import Finding, Trial

Tables = dict[str, dict[str, Any]]


@click.command
@click.argument("what", required=False, metavar="[PLUGIN|CONFIG]")
@click.option(
    "--samples",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder: the bytes of each file are one job.",
)
@click.pass_obj
def check(settings: Settings, what: str | None, samples: Path | None) -> int:
    """Validate a plugin or a config; changes nothing.

    Loads it in a throwaway supervisor, replaces it while it works and kills a worker. PLUGIN is
    a path, or a name in the config; without either the whole config is checked.
    """
    tables = _tables(settings, what)
    if tables is None:
        return USAGE
    if not tables:
        settings.say("no plugin in the config: there is nothing to check")
    files = sorted(path for path in samples.iterdir() if path.is_file()) if samples else []
    if samples and not files:
        raise click.UsageError(f"{samples}: no files in it")
    found = {name: _check_one(settings, name, table, files) for name, table in tables.items()}
    if settings.json:
        show_document("check", {"plugins": {name: _plain(found[name]) for name in found}})
    return 0 if all(step.is_ok for steps in found.values() for step in steps) else FAILED


def _tables(settings: Settings, what: str | None) -> Tables | None:
    """What is to be checked, as maps for `add`; None if the config was refused."""
    if what is not None and is_path(what) and not what.endswith(".toml"):
        name = name_of(what)
        return {name: {**table_of(what), **overrides(name, settings)}}
    from ..config import ConfigError, load_tables

    is_config = what is not None and what.endswith(".toml")
    config = Path(what) if what and is_config else settings.config or DEFAULT_CONFIG
    try:
        tables = load_tables(config, settings.overrides)
    except ConfigError as error:
        say_mistakes(error.problems, "nothing was started")
        return None
    if what is None or is_config:
        return tables
    if what not in tables:
        known = ", ".join(tables) or "none"
        meant = f"; for the folder: ./{what}" if Path(what).is_dir() else ""
        raise click.UsageError(f"no plugin {what!r} in {config}; it has: {known}{meant}")
    return {what: tables[what]}


def _check_one(
    settings: Settings, name: str, table: dict[str, Any], files: list[Path]
) -> list[Finding]:
    if not settings.json:
        click.echo(f"{name}   {table.get('source') or ' '.join(table.get('command', []))}")
    steps = []
    level = "info" if settings.verbose else "error"
    with private(settings, {"log.level": level}) as supervisor:
        for finding in Trial(supervisor, name, table).run(files):
            steps.append(finding)
            if not settings.json:
                click.echo(_line(finding))
    if not files and all(finding.is_ok for finding in steps):
        settings.say("  no job was run: --samples DIR gives it some")
    return steps


def _line(finding: Finding) -> str:
    word = "ok" if finding.is_ok else "FAILED"
    first, *others = finding.detail.splitlines() or [""]
    took = format_duration(finding.took_s)
    head = f"  {finding.step:<11}{word:<7}{took:>8}   {first}".rstrip()
    return "\n".join([head, *(f"      {line}" for line in others)])


def _plain(steps: list[Finding]) -> dict[str, Any]:
    return {
        "ok": all(finding.is_ok for finding in steps),
        "steps": [
            {
                "step": finding.step,
                "ok": finding.is_ok,
                "took_s": round(finding.took_s, 3),
                "detail": finding.detail,
            }
            for finding in steps
        ],
    }
