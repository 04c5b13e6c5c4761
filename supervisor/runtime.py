"""What a worker runs on in another interpreter, in one file: that Python needs nothing of ours.

It is `protocol` and `worker` as they are installed here, with msgpack's Python half inside
`protocol` (`codec.py`), where it hides no package of the plugin's. Python runs it as a program
and finds the rooms in it; nothing is unpacked. The file is named by what is in it, so another
version of changeover makes another one.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgpack

from .trees import write_file

_ROOMS = ("protocol", "worker")
_MSGPACK = ("__init__.py", "exceptions.py", "ext.py", "fallback.py")
# In the words of every Python there is: an old one must get as far as saying so.
_MAIN = """\
import sys
if sys.version_info < (3, 9):
    found = sys.version.split()[0]
    sys.exit("a worker takes Python 3.9 or newer; %s is Python %s" % (sys.executable, found))
from changeover.worker.start import main
sys.exit(main(sys.argv[1:]))
"""


class Runtime:
    """The file, in a folder that is made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None

    def path(self) -> Path:
        """Where it is; made if it is not there. Reads and writes files, raises OSError."""
        if self._path is None or not self._path.exists():
            self._path = self._make(_archive())
        return self._path

    def _make(self, content: bytes) -> Path:
        final = self._folder / f"{hashlib.sha256(content).hexdigest()}.pyz"
        if not final.exists() or final.read_bytes() != content:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder) as beside:
                whole = Path(beside) / final.name
                write_file(whole, content)
                os.rename(whole, final)
        return final


def _archive() -> bytes:
    """The same bytes for the same sources, stored as they are: they are read at every start."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("changeover/"), b"")  # a namespace has nothing else
        for name, content in (("__main__.py", _MAIN.encode()), *_sources()):
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _sources() -> Iterator[tuple[str, bytes]]:
    here = Path(__file__).parent.parent
    for room in _ROOMS:
        for file in sorted((here / room).glob("*.py")):
            yield f"changeover/{room}/{file.name}", file.read_bytes()
    for name in _MSGPACK:
        file = Path(msgpack.__file__).parent / name
        yield f"changeover/protocol/_msgpack/{name}", file.read_bytes()
