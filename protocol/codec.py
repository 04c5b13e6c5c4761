"""The MessagePack that the wire is read and written with: compiled, or in Python alone.

In another interpreter (`python =`) the runtime brings msgpack's Python half along, as `_msgpack`
in this package: what a plugin imports as `msgpack` is the business of its own venv.
"""

from __future__ import annotations

from typing import Any

try:
    from . import _msgpack as msgpack  # type: ignore[attr-defined]
except ImportError:
    import msgpack

__all__ = ["msgpack", "array_header", "map_header", "new_unpacker"]

_IS_COMPILED = msgpack.Packer.__module__.endswith("_cmsgpack")
# The limit of a message is judged with a clear 2001: msgpack's own must lie above what one read
# adds to an unfinished message, which may be several whole ones.
_MOST_BYTES = 2**31 - 1
_packer = msgpack.Packer(autoreset=True)


def array_header(count: int) -> bytes:
    """The head of an array of so many values. Any thread."""
    return _header_packer().pack_array_header(count)  # type: ignore[no-any-return]


def map_header(count: int) -> bytes:
    """The head of a map of so many pairs. Any thread."""
    return _header_packer().pack_map_header(count)  # type: ignore[no-any-return]


def new_unpacker(inside: int = 0) -> Any:
    """Walks over what it is fed, as if it had come inside so many containers already.

    Has msgpack's `feed skip tell unpack read_array_header read_map_header`.
    """
    if not _IS_COMPILED:
        from .walker import Walker

        return Walker(inside)
    made = msgpack.Unpacker(max_buffer_size=_MOST_BYTES, strict_map_key=False)
    if inside:
        made.feed(b"\x91" * inside)
    return made


def _header_packer() -> Any:
    """In Python a packer has a buffer that two threads would write to at once."""
    return _packer if _IS_COMPILED else msgpack.Packer(autoreset=True)
