"""The store: one folder per content, named by its SHA-256, and read-only once it is there.

    <root>/<sha256>/<name>           a file, or a folder with all that is below it
    <root>/<sha256>/<other files>    what a file imports or includes, where it lies beside it
    <root>/.tmp-*                    being made or being deleted; removed when the store is opened

What was hashed is what runs: the digest is taken from the copy, and the source must read the same
before and after. A folder appears by one rename, whole and on disk, or not at all. Whoever calls
(always the one helper thread) decides what is kept; nothing here knows plugins or workers.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from .digest import (
    Breathe,
    Files,
    Fingerprint,
    Reading,
    Torn,
    go_on,
    keys_of,
    read_bytes,
    read_files,
)
from .listing import Listing, SourceError, walk_files
from .source import SourceSet
from .staged import Staged, StageError, is_bad_luck, stage_error
from .trees import fill_tree, move_into, remove_tree, seal_tree, sync_folder, write_file

T = TypeVar("T")

_TEMP = ".tmp-"
_ATTEMPTS = 5


class Store:
    """The releases on disk. `notes`: what this place does not allow, in words for the operator."""

    def __init__(self, root: Path) -> None:
        """Make or open the store; StageError when it can be neither made nor read."""
        self.root = root
        self.notes: list[str] = []
        self._proven: dict[Path, Reading] = {}
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            leftovers = [name for name in os.listdir(root) if name.startswith(_TEMP)]
            self.is_noexec = bool(os.statvfs(root).f_flag & os.ST_NOEXEC)
            self.is_writable = os.access(root, os.W_OK | os.X_OK)
        except OSError as error:
            raise stage_error(error, f"the store {root} cannot be opened") from error
        self._note_limits()
        self._clear(leftovers)

    def path(self, digest: str) -> Path:
        """The folder of a release, whether or not it is there."""
        return self.root / digest

    def stage(self, source: SourceSet, *, breathe: Breathe = go_on) -> Staged:
        """Make the content that `source` has now a release, or find the one that it already is.

        `breathe` is called between chunks: it may do other work, or raise to give up. Raises
        StageError; then nothing of the attempt is left.
        """
        return self._whole(source, lambda: self._stage(source, breathe))

    def peek(self, source: SourceSet, *, breathe: Breathe = go_on) -> Fingerprint:
        """What `stage` would name the content that `source` has now; the same errors."""
        return self._whole(source, lambda: _read(source, source.resolve(), breathe).fingerprint)

    def find(self, digest: str, source: SourceSet) -> Staged:
        """The release of that digest, if its bytes still are what the digest says."""
        try:
            staged = self._intact(digest, source.name, go_on)
        except OSError as error:
            raise stage_error(
                error, f"{source.shown}: release {digest[:8]} cannot be read"
            ) from error
        if staged is None:
            raise StageError(
                f"{source.shown}: release {digest[:8]} is not in the store {self.root}, "
                "or was changed there\n  make it again from its source: changeover reload",
                bad_luck=False,
            )
        return staged

    def retain(
        self, keep: Collection[str], newest: Sequence[str], keep_releases: int
    ) -> tuple[str, ...]:
        """Delete all but what is in use (`keep`) and the `keep_releases` first of `newest`.

        Returns the digests that went. Raises StageError when the store refuses a deletion.
        """
        kept = {*keep, *newest[:keep_releases]}
        try:
            gone = [name for name in os.listdir(self.root) if _is_digest(name) and name not in kept]
            for name in gone:
                self._delete(self.root / name)
        except OSError as error:
            raise stage_error(error, f"the store {self.root} cannot be cleaned") from error
        return tuple(gone)

    def _whole(self, source: SourceSet, attempt: Callable[[], T]) -> T:
        """Try again while the source is torn; what goes wrong in words for the operator."""
        try:
            for _ in range(_ATTEMPTS):
                try:
                    return attempt()
                except Torn:
                    continue
        except SourceError as error:
            raise StageError(str(error), bad_luck=False) from error
        except OSError as error:
            raise stage_error(error, f"{source.shown} cannot be staged") from error
        raise StageError(
            f"{source.shown} changed {_ATTEMPTS} times while it was read\n"
            "  nothing was changed; when the writing has ended, reload again",
            bad_luck=True,
        )

    def _stage(self, source: SourceSet, breathe: Breathe) -> Staged:
        listing = source.resolve()
        reading = _read(source, listing, breathe)
        digest = reading.fingerprint.digest
        if self._intact(digest, source.name, breathe) is None:
            self._copy_in(source, listing, reading, breathe)
        staged = self._intact(digest, source.name, breathe)
        if staged is None:
            raise Torn(str(self.root / digest))
        # The live files' state, so that a watcher need not read again what was just read.
        return replace(staged, keys=() if reading.is_fresh else reading.keys)

    def _copy_in(
        self, source: SourceSet, listing: Listing, reading: Reading, breathe: Breathe
    ) -> None:
        temp = Path(tempfile.mkdtemp(prefix=_TEMP, dir=self.root))
        try:
            copied = _fill(temp, source, listing, breathe)
            if copied.fingerprint != reading.fingerprint or source.resolve() != listing:
                raise Torn(source.path)
            seal_tree(temp)
            digest = reading.fingerprint.digest
            self._publish(temp, digest, source.name, listing)
            self._proven[self.root / digest / source.name] = copied
        finally:
            remove_tree(temp)

    def _publish(self, temp: Path, digest: str, name: str, listing: Listing) -> None:
        final = self.root / digest
        has_one_name = bool(listing.top) or not listing.tree
        if final.exists() and not (has_one_name and self._is_twin(digest, name)):
            self._delete(final)
        if final.exists():
            move_into(temp / name, final)
        else:
            os.rename(temp, final)
        sync_folder(self.root)

    def _is_twin(self, digest: str, name: str) -> bool:
        """The same bytes were staged before, from a file or folder of another name."""
        others = os.listdir(self.root / digest)
        return name not in others and all(self._intact(digest, other, go_on) for other in others)

    def _intact(self, digest: str, name: str, breathe: Breathe) -> Staged | None:
        """The release, if it is there and still what its name says: unreadable is not."""
        entry = self.root / digest / name
        try:
            files = _files_of(self.root / digest, entry)
            reading = self._proven.get(entry)
            if reading is None or reading.keys != keys_of(files):
                reading = _prove(digest, name, files, breathe)
        except (Torn, SourceError):
            return None
        except OSError as error:
            if is_bad_luck(error):
                raise
            return None
        if reading is None:
            return None
        self._proven[entry] = reading
        return Staged(
            digest=digest,
            hash=reading.fingerprint.hash,
            path=entry,
            root=self.root / digest,
            files=len(reading.keys),
            size_bytes=reading.size_bytes,
        )

    def _delete(self, folder: Path) -> None:
        """Away by one rename first: what is half deleted must not look like a release."""
        away = Path(tempfile.mkdtemp(prefix=_TEMP, dir=self.root))
        os.rename(folder, away)
        self._proven = {
            entry: reading for entry, reading in self._proven.items() if folder not in entry.parents
        }
        remove_tree(away)

    def _note_limits(self) -> None:
        if self.is_noexec:
            self.notes.append(
                f"the store {self.root} is on a file system mounted noexec: Python plugins run, "
                "programs and libraries will not\n  set state_dir to a folder on another one"
            )
        if not self.is_writable:
            self.notes.append(
                f"the store {self.root} is read-only: the releases in it run, "
                "nothing new can be staged\n  set state_dir to a folder that can be written"
            )

    def _clear(self, leftovers: Iterable[str]) -> None:
        for name in leftovers:
            remove_tree(self.root / name)


def _read(source: SourceSet, listing: Listing, breathe: Breathe) -> Reading:
    if source.content:
        return read_bytes(source.content)
    return read_files(listing.files, tree=listing.tree, breathe=breathe)


def _fill(temp: Path, source: SourceSet, listing: Listing, breathe: Breathe) -> Reading:
    if source.content:
        write_file(temp / source.name, source.content)
        return read_files([(source.name, str(temp / source.name))], tree=False)
    folder = temp / listing.top
    fill_tree(folder, listing.files, breathe)
    files = [(relative, str(folder / relative)) for relative, _ in listing.files]
    return read_files(files, tree=listing.tree, breathe=breathe)


def _files_of(root: Path, entry: Path) -> Files:
    """What the digest of a release is taken over: its folder, or all that lies beside its file."""
    if entry.is_dir():
        return tuple(walk_files(str(entry)).items())
    beside = walk_files(str(root)) | {entry.name: str(entry)}
    return tuple(beside.items())


def _prove(digest: str, name: str, files: Files, breathe: Breathe) -> Reading | None:
    """Read a release again: a tree, or a file (and perhaps the same bytes under other names)."""
    for tree in (False, True) if len(files) == 1 else (True,):
        reading = read_files(files, tree=tree, breathe=breathe)
        if reading.fingerprint.digest == digest:
            return reading
    alone = {file[0]: read_files([file], tree=False, breathe=breathe) for file in files}
    if any(each.fingerprint.digest != digest for each in alone.values()):
        return None
    return replace(alone[name], keys=reading.keys)


def _is_digest(name: str) -> bool:
    return len(name) == 64 and not set(name) - set("0123456789abcdef")
