"""One public method of a plugin: what is told of it, and how it is called."""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import Any

from ..protocol.errors import Code, Fault
from ..protocol.frame import Frame
from .job import Job
from .parameters import Parameters, is_kind

_NO_PLACE = 1 << 30


class Method:
    """A callable with what its parameters ask of us: the job, frames."""

    __slots__ = (
        *("_frame_names", "_frame_places", "_job_name", "_job_place"),
        *("function", "is_async", "is_python", "is_stream", "name", "pure"),
    )

    def __init__(self, name: str, function: Any, pure: bool) -> None:
        self.name = name
        self.function = function
        self.pure = pure
        is_async_stream = is_kind(function, "async_generator")
        self.is_stream = is_async_stream or is_kind(function, "generator")
        self.is_async = is_async_stream or is_kind(function, "coroutine")
        self.is_python = isinstance(function, (FunctionType, MethodType))
        parameters = Parameters(function)
        self._job_name, self._job_place = _job(parameters)
        self._frame_names = frozenset(parameters.annotated(Frame))
        # The caller does not count the job: what stands behind it is one place further left.
        given = [
            name for name in parameters.names[: parameters.positional] if name != self._job_name
        ]
        self._frame_places = tuple(
            place for place, name in enumerate(given) if name in self._frame_names
        )

    @property
    def can_cancel(self) -> bool:
        """Can a running call be told to end?"""
        return self.is_stream or self.is_async or self._job_name is not None

    @property
    def can_tell(self) -> bool:
        """Can a running call tell its progress?"""
        return self.is_stream or self._job_name is not None

    def wire(self) -> dict[str, Any]:
        """As `load` answers it."""
        return {"pure": self.pure, "stream": self.is_stream}

    @property
    def defined_at(self) -> tuple[str, int] | None:
        """The file and line of its definition; None for what is not written in Python."""
        code = getattr(getattr(self.function, "__func__", self.function), "__code__", None)
        return None if code is None else (code.co_filename, code.co_firstlineno)

    def call(self, args: list[Any], kwargs: dict[str, Any], job: Job) -> Any:
        """Call it with what came over the wire; what it returns may be a generator still."""
        if self._frame_names:
            self._make_frames(args, kwargs)
        if self._job_name is not None:
            if self._job_place <= len(args):
                args.insert(self._job_place, job)
            else:
                kwargs[self._job_name] = job
        return self.function(*args, **kwargs)

    def _make_frames(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        for place in self._frame_places:
            if place < len(args):
                args[place] = _frame(args[place])
        for name in self._frame_names.intersection(kwargs):
            kwargs[name] = _frame(kwargs[name])


def _job(parameters: Parameters) -> tuple[str | None, int]:
    """Its name and place; a keyword-only one has a place that no call reaches."""
    for name in parameters.annotated(Job):
        place = parameters.names.index(name)
        return name, place if place < parameters.positional else _NO_PLACE
    return None, _NO_PLACE


def _frame(value: Any) -> Any:
    """A picture that came as an array, as a Frame; anything else as it came."""
    if type(value).__module__ != "numpy":
        return value
    try:
        return Frame.from_array(value)
    except ValueError as err:
        raise Fault.new(Code.INVALID_PARAMS, f"a frame was asked for: {err}") from None
