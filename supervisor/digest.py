"""What bytes are: SHA-256 for identity, FNV-1a 64 as the change trigger, both in one read.

One file that stands alone has the digest that `sha256sum` prints and the FNV-1a hash of its
bytes. A tree of files is one stream, and both hashes are taken over that stream:

    b"changeover tree 1\\n", then for each file, ordered by the bytes of its relative path:
    u32 length of the path | path | u32 mode | u64 length of the content | content

Integers are big-endian, a path has "/" between its parts and the bytes it has on disk, and the
mode is 0o755 when the owner may execute the file, else 0o644: what a umask does to a checkout is
not a change. Every variable part has its length in front, so no two trees share a stream.

A reading is of one moment or it is `Torn`. Nothing here knows what a plugin or a store is.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fnv_c.ext._fnv import ffi, lib

CHUNK_BYTES = 1 << 20
TREE_MAGIC = b"changeover tree 1\n"
# File times move in steps of a kernel tick, 10 ms at most: a second write within the same step
# leaves no trace in them.
TICK_NS = 20_000_000

_OFFSET = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_WORD = 1 << 64

Files = Sequence[tuple[str, str]]  # (relative path, path to open)
Keys = tuple[tuple[str, int, int, int, int, int], ...]
Breathe = Callable[[], None]


class Torn(Exception):
    """The file changed, or went, while it was read: what was read is of no single moment."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} changed while it was read")
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The two names of one content."""

    digest: str  # SHA-256, 64 hex digits: identity
    hash: int  # FNV-1a, 64 bits: the change trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One read of a set of files, and the state of the files it is true for."""

    fingerprint: Fingerprint
    keys: Keys
    size_bytes: int
    taken_ns: int  # wall clock, when the read began

    @property
    def is_fresh(self) -> bool:
        """Was a file changed so shortly before that its times would not tell the next change?"""
        return any(abs(self.taken_ns - key[-1]) < TICK_NS for key in self.keys)


def go_on() -> None:
    """The `breathe` of a caller with nothing else to do."""


def compute_hash(data: bytes) -> int:
    """FNV-1a, 64 bits, of `data`."""
    return int(lib.fnv1a_64(ffi.from_buffer(data), len(data)))


def compute_hash_file(path: str | os.PathLike[str]) -> int:
    """FNV-1a, 64 bits, of what the file at `path` holds; OSError if it cannot be read."""
    chunk, state = bytearray(CHUNK_BYTES), _OFFSET
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(chunk):
            state = _hash_on(state, memoryview(chunk)[:count])
    return state


def fingerprint(files: Files, *, tree: bool) -> Fingerprint:
    """Both hashes of `files`, in one read; `tree` as in `read_files`."""
    return read_files(files, tree=tree).fingerprint


def read_files(files: Files, *, tree: bool, breathe: Breathe = go_on) -> Reading:
    """Read every file once: as the stream of a tree, or bare (`tree` False: exactly one file).

    `breathe` is called between chunks of 1 MiB; it may do other work, or raise to give up.
    Raises Torn if a file changed meanwhile, OSError if one cannot be read.
    """
    taken_ns = time.time_ns()
    ordered = sorted(files, key=lambda file: os.fsencode(file[0]))
    stream = _Stream(breathe)
    if tree:
        stream.add(TREE_MAGIC)
    elif len(ordered) != 1:
        raise ValueError(f"one file stands alone, {len(ordered)} are a tree")
    keys = tuple(_read_one(stream, relative, path, tree) for relative, path in ordered)
    if keys_of(ordered) != keys:
        raise Torn(ordered[0][1])
    size = sum(key[3] for key in keys)
    return Reading(fingerprint=stream.fingerprint(), keys=keys, size_bytes=size, taken_ns=taken_ns)


def read_bytes(data: bytes) -> Reading:
    """The reading of a content that is in no file."""
    stream = _Stream(go_on)
    stream.add(data)
    size, now_ns = len(data), time.time_ns()
    return Reading(fingerprint=stream.fingerprint(), keys=(), size_bytes=size, taken_ns=now_ns)


def keys_of(files: Files) -> Keys:
    """What `stat` says of each file: equal keys mean that nothing has to be read again."""
    ordered = sorted(files, key=lambda file: os.fsencode(file[0]))
    try:
        return tuple((relative, *_key(os.stat(path))) for relative, path in ordered)
    except FileNotFoundError as gone:
        raise Torn(str(gone.filename)) from gone


def open_regular(path: str) -> int:
    """Open for reading without ever blocking: a FIFO has no content and is refused."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError as gone:
        raise Torn(path) from gone
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def _read_one(
    stream: _Stream, relative: str, path: str, tree: bool
) -> tuple[str, int, int, int, int, int]:
    fd = open_regular(path)
    try:
        before = os.fstat(fd)
        if tree:
            stream.add(_header(relative, before))
        if stream.pour(fd, before.st_size) != before.st_size:
            raise Torn(path)
    finally:
        os.close(fd)
    return (relative, *_key(before))


def _key(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _header(relative: str, status: os.stat_result) -> bytes:
    path = os.fsencode(relative)
    mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    return struct.pack(">I", len(path)) + path + struct.pack(">IQ", mode, status.st_size)


class _Stream:
    """SHA-256 and FNV-1a over the same bytes."""

    __slots__ = ("_breathe", "_chunk", "_fnv", "_sha")

    def __init__(self, breathe: Breathe) -> None:
        self._sha = hashlib.sha256()
        self._fnv = _OFFSET
        self._chunk = bytearray(CHUNK_BYTES)
        self._breathe = breathe

    def add(self, data: bytes) -> None:
        self._take(memoryview(bytearray(data)))

    def pour(self, fd: int, size: int) -> int:
        """Add what `fd` still holds, at most `size` bytes: a file that grows would never end."""
        left = size
        while left and (count := os.readv(fd, [memoryview(self._chunk)[:left]])):
            self._take(memoryview(self._chunk)[:count])
            left -= count
            self._breathe()
        return size - left

    def fingerprint(self) -> Fingerprint:
        return Fingerprint(digest=self._sha.hexdigest(), hash=self._fnv)

    def _take(self, view: memoryview) -> None:
        self._sha.update(view)
        self._fnv = _hash_on(self._fnv, view)


def _hash_on(state: int, view: memoryview) -> int:
    """FNV-1a of `view` (writable), starting from `state`.

    fnv-c only starts from the offset basis. A byte meets the low 8 bits alone, so two runs whose
    low 8 bits agree after the first XOR agree on them for ever, and what lies above differs by a
    multiple of 256 that each step multiplies by the prime. Hence: bend the first byte so that the
    low bits agree, run from the basis, and add (difference above) * prime ** length.
    """
    if not view:
        return state
    bend = (state ^ _OFFSET) & 0xFF
    view[0] ^= bend
    from_basis = int(lib.fnv1a_64(ffi.from_buffer(view), len(view)))
    view[0] ^= bend
    above = (state >> 8) - (_OFFSET >> 8) << 8
    return (from_basis + above * pow(_PRIME, len(view), _WORD)) % _WORD
