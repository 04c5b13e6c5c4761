"""Real frames with their numbers written into the pixels, at the rate of a live source."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...client.slate import LEAST_SIZE, stamp
from ...protocol.frame import Frame

if TYPE_CHECKING:
    import av

WIDTH, HEIGHT = 640, 360


class DemoFrames:
    """Iterating gives numbered frames until `seconds` have passed, or `stop` is set.

    While `encore` says so it goes on, for as long again at the most.

    Of a file that is shorter than that, again from its beginning. Raises ValueError or OSError
    for a file without pictures.
    """

    def __init__(self, path: Path | None, *, rate: int, seconds: float) -> None:
        self.stop = threading.Event()
        self.encore: Callable[[], bool] = lambda: False
        self.sent = 0
        self.total = round(rate * seconds)
        self._path = path
        self._rate = rate

    def __iter__(self) -> Iterator[Frame]:
        began: float | None = None
        for picture in self._pictures():
            frame = self._numbered(picture)
            began = began or time.monotonic()
            due = began + self.sent / self._rate
            if self._is_over() or self.stop.wait(max(0.0, due - time.monotonic())):
                return
            self.sent += 1
            yield frame

    def _is_over(self) -> bool:
        return self.sent >= self.total and not (self.sent < 2 * self.total and self.encore())

    def _numbered(self, picture: av.VideoFrame) -> Frame:
        pixels: Any = picture.reformat(*_size(picture), format="rgb24").to_ndarray().copy()
        frame = Frame.from_array(pixels, pts=self.sent, time_base=(1, self._rate))
        stamp(frame, self.sent)
        return frame

    def _pictures(self) -> Iterator[av.VideoFrame]:
        import av

        if self._path is None:
            with av.open(
                f"testsrc2=size={WIDTH}x{HEIGHT}:rate={self._rate}", format="lavfi"
            ) as test:
                yield from test.decode(video=0)
        while self._path is not None:
            before = self.sent
            with av.open(self._path) as source:
                if not source.streams.video:
                    raise ValueError(f"{self._path} has no pictures")
                yield from source.decode(video=0)
            if self.sent == before:
                raise ValueError(f"{self._path} has no pictures")


def _size(picture: av.VideoFrame) -> tuple[int, int]:
    """At most as wide as the test picture, sides even for the encoder."""
    scale = min(1.0, WIDTH / picture.width)
    sides = (picture.width * scale, picture.height * scale)
    width, height = (
        max(least, round(side / 2) * 2) for side, least in zip(sides, LEAST_SIZE, strict=True)
    )
    return width, height
