"""What goes to stdout: one JSON document, or a plugin's result.

Data on stdout, narration on stderr.
"""

from __future__ import annotations

import base64
import json
import math
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from .settings import Settings


def show_document(schema: str, content: Mapping[str, Any], *, is_line: bool = False) -> None:
    """One document `{"schema": "changeover.SCHEMA/1", …}`; a watching verb prints lines."""
    document = {"schema": f"changeover.{schema}/1", **content}
    indent = None if is_line or not sys.stdout.isatty() else 2
    click.echo(json.dumps(jsonable(document), indent=indent, ensure_ascii=False))


def drop_stdout() -> None:
    """What is still buffered cannot be written: the interpreter would complain at exit."""
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 1)


def show_result(settings: Settings, value: Any) -> None:
    """A plugin's result: bytes as they are, everything else as JSON."""
    if not isinstance(value, bytes):
        click.echo(json.dumps(jsonable(value), ensure_ascii=False))
    elif sys.stdout.isatty():
        settings.say(f"{len(value)} bytes; send them somewhere: changeover call … > FILE")
    else:
        sys.stdout.buffer.write(value)


def say_mistakes(problems: list[str], meaning: str) -> None:
    """All mistakes of a config, and what became of it."""
    count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    click.echo(f"changeover: {count} in the config; {meaning}", err=True)
    for line in problems:
        click.echo(f"  {line}", err=True)


def jsonable(value: Any) -> Any:
    """The same with what JSON lacks spelt out: bytes as `{"$base64": …}`, times as RFC 3339,
    numbers that are none as `{"$float": "nan"}`.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return {"$base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return jsonable(_wire_form(value))


def _wire_form(value: Any) -> Any:
    """Frames and arrays as the maps that travel."""
    from ...protocol.messages import unpack
    from ...protocol.payload import pack_payload

    return unpack(pack_payload(value))
