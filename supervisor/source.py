"""Where a plugin's bytes live, and which files count as its content.

A `SourceSet` is the question (one per plugin, made without touching the disk), a `Listing` is
the answer of one moment: modules and files come and go, so whoever looks again resolves again.
Links are followed as Python follows them: what is imported or included lies beside the file that
a link points to, while the name is the link's, which stays when the link is flipped.
Nothing here reads content, except the imports of `.py` files.
"""

from __future__ import annotations

import difflib
import glob
import os
import stat
from dataclasses import dataclass, field
from typing import Self

from .digest import Torn
from .imports import OwnImports
from .listing import Listing, SourceError, SourceMissing, is_ignored, link_folders, walk_files
from .spec import PluginSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSet:
    """What a plugin is made from: a file with what it imports, a folder, or bytes from code."""

    path: str  # absolute, as given; "" = nothing on disk counts
    name: str  # of the file or folder, as given and as staged; "" = nothing is staged
    shown: str  # what people see
    include: tuple[str, ...] = ()
    content: bytes = field(default=b"", repr=False)  # a callable, pickled by the client
    refusal: str = ""  # why no file could ever satisfy the spec
    _imports: OwnImports = field(default_factory=OwnImports, repr=False, compare=False)

    @classmethod
    def of(cls, spec: PluginSpec) -> Self:
        """The source of `spec`: `source`, or the program of `command` if that is a path."""
        if spec.pickled:
            name = f"{spec.name}.pickle"
            return cls(path="", name=name, shown=f"{spec.name} (from code)", content=spec.pickled)
        if spec.source and spec.command and not _mentions_source(spec.command):
            refusal = (
                f"{spec.name}: command does not mention {{source}}, so {spec.source} would be "
                "staged and never run\n  put {source} where the program expects its file"
            )
            return cls(path=spec.source, name="", shown=spec.source, refusal=refusal)
        program = spec.command[0] if _is_path(spec.command) else ""
        given = spec.source or program
        if not given:
            return cls(path="", name="", shown=" ".join(spec.command), include=spec.include)
        path = os.path.abspath(given)
        return cls(path=path, name=os.path.basename(path), shown=path, include=spec.include)

    def resolve(self) -> Listing:
        """Look which files count now.

        Raises SourceMissing, SourceError (both say what to do), Torn if a file went meanwhile,
        OSError if the machine refuses.
        """
        if self.refusal:
            raise SourceError(self.refusal)
        if not self.path:
            return Listing(files=(), tree=not self.content, folders=())
        try:
            return self._resolve()
        except FileNotFoundError as gone:
            raise Torn(str(gone.filename)) from gone

    def _resolve(self) -> Listing:
        real = os.path.realpath(self.path)
        mode = self._mode(real)
        if stat.S_ISDIR(mode):
            return self._folder(real)
        if stat.S_ISREG(mode):
            return self._file(real)
        raise SourceError(
            f"{self.path} is neither a file nor a folder\n  name one of these in source"
        )

    def _mode(self, real: str) -> int:
        try:
            return os.stat(real).st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise SourceMissing(_missing(self.path)) from None

    def _folder(self, real: str) -> Listing:
        files = walk_files(real)
        if not files:
            raise SourceMissing(
                f"{self.path} has no files\n  put the plugin there, it is seen at once"
            )
        self._included(real)
        return self._listing(files, tree=True, top=self.name, bases={real})

    def _file(self, real: str) -> Listing:
        base = os.path.dirname(real)
        beside: set[str] = set()
        if self.path.endswith(".py"):
            beside |= self._imports.closure(base, real)
        beside |= self._included(base)
        files = {relative: os.path.join(base, relative) for relative in beside}
        files = {name: path for name, path in files.items() if path != real} | {self.name: real}
        tree = len(files) > 1 or bool(self.include)
        return self._listing(files, tree=tree, top="", bases={base})

    def _included(self, base: str) -> set[str]:
        found: set[str] = set()
        for pattern in self.include:
            matched = self._matches(base, pattern)
            if not matched:
                raise SourceMissing(
                    f"include {pattern!r} matches no file in {base}\n"
                    "  add the files, or take the pattern out of include"
                )
            found |= matched
        return found

    def _matches(self, base: str, pattern: str) -> set[str]:
        if os.path.isabs(pattern) or ".." in pattern.split("/"):
            raise SourceError(
                f"include {pattern!r} leaves {base}\n"
                "  only files beside the source can be staged with it: move or link them there"
            )
        found: set[str] = set()
        for name in glob.iglob(pattern, root_dir=base, recursive=True):
            relative, path = os.path.normpath(name), os.path.join(base, name)
            if os.path.isdir(path):
                found |= {os.path.normpath(f"{relative}/{file}") for file in walk_files(path)}
            elif os.path.isfile(path) and not is_ignored(relative):
                found.add(relative)
        return found

    def _listing(self, files: dict[str, str], *, tree: bool, top: str, bases: set[str]) -> Listing:
        folders = (
            bases | {os.path.dirname(path) for path in files.values()} | link_folders(self.path)
        )
        ordered = sorted(files.items(), key=lambda item: os.fsencode(item[0]))
        return Listing(files=tuple(ordered), tree=tree, top=top, folders=tuple(sorted(folders)))


def staged_command(command: tuple[str, ...], entry: str) -> tuple[str, ...]:
    """`command` with the staged path in place of `{source}`, or of its first word if a path."""
    if _mentions_source(command):
        return tuple(word.replace("{source}", entry) for word in command)
    return (entry, *command[1:]) if _is_path(command) else command


def _mentions_source(command: tuple[str, ...]) -> bool:
    return any("{source}" in word for word in command)


def _is_path(command: tuple[str, ...]) -> bool:
    return bool(command) and "/" in command[0]


def _missing(path: str) -> str:
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        return f"{path} does not exist: there is no folder {folder}\n  create it, or correct source"
    close = difflib.get_close_matches(name, os.listdir(folder), n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{path} does not exist\n  {hint}put it there, or correct source"
