"""How samples lie in memory: one table of pixel formats, one of sample formats, ffmpeg's names.

Only the table: sizes and shapes are worked out from it in `geometry.py`.
"""

from __future__ import annotations

from typing import NamedTuple


class PlaneFormat(NamedTuple):
    """One plane: log2 of the subsampling in x and y, and samples side by side in one place."""

    x: int
    y: int
    components: int


class PixelFormat(NamedTuple):
    """A video format. `shape` says how its planes form one array ("" = they do not)."""

    name: str
    dtype: str  # numpy's name with the byte order: "|u1", "<u2"
    sample_bytes: int
    planes: tuple[PlaneFormat, ...]
    shape: str  # "packed" HxW or HxWxC, "stacked" CxHxW, "rows" of the full width, ""


class SampleFormat(NamedTuple):
    """An audio format; planar ones keep every channel in a plane of its own."""

    name: str
    dtype: str
    sample_bytes: int
    is_planar: bool


_FULL = PlaneFormat(0, 0, 1)
_SUBSAMPLED = {
    "444": (0, 0),
    "422": (1, 0),
    "420": (1, 1),
    "440": (0, 1),
    "411": (2, 0),
    "410": (2, 2),
}
_DEEP = {  # bits a sample of the little-endian twins that ffmpeg has
    "yuv420p": "9 10 12 14 16",
    "yuv422p": "9 10 12 14 16",
    "yuv444p": "9 10 12 14 16",
    "yuv440p": "10 12",
    "yuva420p": "9 10 16",
    "yuva422p": "9 10 12 16",
    "yuva444p": "9 10 12 16",
    "gbrp": "9 10 12 14 16",
    "gbrap": "10 12 16",
}
_WITH_ALPHA = ("420", "422", "444")
_FULL_RANGE = ("420", "422", "444", "440", "411")
_PACKED_8 = {
    1: "gray",
    2: "ya8",
    3: "rgb24 bgr24",
    4: "rgba bgra argb abgr rgb0 bgr0 0rgb 0bgr",
}
_PACKED_16 = {
    1: "gray9 gray10 gray12 gray14 gray16",
    2: "ya16",
    3: "rgb48 bgr48",
    4: "rgba64 bgra64",
}


def _packed_formats() -> list[PixelFormat]:
    table = []
    for components, names in _PACKED_8.items():
        plane = (PlaneFormat(0, 0, components),)
        table += [PixelFormat(name, "|u1", 1, plane, "packed") for name in names.split()]
    for components, names in _PACKED_16.items():
        plane = (PlaneFormat(0, 0, components),)
        for name in names.split():
            table.append(PixelFormat(name + "le", "<u2", 2, plane, "packed"))
            table.append(PixelFormat(name + "be", ">u2", 2, plane, "packed"))
    table.append(PixelFormat("grayf32le", "<f4", 4, (_FULL,), "packed"))
    # Two pixels share their chroma: a place is four bytes wide, which is no shape for H x W.
    pair = (PlaneFormat(1, 0, 4),)
    table += [PixelFormat(name, "|u1", 1, pair, "") for name in ("yuyv422", "uyvy422", "yvyu422")]
    return table


def _planar_formats() -> list[PixelFormat]:
    table = []
    for sampling, (x, y) in _SUBSAMPLED.items():
        shape = "stacked" if (x, y) == (0, 0) else "rows"
        planes = (_FULL, PlaneFormat(x, y, 1), PlaneFormat(x, y, 1))
        table += _depths(f"yuv{sampling}p", planes, shape)
        if sampling in _WITH_ALPHA:
            table += _depths(f"yuva{sampling}p", (*planes, _FULL), shape)
        if sampling in _FULL_RANGE:
            table += _depths(f"yuvj{sampling}p", planes, shape)
    # Their planes lie in the order green, blue, red: one array of them would mislead.
    table += _depths("gbrp", (_FULL,) * 3, "")
    table += _depths("gbrap", (_FULL,) * 4, "")
    return table


def _depths(name: str, planes: tuple[PlaneFormat, ...], shape: str) -> list[PixelFormat]:
    deep = [
        PixelFormat(f"{name}{bits}le", "<u2", 2, planes, shape)
        for bits in _DEEP.get(name, "").split()
    ]
    return [PixelFormat(name, "|u1", 1, planes, shape), *deep]


def _two_plane_formats() -> list[PixelFormat]:
    def two(name: str, sampling: str, dtype: str, size: int) -> PixelFormat:
        chroma = PlaneFormat(*_SUBSAMPLED[sampling], 2)
        return PixelFormat(name, dtype, size, (_FULL, chroma), "rows")

    return [
        two("nv12", "420", "|u1", 1),
        two("nv21", "420", "|u1", 1),
        two("nv16", "422", "|u1", 1),
        two("nv24", "444", "|u1", 1),
        two("p010le", "420", "<u2", 2),
        two("p016le", "420", "<u2", 2),
    ]


VIDEO = {
    form.name: form for form in (*_packed_formats(), *_planar_formats(), *_two_plane_formats())
}

AUDIO = {
    name + suffix: SampleFormat(name + suffix, dtype, size, is_planar)
    for name, dtype, size in (
        ("u8", "|u1", 1),
        ("s16", "<i2", 2),
        ("s32", "<i4", 4),
        ("s64", "<i8", 8),
        ("flt", "<f4", 4),
        ("dbl", "<f8", 8),
    )
    for suffix, is_planar in (("", False), ("p", True))
}
