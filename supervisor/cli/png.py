"""A picture as PNG, with nothing but zlib: 8-bit RGB, no filters."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB_8 = (8, 2, 0, 0, 0)  # depth, colour type, compression, filter, interlace


def png(pixels: NDArray[Any]) -> bytes:
    """The file's bytes, from rows x columns x 3 of uint8."""
    import numpy as np

    height, width, _ = pixels.shape
    # Every row begins with the number of its filter: 0, none.
    rows = np.concatenate([np.zeros((height, 1), "u1"), pixels.reshape(height, -1)], axis=1)
    return b"".join([
        _SIGNATURE,
        _chunk(b"IHDR", struct.pack(">II5B", width, height, *_RGB_8)),
        _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)),
        _chunk(b"IEND", b""),
    ])  # fmt: skip


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
