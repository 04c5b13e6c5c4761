"""How a plugin is named in code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from changeover.client.pickled import pickled
from changeover.client.spec import plugin_options

FACTOR = 3


def triple(x: int) -> int:
    return FACTOR * x


class Counter:
    """By value, with what it calls."""

    def __init__(self) -> None:
        self.count = triple(1)

    def run(self, x: int) -> int:
        self.count += x
        return self.count


def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


def elsewhere(raw: bytes, expression: str) -> str:
    """Evaluate with the unpickled object, in a process that cannot import this file."""
    program = f"import sys, dill; o = dill.loads(sys.stdin.buffer.read()); print({expression})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        input=msgpack.unpackb(raw)["pickle"],
        capture_output=True,
        check=True,
        cwd="/",
    )
    return str(done.stdout.decode().strip())


def test_paths_are_made_absolute_where_the_caller_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plugin_options("denoise.py") == {"source": str(tmp_path / "denoise.py")}
    assert plugin_options(Path("a/b.py")) == {"source": str(tmp_path / "a/b.py")}
    assert plugin_options({"source": "denoise.py", "workers": 2}) == {
        "source": str(tmp_path / "denoise.py"),
        "workers": 2,
    }


def test_a_home_folder_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert plugin_options("~/denoise.py") == {"source": "/home/ada/denoise.py"}


def test_an_object_of_a_package_is_no_path() -> None:
    assert plugin_options("video_tools.filters:Denoise") == {
        "source": "video_tools.filters:Denoise"
    }


def test_a_program_with_a_path_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plugin_options({"command": ["./invert", "-v"]})["command"] == [
        str(tmp_path / "invert"),
        "-v",
    ]
    assert plugin_options({"command": ["node", "./a.js"]})["command"] == ["node", "./a.js"]
    assert plugin_options({"command": ["{source}"]})["command"] == ["{source}"]


def test_a_python_with_a_path_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ("./blur", "blur/bin/python", ".blur", Path("blur")):
        options = plugin_options({"source": "a.py", "python": given})
        assert options["python"] == str(tmp_path / given)
    assert plugin_options({"source": "a.py", "python": "python3"})["python"] == "python3"


def test_what_is_neither_is_named() -> None:
    with pytest.raises(TypeError, match="a path, a callable or a map"):
        plugin_options(5)  # type: ignore[arg-type]


def test_a_callable_says_which_python_pickled_it() -> None:
    content = msgpack.unpackb(plugin_options(lambda x: 2 * x)["source"])
    assert content.keys() == {"python", "pickle"}
    assert content["python"] == list(sys.version_info[:2])


def make_adder(amount: int) -> Callable[[int], int]:
    return lambda x: x + amount


@pytest.mark.parametrize(
    ("plugin", "expression", "expected"),
    [
        (lambda x: 2 * x, "o(21)", "42"),
        (make_adder(4), "o(1)", "5"),
        (triple, "o(5)", "15"),
        (factorial, "o(5)", "120"),
        (Counter, "o().run(2)", "5"),
        (Counter(), "o.run(1)", "4"),
        (os.path.join, "o('a', 'b')", "a/b"),
    ],
    ids=["lambda", "closure", "function", "recursion", "class", "instance", "installed"],
)
def test_a_callable_works_where_its_file_cannot_be_imported(
    plugin: Any, expression: str, expected: str
) -> None:
    assert elsewhere(pickled(plugin), expression) == expected


def test_a_callable_of_main_travels_by_value() -> None:
    program = (
        "import sys\n"
        "from changeover.client.pickled import pickled\n"
        "FACTOR = 7\n"
        "def scale(x): return FACTOR * x\n"
        "sys.stdout.buffer.write(pickled(scale))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert elsewhere(done.stdout, "o(6)") == "42"


def test_pickling_leaves_the_callable_as_it_was() -> None:
    home = triple.__module__
    pickled(triple)
    assert triple.__module__ == home
    assert Counter.__module__ == home


def test_what_cannot_be_pickled_is_named() -> None:
    generator = (n for n in range(3))

    def reader() -> Any:
        return next(generator)

    with pytest.raises(TypeError, match=r"reader cannot be pickled.*generator"):
        pickled(reader)


def test_a_new_callable_is_pickled_once_for_the_same_code() -> None:
    assert pickled(triple) == pickled(triple)
