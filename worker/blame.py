"""What the plugin raised, told so that its author finds the line.

`ValueError: no boxes (detect.py:21)`, and a traceback that begins with the plugin's own frames
and has none of ours.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..protocol.errors import Code, Fault

if TYPE_CHECKING:
    from traceback import TracebackException

    from .release import Release

_ROOMS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_OURS = tuple(os.path.join(_ROOMS, room) + os.sep for room in ("worker", "protocol"))
_TEXT = 1000
_TRACEBACK = 32 * 1024
_DEPTH = 100  # frames of one traceback; beyond: the first and the last half


class LoadError(Exception):
    """The source cannot be run as a plugin; the text says why and what to do."""


class NoPlugin(LoadError):
    """The module that was looked into has none, or none of that name."""


def blame(exc: BaseException, release: Release, **data: Any) -> Fault:
    """The fault to answer when plugin code raised. `data` is added to the fault's."""
    retryable = getattr(exc, "retryable", False) is True
    return Fault.new(
        Code.JOB_FAILED,
        describe(exc, release),
        type=_type_name(exc),
        traceback=trace(exc, release),
        **{**data, "retryable": retryable},
    )


def blame_hook(exc: BaseException, release: Release, stage: str) -> Fault:
    """The same for loading and for hooks: the message begins with the stage."""
    fault = blame(exc, release, stage=stage)
    fault.message = f"{stage}: {fault.message}"
    return fault


def describe(exc: BaseException, release: Release) -> str:
    """`Type: text (file:line)`, and what to do where that is known."""
    if isinstance(exc, LoadError):
        return str(exc)
    text = _text(exc)
    head = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    where = _where(exc, release)
    hint = _hint(exc, release)
    return head + (f" ({where})" if where else "") + (f"; {hint}" if hint else "")


def is_ours_alone(exc: BaseException) -> bool:
    """Did it come about before a line of the plugin ran?"""
    return not _frames(exc.__traceback__)


def trace(exc: BaseException, release: Release) -> str:
    """The traceback as Python prints it, cut to the plugin's and its libraries' frames."""
    import linecache
    import traceback

    for path, _ in _frames(exc.__traceback__):
        _prime(path, release, linecache)
    try:
        told = traceback.TracebackException(type(exc), exc, exc.__traceback__)
        _strip(told, release)
        text = "".join(told.format())
    except Exception as err:  # noqa: BLE001  the exception's own __str__ or __notes__
        text = f"{type(exc).__name__} (its traceback cannot be shown: {type(err).__name__})"
    if len(text) > _TRACEBACK:
        text = f"{text[: _TRACEBACK // 2]}\n  ...\n{text[-_TRACEBACK // 2 :]}"
    return text


def _strip(told: TracebackException, release: Release) -> None:
    frames = [frame for frame in told.stack if not _is_ours(frame.filename)]
    if len(frames) > _DEPTH:
        frames = frames[: _DEPTH // 2] + frames[-_DEPTH // 2 :]
    told.stack[:] = frames
    for frame in told.stack:
        _ = frame.line  # looked up by the path it has now
        frame.filename = release.show(frame.filename)
    for other in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        if other is not None:
            _strip(other, release)


def _text(exc: BaseException) -> str:
    if isinstance(exc, SyntaxError):
        return str(exc.msg)
    if isinstance(exc, SystemExit):
        return f"the plugin left by sys.exit({exc.code!r:.60})"
    try:
        text = str(exc)
    except Exception as err:  # noqa: BLE001  a __str__ of the plugin's
        text = f"(its text cannot be shown: {type(err).__name__})"
    return text if len(text) <= _TEXT else text[:_TEXT] + "…"


def _where(exc: BaseException, release: Release) -> str:
    """The author's innermost line; without one, the innermost of all that is not ours."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return release.place(exc.filename, exc.lineno or 1)
    frames = _frames(exc.__traceback__)
    if not frames:
        return ""
    own = [frame for frame in frames if release.owns(frame[0])]
    if not own and not release.entry:
        own = [frame for frame in frames if not _is_installed(frame[0])]
    return release.place(*(own or frames)[-1])


def _hint(exc: BaseException, release: Release) -> str:
    left_out = ""
    if isinstance(exc, FileNotFoundError) and isinstance(exc.filename, (str, os.PathLike)):
        left_out = release.left_out(os.fspath(exc.filename))
    elif isinstance(exc, ModuleNotFoundError) and exc.name:
        stem = exc.name.replace(".", os.sep)
        left_out = release.left_out(f"{stem}.py") or release.left_out(stem)
    if not left_out:
        return ""
    name = os.path.basename(release.shown)
    return f"{left_out} lies beside {name} but is not part of the release: add it to include"


def _frames(tb: TracebackType | None) -> list[tuple[str, int]]:
    """(path, line) of every frame that is not ours and not the import system's."""
    frames = []
    while tb is not None:
        path = tb.tb_frame.f_code.co_filename
        if not _is_ours(path):
            frames.append((path, tb.tb_lineno))
        tb = tb.tb_next
    return frames


def _is_ours(path: str) -> bool:
    return path.startswith((*_OURS, "<frozen importlib", "<frozen zipimport"))


def _is_installed(path: str) -> bool:
    return path.startswith((sys.prefix, sys.base_prefix, "<frozen"))


def _prime(path: str, release: Release, linecache: Any) -> None:
    """Have the staged lines shown for the original's path, which may have changed since."""
    staged = release.hide(path)
    if staged != path and path not in linecache.cache:
        lines = linecache.getlines(staged)
        if lines:
            # Without a time of change the entry is never checked against the live file.
            linecache.cache[path] = (sum(map(len, lines)), None, lines, path)


def _type_name(exc: BaseException) -> str:
    kind = type(exc)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
