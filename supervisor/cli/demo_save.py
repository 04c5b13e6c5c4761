"""What the demo leaves behind: the pictures that came out as a film, and the contact sheet."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from ...protocol.frame import Frame
from .contact import ContactSheet

_CODECS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"preset": "veryfast"}),
    ("mpeg4", {}),
)


class Tape:
    """Takes output frames in order and writes `out.mp4` and `contact.png` into a folder."""

    def __init__(self, folder: Path, rate: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.film, self.sheet = folder / "out.mp4", folder / "contact.png"
        self._rate = rate
        self._contact = ContactSheet()
        self._container: Any = None
        self._stream: Any = None

    def add(self, number: int, frame: Frame, release: int, *, is_rerun: bool) -> None:
        """One more output frame and who made it."""
        import av

        pixels = frame.array
        self._contact.add(number, release, pixels, is_rerun=is_rerun)
        if self._container is None:
            self._container = av.open(self.film, "w")
            self._stream = self._new_stream(frame)
        picture = av.VideoFrame.from_ndarray(pixels, "rgb24")
        picture.pts, picture.time_base = number, Fraction(1, self._rate)
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish both files; without a frame there are none."""
        if self._container is None:
            return
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self.sheet.write_bytes(self._contact.png())

    def _new_stream(self, frame: Frame) -> Any:
        import av

        name, options = next(codec for codec in _CODECS if codec[0] in av.codecs_available)
        stream = self._container.add_stream(name, rate=self._rate, options=options)
        stream.width, stream.height = frame.width, frame.height
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, self._rate)
        return stream
