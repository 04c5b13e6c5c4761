"""The first line of a yuv4mpeg stream: what it says, and the line for frames that came to differ.

Tokens that mean nothing to us are kept as they came, so that an untouched stream keeps its header
byte for byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..protocol.frame import Frame

MAGIC = b"YUV4MPEG2"
DEFAULT_CHROMA = "420"
_FORMATS = {
    "420": "yuv420p",
    "420jpeg": "yuv420p",
    "420mpeg2": "yuv420p",
    "420paldv": "yuv420p",
    "411": "yuv411p",
    "422": "yuv422p",
    "444": "yuv444p",
    "444alpha": "yuva444p",
    "mono": "gray",
    **{f"mono{bits}": f"gray{bits}le" for bits in (9, 10, 12, 16)},
    **{
        f"{sampling}p{bits}": f"yuv{sampling}p{bits}le"
        for sampling in ("420", "422", "444")
        for bits in (9, 10, 12, 14, 16)
    },
}
_TAGS = {form: tag for tag, form in reversed(_FORMATS.items())} | {"yuv420p": "420jpeg"}
_FIELDS = {"p": "progressive", "t": "tff", "b": "bff"}
_RANGES = {"LIMITED": 1, "FULL": 2}
_RATIO = re.compile(r"([0-9]{1,10}):([0-9]{1,10})")
_UNSPECIFIED = 2  # in H.273 and in ffmpeg: space, primaries, transfer


class Y4mError(ValueError):
    """A stream that is no yuv4mpeg, or frames that it cannot carry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The stream's facts. `tokens` are all of its words, in order, without the magic."""

    tokens: tuple[str, ...]
    width: int
    height: int
    format: str
    rate: tuple[int, int] | None  # frames a second
    sar: tuple[int, int] | None

    @classmethod
    def parse(cls, line: bytes) -> Header:
        """Read a header line, without its newline. Raises Y4mError."""
        magic, *words = line.split(b" ")
        if magic != MAGIC:
            raise Y4mError(
                f"no yuv4mpeg stream: it begins with {line[:24]!r}; "
                "from ffmpeg: -f yuv4mpegpipe -, or tell what it is with --raw"
            )
        tokens = tuple(word.decode("latin-1") for word in words if word)
        chroma = _value(tokens, "C") or DEFAULT_CHROMA
        if chroma not in _FORMATS:
            raise Y4mError(f"yuv4mpeg with chroma C{chroma!r:.40} is not known here")
        return cls(
            tokens=tokens,
            width=_size(tokens, "W"),
            height=_size(tokens, "H"),
            format=_FORMATS[chroma],
            rate=_ratio(tokens, "F"),
            sar=_ratio(tokens, "A"),
        )

    @property
    def field(self) -> str | None:
        """The field order, None if it is mixed or not told."""
        return _FIELDS.get(_value(self.tokens, "I") or "")

    @property
    def color(self) -> tuple[int, ...] | None:
        """The range that ffmpeg notes, as (range, space, primaries, transfer)."""
        known = _RANGES.get(_value(self.tokens, "XCOLORRANGE=") or "")
        return (known, *(_UNSPECIFIED,) * 3) if known else None

    def line(self) -> bytes:
        """The header line with its newline."""
        words = (word.encode("latin-1") for word in self.tokens)
        return b" ".join((MAGIC, *words)) + b"\n"

    def carrying(self, frame: Frame) -> Header:
        """The header for frames like this one. Raises Y4mError for formats y4m does not have."""
        if (frame.width, frame.height, frame.format) == (self.width, self.height, self.format):
            return self
        return replace(
            self,
            width=frame.width,
            height=frame.height,
            format=frame.format,
            tokens=self._tokens_for(frame),
        )

    def _tokens_for(self, frame: Frame) -> tuple[str, ...]:
        new = {"W": f"W{frame.width}", "H": f"H{frame.height}"}
        kept = self.tokens
        if frame.format != self.format:
            new["C"] = "C" + chroma_of(frame.format)
            kept = tuple(t for t in kept if not t.startswith(("XYSCSS=", "XCOLORRANGE=")))
        changed = [new.pop(token[0], token) for token in kept]
        return (*changed, *new.values())


def chroma_of(name: str) -> str:
    """The chroma tag of a pixel format. Raises Y4mError for what yuv4mpeg cannot carry."""
    if name not in _TAGS:
        raise Y4mError(
            f"yuv4mpeg cannot carry {name}: let the plugin answer in the format it was given"
        )
    return _TAGS[name]


def header_for(frame: Frame, rate: tuple[int, int]) -> Header:
    """The header of a new stream of frames like this one, progressive with square pixels."""
    tokens = (f"W{frame.width}", f"H{frame.height}", f"F{rate[0]}:{rate[1]}", "Ip", "A1:1")
    return Header.parse(
        b" ".join((MAGIC, *(t.encode() for t in tokens), b"C" + chroma_of(frame.format).encode()))
    )


def _value(tokens: tuple[str, ...], key: str) -> str | None:
    for token in tokens:
        if token.startswith(key):
            return token[len(key) :]
    return None


def _size(tokens: tuple[str, ...], key: str) -> int:
    text = _value(tokens, key)
    if text is None or not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65_536:
        raise Y4mError(f"yuv4mpeg header: {key} must be 1 to 65535, not {text!r:.40}")
    return int(text)


def _ratio(tokens: tuple[str, ...], key: str) -> tuple[int, int] | None:
    text = _value(tokens, key)
    if text is None:
        return None
    match = _RATIO.fullmatch(text)
    if match is None:
        raise Y4mError(f"yuv4mpeg header: {key} must be N:N, not {text!r:.40}")
    numerator, denominator = int(match[1]), int(match[2])
    return (numerator, denominator) if numerator and denominator else None
