"""Both hashes of files: exact for every byte, of one moment, and the same for the same content."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from changeover.supervisor.digest import (
    CHUNK_BYTES,
    TREE_MAGIC,
    Torn,
    compute_hash,
    compute_hash_file,
    fingerprint,
    keys_of,
    read_bytes,
    read_files,
)

OFFSET, PRIME, WORD = 0xCBF29CE484222325, 0x100000001B3, 1 << 64

# Two plugins of the same size and the same FNV-1a hash, found by lattice reduction.
TWIN_A = b'ANSWER = "102WY1n8OsXAOCG8"\n'
TWIN_B = b'ANSWER = "400AD19AA10E0BA6"\n'


def slow_fnv(data: bytes) -> int:
    state = OFFSET
    for byte in data:
        state = (state ^ byte) * PRIME % WORD
    return state


def write(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def tree_of(folder: Path) -> list[tuple[str, str]]:
    return [(str(p.relative_to(folder)), str(p)) for p in folder.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0xCBF29CE484222325),
        (b"a", 0xAF63DC4C8601EC8C),
        (b"foobar", 0x85944171F73967E8),
        (b"chongo was here!\n", 0x46810940EFF5F915),
        (bytes.fromhex("d56bb95342870836"), 0),
    ],
)
def test_published_vectors(data: bytes, expected: int) -> None:
    assert compute_hash(data) == expected


def test_every_byte_counts_including_nul() -> None:
    for byte in range(256):
        data = b"x" + bytes([byte]) + b"\0y\0"
        assert compute_hash(data) == slow_fnv(data)


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7]
)
def test_a_file_in_chunks_hashes_like_its_bytes_at_once(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    assert compute_hash_file(write(tmp_path / "f", data)) == compute_hash(data)


def test_chunks_are_joined_as_the_definition_says(tmp_path: Path) -> None:
    data = os.urandom(CHUNK_BYTES) + b"\0tail"
    assert compute_hash_file(write(tmp_path / "f", data)) == slow_fnv(data)


def test_a_file_alone_has_the_digest_of_sha256sum(tmp_path: Path) -> None:
    data = os.urandom(2 * CHUNK_BYTES + 1)
    found = fingerprint([("f", write(tmp_path / "f", data))], tree=False)
    assert (found.digest, found.hash) == (hashlib.sha256(data).hexdigest(), compute_hash(data))


def test_bytes_given_from_code_are_named_like_a_file(tmp_path: Path) -> None:
    data = b"\0" * 3 + os.urandom(100)
    on_disk = fingerprint([("f", write(tmp_path / "f", data))], tree=False)
    assert read_bytes(data).fingerprint == on_disk


def test_a_tree_is_the_stream_that_the_docstring_says(tmp_path: Path) -> None:
    write(tmp_path / "b.py", b"bee")
    os.chmod(write(tmp_path / "a" / "x", b"\0"), 0o750)
    stream = (
        TREE_MAGIC
        + (3).to_bytes(4, "big")
        + b"a/x"
        + (0o755).to_bytes(4, "big")
        + (1).to_bytes(8, "big")
        + b"\0"
        + (4).to_bytes(4, "big")
        + b"b.py"
        + (0o644).to_bytes(4, "big")
        + (3).to_bytes(8, "big")
        + b"bee"
    )
    found = fingerprint(tree_of(tmp_path), tree=True)
    assert (found.digest, found.hash) == (hashlib.sha256(stream).hexdigest(), slow_fnv(stream))


def test_the_order_in_which_files_are_named_does_not_matter(tmp_path: Path) -> None:
    for name in ("a", "b", "c/d", "c.e"):
        write(tmp_path / name, name.encode())
    files = tree_of(tmp_path)
    assert fingerprint(files, tree=True) == fingerprint(files[::-1], tree=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: (d / "a").write_bytes(b"2"),
        lambda d: (d / "a").rename(d / "c"),
        lambda d: (d / "a").chmod(0o755),
        lambda d: write(d / "new", b""),
        lambda d: ((d / "a").write_bytes(b""), (d / "b").write_bytes(b"12")),
    ],
    ids=["content", "name", "mode", "one more, empty", "a byte moved to the next file"],
)
def test_whatever_changes_in_a_tree_changes_both_hashes(tmp_path: Path, change: object) -> None:
    write(tmp_path / "a", b"1")
    write(tmp_path / "b", b"2")
    before = fingerprint(tree_of(tmp_path), tree=True)
    assert callable(change)
    change(tmp_path)
    after = fingerprint(tree_of(tmp_path), tree=True)
    assert (before.digest != after.digest, before.hash != after.hash) == (True, True)


def test_what_a_umask_does_is_no_change(tmp_path: Path) -> None:
    write(tmp_path / "a", b"1")
    write(tmp_path / "b", b"1")
    before = fingerprint(tree_of(tmp_path), tree=True)
    (tmp_path / "a").chmod(0o600)
    assert fingerprint(tree_of(tmp_path), tree=True) == before


def test_a_crafted_collision_of_the_trigger_is_told_apart_by_the_digest(tmp_path: Path) -> None:
    one = fingerprint([("p.py", write(tmp_path / "p.py", TWIN_A))], tree=False)
    two = fingerprint([("p.py", write(tmp_path / "p.py", TWIN_B))], tree=False)
    assert one.hash == two.hash
    assert one != two


def test_a_file_that_shrinks_while_it_is_read_is_torn(tmp_path: Path) -> None:
    path = write(tmp_path / "f", bytes(3 * CHUNK_BYTES))
    with pytest.raises(Torn):
        read_files([("f", path)], tree=False, breathe=lambda: os.truncate(path, 10))


def test_a_file_that_grows_while_it_is_read_is_torn(tmp_path: Path) -> None:
    path = write(tmp_path / "f", bytes(10))

    def grow() -> None:
        with open(path, "ab") as file:
            file.write(b"more")

    with pytest.raises(Torn):
        read_files([("f", path)], tree=False, breathe=grow)


def test_a_file_that_is_replaced_while_it_is_read_is_torn(tmp_path: Path) -> None:
    path = write(tmp_path / "f", b"old")
    other = write(tmp_path / "g", b"new")
    with pytest.raises(Torn):
        read_files([("f", path)], tree=False, breathe=lambda: os.rename(other, path))


def test_an_earlier_file_that_changes_while_a_later_one_is_read_is_torn(tmp_path: Path) -> None:
    files = [(name, write(tmp_path / name, name.encode())) for name in ("a", "b")]
    chunks = 0

    def change_the_first_during_the_second() -> None:
        nonlocal chunks
        chunks += 1
        if chunks == 2:
            write(tmp_path / "a", b"other")

    with pytest.raises(Torn):
        read_files(files, tree=True, breathe=change_the_first_during_the_second)


def test_a_link_that_is_flipped_while_it_is_read_is_torn(tmp_path: Path) -> None:
    write(tmp_path / "v1", b"one")
    write(tmp_path / "v2", b"two")
    link, new = tmp_path / "current", tmp_path / "new"
    link.symlink_to("v1")
    new.symlink_to("v2")
    with pytest.raises(Torn):
        read_files([("f", str(link))], tree=False, breathe=lambda: os.rename(new, link))


def test_a_file_that_is_not_there_is_torn(tmp_path: Path) -> None:
    with pytest.raises(Torn):
        read_files([("f", str(tmp_path / "f"))], tree=False)


def test_a_fifo_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    with pytest.raises(OSError, match="not a regular file"):
        read_files([("f", str(tmp_path / "f"))], tree=False)


def test_touch_changes_the_keys_and_not_the_fingerprint(tmp_path: Path) -> None:
    files = [("f", write(tmp_path / "f", b"same"))]
    before = read_files(files, tree=False)
    os.utime(tmp_path / "f", ns=(1, 1))
    after = read_files(files, tree=False)
    assert (after.keys != before.keys, after.fingerprint) == (True, before.fingerprint)


@pytest.mark.parametrize("way", ["in place", "renamed over", "hard link", "older"])
def test_same_size_and_mtime_with_other_bytes_show_in_the_keys(tmp_path: Path, way: str) -> None:
    path = tmp_path / "f"
    files = [("f", write(path, b"one"))]
    os.utime(path, ns=(10**18, 10**18))
    before = keys_of(files)
    if way == "in place":
        path.write_bytes(b"two")
    else:
        other = Path(write(tmp_path / "g", b"two"))
        if way == "hard link":
            other.rename(tmp_path / "kept")
            os.link(tmp_path / "kept", other)
        other.replace(path)
    at = 10**17 if way == "older" else 10**18
    os.utime(path, ns=(at, at))
    assert keys_of(files) != before


@pytest.mark.parametrize(("ago_ns", "is_fresh"), [(1_000_000, True), (1_000_000_000, False)])
def test_the_keys_of_a_file_just_written_are_not_to_be_trusted(ago_ns: int, is_fresh: bool) -> None:
    keys = (("f", 1, 2, 3, 4, 10**18 - ago_ns),)
    reading = replace(read_bytes(b""), keys=keys, taken_ns=10**18)
    assert reading.is_fresh == is_fresh
