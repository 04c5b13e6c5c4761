"""Where the release's bytes lie, and what people know them as.

The staged copy is what runs; messages and tracebacks show the path that the author edits. Knows
paths only, imports nothing of the plugin.
"""

from __future__ import annotations

import os

ARCHIVES = (".zip", ".whl")
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class Release:
    """`entry` is the staged file, folder or archive, `shown` the original of it.

    `root` is the folder whose modules and files belong to the release, `shown_root` the original
    one. All four are "" for a callable given from code.
    """

    def __init__(self, source: str, shown: str = "") -> None:
        self.entry = os.path.abspath(source) if source else ""
        self.shown = os.path.abspath(shown) if shown else self.entry
        if not source or os.path.isdir(self.entry):
            self.root, self.shown_root = self.entry, self.shown
        else:
            # What lies beside a link to the source lies where the link points to.
            original = os.path.realpath(self.shown) if os.path.islink(self.shown) else self.shown
            self.root, self.shown_root = os.path.dirname(self.entry), os.path.dirname(original)

    @property
    def is_archive(self) -> bool:
        return self.entry.endswith(ARCHIVES)

    def show(self, path: str) -> str:
        """The path people know for a path of the release; any other as it is."""
        path = _moved(path, self.entry, self.shown)
        return _moved(path, self.root, self.shown_root)

    def hide(self, path: str) -> str:
        """The staged path for one that people know; any other as it is."""
        path = _moved(path, self.shown, self.entry)
        return _moved(path, self.shown_root, self.root)

    def short(self, path: str) -> str:
        """As `show`, but inside the release relative to its root, else the file's name."""
        shown = self.show(path)
        if self.owns(shown):
            base = os.path.dirname(self.shown) if self.is_archive else self.shown_root
            return os.path.relpath(shown, base)
        return os.path.basename(path) or path

    def place(self, path: str, line: int) -> str:
        """`denoise.py:21`."""
        return f"{self.short(path)}:{line}"

    def owns(self, path: str) -> bool:
        """Is this file, by either path, the author's? (A venv may lie in the same folder.)"""
        if not self.entry or any(place in path for place in _INSTALLED):
            return False
        return path.startswith((self.root + os.sep, self.shown_root + os.sep))

    def staged(self, relative: str) -> str:
        """The staged path of a file that came with the source.

        Raises ValueError for a path that leads outside, FileNotFoundError for a file that was
        not staged, saying so if it lies beside the original.
        """
        if not self.entry:
            raise ValueError(f"{relative!r}: a callable given from code has no files")
        path = os.path.normpath(os.path.join(self.root, relative))
        if os.path.isabs(relative) or not (path + os.sep).startswith(self.root + os.sep):
            raise ValueError(f"{relative!r} must be relative and inside the release")
        if not os.path.exists(path):
            raise FileNotFoundError(2, "No such file in the release", path)
        return path

    def left_out(self, path: str) -> str:
        """The part of `path` to add to `include`: it lies beside the original, but not here.

        "" when that is not what is wrong.
        """
        if not self.entry:
            return ""
        if path.startswith(self.root + os.sep):
            relative = os.path.relpath(path, self.root)
        elif os.path.isabs(path):
            return ""
        else:
            relative = os.path.normpath(path)
        beside = os.path.join(self.shown_root, relative)
        is_here = os.path.exists(os.path.join(self.root, relative))
        return relative if os.path.exists(beside) and not is_here else ""


def _moved(path: str, old: str, new: str) -> str:
    if old and (path == old or path.startswith(old + os.sep)):
        return new + path[len(old) :]
    return path
