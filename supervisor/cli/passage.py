"""Frames through a plugin: what each answer means for the stream, and what an error leaves of it.

Order is the input's. A filter that gives back held frames before a cut, or at the end, has them
in their place: after everything that its release was given. Must not know where frames come from.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from ...client.errors import (
    ChangeoverError,
    Disconnected,
    InvalidRequest,
    NotFound,
    PluginError,
    WorkerLost,
)
from ...client.handle import PluginHandle
from ...client.media import like_input
from ...protocol.frame import Frame
from ...protocol.messages import pack
from ...protocol.payload import unpack_payload
from .ahead import Ahead, Sent

OnError = Literal["raise", "skip", "passthrough", "repeat"]
ON_ERROR: tuple[OnError, ...] = ("raise", "skip", "passthrough", "repeat")
_DONE = {"skip": "skipped", "passthrough": "passed through", "repeat": "repeats the one before"}
# The same for every frame: no frame is worth going on for.
_HOPELESS = (Disconnected, NotFound, InvalidRequest)


class FrameError(Exception):
    """A frame that did not come through, in the words for people."""


class Flushed:
    """What filters gave back before a cut, until the first frame of the next release."""

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin
        self._values: deque[Any] = deque()
        self._lock = threading.Lock()

    def hear(self, method: str, params: list[Any]) -> None:
        """Listen to notifications, in the thread that reads."""
        if method == "flushed" and params[0] == self._plugin:
            with self._lock:
                self._values.extend(params[1])

    def take(self) -> list[Any]:
        """All of it, once."""
        with self._lock:
            values = list(self._values)
            self._values.clear()
        return [revived(value) for value in values]


class Passage:
    """Iterate over `run` to move the stream; `counts` says what came of it.

    `flush` asks the plugin for what it still holds, `say` tells people, a line at a time.
    """

    def __init__(
        self,
        handle: PluginHandle,
        *,
        on_error: OnError = "raise",
        flushed: Flushed,
        flush: Callable[[], list[Any]],
        say: Callable[[str], None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._handle = handle
        self._on_error = on_error
        self._flushed = flushed
        self._flush = flush
        self._say = say
        self._generation = 0
        self._last_in: Frame | None = None
        self._last_out: Frame | None = None

    def run(
        self, frames: Iterable[Frame], ahead: int, arguments: dict[str, Any]
    ) -> Iterator[Frame]:
        """The frames to write. Raises FrameError, ChangeoverError, or what broke the source."""
        stream = Ahead(self._handle, frames, ahead, arguments)
        for sent in stream:
            self.counts["in"] += 1
            self._last_in = sent.item
            yield from self._put_out(self._answer(sent))
        yield from self._put_out(self._rest())
        if stream.error is not None:
            raise stream.error

    def _put_out(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self._last_out = frame
            yield frame
            self.counts["out"] += 1

    def _answer(self, sent: Sent[Frame]) -> list[Frame]:
        try:
            frames = _frames(_result(sent), sent.item)
        except _HOPELESS:
            raise
        except (ChangeoverError, TypeError, ValueError) as err:
            return self._instead(sent, err)
        return [*self._before_cut(sent), *frames]

    def _before_cut(self, sent: Sent[Frame]) -> list[Frame]:
        assert sent.future is not None  # it has a result
        info = sent.future.info
        if info.attempts is not None and info.attempts > 1:
            self.counts["done again"] += 1
        # A frame that was done again may be of a later generation than the one behind it.
        if info.generation is None or info.generation <= self._generation:
            return []
        self.counts["changeovers"] += self._generation > 0
        self._generation = info.generation
        return _frames(self._flushed.take(), sent.item)

    def _instead(self, sent: Sent[Frame], err: Exception) -> list[Frame]:
        if self._on_error == "raise":
            raise FrameError(_end_of_stream(sent.number, err)) from err
        self.counts["failed"] += 1
        self._say(f"frame {sent.number} {_DONE[self._on_error]}: {_message(err)}")
        if self._on_error == "skip":
            return []
        if self._on_error == "repeat" and self._last_out is not None:
            return [self._last_out]
        return [sent.item]

    def _rest(self) -> list[Frame]:
        if self._last_in is None:
            return []
        held = self._flushed.take()
        try:
            held += self._flush()
        except _HOPELESS:
            raise
        except ChangeoverError as err:
            text = f"what the filter still held is lost: {err.message}"
            if self._on_error == "raise":
                raise FrameError(text) from err
            self._say(text)
        return _frames(held, self._last_in)


def revived(value: Any) -> Any:
    """Frames and arrays out of the plain maps that they travelled as."""
    return unpack_payload(pack(value))


def _result(sent: Sent[Frame]) -> Any:
    if sent.error is not None:
        raise sent.error
    assert sent.future is not None  # it was sent, or there is an error
    return sent.future.result()


def _frames(result: Any, original: Frame) -> list[Frame]:
    if result is None:
        return []
    if isinstance(result, list):
        return [frame for item in result for frame in _frames(item, original)]
    frame = like_input(result, original)
    if not isinstance(frame, Frame):
        raise TypeError(
            f"the plugin answered {_kind(result)}; a stream takes a Frame, an array as large as "
            "the frame's, a list of them or None"
        )
    return [frame]


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"an array of shape {shape}" if shape is not None else f"a {type(value).__name__}"


def _message(err: Exception) -> str:
    return err.message if isinstance(err, ChangeoverError) else str(err)


def _end_of_stream(number: int, err: Exception) -> str:
    others = "--on-error skip, passthrough or repeat goes on without it"
    if isinstance(err, WorkerLost):
        return (
            f"frame {number} was lost with its worker: {_message(err)}\n"
            f"  {err.plugin} is not pure, so it was not done again; the stream ends here\n"
            f"  if it may be done again: @plugin(pure=True); else {others}"
        )
    trace = f"\n{err.traceback.strip()}" if isinstance(err, PluginError) else ""
    return f"frame {number} failed: {_message(err)}{trace}\n  the stream ends here; {others}"
