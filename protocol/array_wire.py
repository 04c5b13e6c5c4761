"""The map a numpy array travels as: `{"$array": {dtype, shape}, "data": bin}`.

The dtype's byte order is explicit; arrays of objects and of records are refused. numpy is looked
up, never imported, on the sending side: who never imported it has no array to send.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from .planes import checked_int

KEY = "$array"
_KINDS = "biufcSUmM"
# Their plain names, for those who have no numpy to ask; little-endian.
_NAMED = {
    "bool": "|b1", "int8": "|i1", "uint8": "|u1",
    **{f"{kind}{bits}": f"<{kind[0]}{bits // 8}" for bits in (16, 32, 64)
       for kind in ("int", "uint", "float")},
    "complex64": "<c8", "complex128": "<c16",
}  # fmt: skip
_DTYPE = re.compile(r"[<>|][biufcSUmM]\d{1,9}(\[\d{0,6}[A-Za-zμ]{1,7}\])?")
_SCALARS = (bool, int, float, str, bytes)  # others, as complex, travel as arrays without a size
_MOST_DIMENSIONS = 32  # numpy 1.x has no more


def is_numpy(value: object) -> bool:
    """An array or a scalar of numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


def to_wire(value: Any) -> Any:
    """The map of an array, the plain value of a scalar. TypeError for objects and records."""
    if value.dtype.kind not in _KINDS or value.ndim > _MOST_DIMENSIONS:
        raise TypeError(f"is a numpy {type(value).__name__} of {value.dtype}: it cannot be sent")
    import numpy as np

    if isinstance(value, np.generic):
        plain = value.item()
        if isinstance(plain, _SCALARS):
            return plain
    array = np.ascontiguousarray(value).reshape(value.shape)
    head = {"dtype": array.dtype.str, "shape": array.shape}
    return {KEY: head, "data": array.reshape(-1).view("u1").data if array.size else b""}


def of_wire(value: dict[Any, Any]) -> Any:
    """The read-only array that a map tells of, a view of its data. ValueError if it lies."""
    head, data = value[KEY], value.get("data")
    if not isinstance(head, dict) or not isinstance(data, (bytes, bytearray, memoryview)):
        raise ValueError(f"array: {KEY} must be a map with dtype and shape, beside data")
    name, shape = head.get("dtype"), head.get("shape")
    name = _NAMED.get(name, name) if isinstance(name, str) else name
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise ValueError(f"array: dtype {name!r:.40} is not one that travels")
    if not isinstance(shape, (list, tuple)) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"array: shape {shape!r:.40} is not a list of sizes")
    sizes = [checked_int(size, "array: size", (1 << 53)) for size in shape]
    return _view(name, sizes, data)


def _view(name: str, sizes: list[int], data: Any) -> Any:
    try:
        import numpy as np
    except ImportError:
        raise ValueError("array: numpy is not installed in this Python") from None
    try:
        dtype = np.dtype(name)
    except TypeError:
        raise ValueError(f"array: numpy knows no dtype {name!r}") from None
    size_bytes = dtype.itemsize
    for size in sizes:
        size_bytes *= size
    if size_bytes != len(data):
        raise ValueError(
            f"array: {dtype} of shape {sizes} takes {size_bytes} bytes, not {len(data)}"
        )
    return np.ndarray(sizes, dtype, data)
