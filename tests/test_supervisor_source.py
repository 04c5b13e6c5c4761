"""Which files are a plugin's content, and what a person is told when they are not there."""

from __future__ import annotations

import ast
import gc
import os
from pathlib import Path

import pytest

from changeover.supervisor.listing import SourceError, SourceMissing
from changeover.supervisor.source import SourceSet, staged_command
from changeover.supervisor.spec import PluginSpec


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def source_of(path: Path, *include: str) -> SourceSet:
    return SourceSet.of(PluginSpec(name="p", source=str(path), include=include))


def names(path: Path, *include: str) -> list[str]:
    return [relative for relative, _ in source_of(path, *include).resolve().files]


def test_a_file_alone_is_no_tree(tmp_path: Path) -> None:
    listing = source_of(write(tmp_path / "p.py", "import os, sys, numpy")).resolve()
    assert (listing.files, listing.tree) == ((("p.py", str(tmp_path / "p.py")),), False)


class Litter:
    """Garbage whose finalizer parses, as one that logs a traceback does; it makes more of it."""

    def __init__(self) -> None:
        self.cycle = self

    def __del__(self) -> None:
        ast.parse("1")
        if gc.get_threshold()[0] == LITTERED:
            Litter()


LITTERED = 20


def test_a_finalizer_that_parses_meanwhile_disturbs_nothing(tmp_path: Path) -> None:
    write(tmp_path / "used.py")
    path = write(tmp_path / "p.py", "import os\n" * 1000 + "import used")
    before = gc.get_threshold()
    gc.set_threshold(LITTERED)
    try:
        Litter()
        assert [names(path) for _ in range(20)] == [["p.py", "used.py"]] * 20
    finally:
        gc.set_threshold(*before)
        gc.collect()  # what is left must not parse in the middle of somebody else's parsing
    assert gc.isenabled()


def test_modules_beside_it_that_it_imports_count_and_others_do_not(tmp_path: Path) -> None:
    for name in ("used.py", "again.py", "unused.py"):
        write(tmp_path / name)
    write(tmp_path / "used.py", "def f():\n    import again, p\n")
    assert names(write(tmp_path / "p.py", "import used")) == ["again.py", "p.py", "used.py"]


@pytest.mark.parametrize(
    "line",
    [
        "import pack.inner.deep",
        "from pack.inner import deep",
        "from pack.inner.deep import anything",
        "from pack.inner import *",
        "import importlib; importlib.import_module('pack.inner.deep')",
        "try:\n    __import__('pack.inner.deep')\nexcept ImportError: pass",
    ],
)
def test_packages_count_with_what_importing_them_runs(tmp_path: Path, line: str) -> None:
    for name in ("pack/__init__.py", "pack/inner/__init__.py", "pack/inner/deep.py", "pack/no.py"):
        write(tmp_path / name)
    assert names(write(tmp_path / "p.py", line)) == [
        "p.py",
        "pack/__init__.py",
        "pack/inner/__init__.py",
        "pack/inner/deep.py",
    ]


def test_relative_imports_start_from_the_package(tmp_path: Path) -> None:
    write(tmp_path / "pack/__init__.py", "from . import one")
    write(tmp_path / "pack/one.py", "from .sub.two import x\nfrom .. import outside")
    write(tmp_path / "pack/sub/two.py", "from ..three import y\nfrom .... import beyond")
    write(tmp_path / "pack/three.py")
    assert names(write(tmp_path / "p.py", "import pack")) == [
        "p.py",
        "pack/__init__.py",
        "pack/one.py",
        "pack/sub/two.py",
        "pack/three.py",
    ]


def test_a_package_wins_over_a_module_and_a_library_counts(tmp_path: Path) -> None:
    for name in ("a.py", "a/__init__.py", "fast.abi3.so"):
        write(tmp_path / name)
    assert names(write(tmp_path / "p.py", "import a, fast")) == [
        "a/__init__.py",
        "fast.abi3.so",
        "p.py",
    ]


@pytest.mark.parametrize(
    "text",
    [b"import used\ndef (:", b"\xff\xfe", b"\0", b"-" * 200_000 + b"1", b"a" + b".a" * 200_000],
    ids=["syntax error", "not utf-8", "nul", "too deep", "too long a chain"],
)
def test_a_file_that_does_not_parse_is_left_to_the_worker(tmp_path: Path, text: bytes) -> None:
    write(tmp_path / "used.py")
    (tmp_path / "p.py").write_bytes(text)
    assert names(tmp_path / "p.py") == ["p.py"]


def test_a_warning_about_the_text_is_not_ours_to_give(tmp_path: Path) -> None:
    write(tmp_path / "used.py")
    assert names(write(tmp_path / "p.py", r"X = '\d'; import used")) == ["p.py", "used.py"]


def test_an_import_can_not_name_a_file_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "secret.py")
    line = f"import importlib; importlib.import_module({str(tmp_path / 'secret')!r})"
    assert names(write(tmp_path / "plugins" / "p.py", line)) == ["p.py"]


def test_a_module_that_appears_later_counts_from_then_on(tmp_path: Path) -> None:
    source = source_of(write(tmp_path / "p.py", "import later"))
    before = len(source.resolve().files)
    write(tmp_path / "later.py")
    assert (before, len(source.resolve().files)) == (1, 2)


def test_imports_are_read_again_when_the_file_has_changed(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        write(tmp_path / name)
    source = source_of(write(tmp_path / "p.py", "import a"))
    source.resolve()
    write(tmp_path / "p.py", "import b")
    assert [name for name, _ in source.resolve().files] == ["b.py", "p.py"]


def test_a_folder_counts_whole_except_what_never_counts(tmp_path: Path) -> None:
    for name in ("a.py", "sub/b.bin", ".git/x", "__pycache__/a.pyc", "a.py~", "sub/.hidden"):
        write(tmp_path / "plug" / name)
    os.mkfifo(tmp_path / "plug" / "pipe")
    listing = source_of(tmp_path / "plug").resolve()
    assert [name for name, _ in listing.files] == ["a.py", "sub/b.bin"]
    assert (listing.tree, listing.top) == (True, "plug")


def test_links_in_a_folder_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path / "models" / "m.bin")
    write(tmp_path / "plug" / "a.py")
    (tmp_path / "plug" / "models").symlink_to(tmp_path / "models")
    (tmp_path / "plug" / "loop").symlink_to(tmp_path / "plug")
    assert names(tmp_path / "plug") == ["a.py", "models/m.bin"]


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    write(tmp_path / "plug" / "a.py")
    (tmp_path / "plug" / "gone").symlink_to("nowhere")
    with pytest.raises(SourceMissing, match=r"plug/gone is a link to nowhere"):
        source_of(tmp_path / "plug").resolve()


def test_include_adds_files_and_folders_beside_the_source(tmp_path: Path) -> None:
    for name in ("models/a.onnx", "models/b.txt", "data/deep/c", "data/.no", "data/d~"):
        write(tmp_path / name)
    listing = source_of(write(tmp_path / "p.py"), "models/*.onnx", "data").resolve()
    assert [name for name, _ in listing.files] == ["data/deep/c", "models/a.onnx", "p.py"]
    assert listing.tree


def test_a_pattern_with_two_stars_goes_deep(tmp_path: Path) -> None:
    write(tmp_path / "m" / "x" / "y" / "z.bin")
    assert names(write(tmp_path / "p.py"), "m/**/*.bin") == ["m/x/y/z.bin", "p.py"]


def test_a_file_with_include_is_a_tree_even_if_it_is_all_that_matches(tmp_path: Path) -> None:
    assert source_of(write(tmp_path / "p.py"), "*.py").resolve().tree


def test_a_pattern_that_matches_nothing_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match=r"'models/\*' matches no file.*\n.*take the pattern"):
        source_of(write(tmp_path / "p.py"), "models/*").resolve()


@pytest.mark.parametrize("pattern", ["../shared/*.py", "/etc/passwd", "a/../../b"])
def test_a_pattern_that_leaves_the_folder_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(SourceError, match="only files beside the source"):
        source_of(write(tmp_path / "p.py"), pattern).resolve()


@pytest.mark.parametrize("name", ["p.whl", "p.zip", "worker", "p.so"])
def test_archives_and_programs_are_one_file(tmp_path: Path, name: str) -> None:
    write(tmp_path / "helper.py")
    assert names(write(tmp_path / name, "import helper")) == [name]


def test_a_link_keeps_its_name_and_brings_what_lies_beside_its_target(tmp_path: Path) -> None:
    write(tmp_path / "v1" / "plugin.py", "import helper")
    write(tmp_path / "v1" / "helper.py")
    (tmp_path / "current.py").symlink_to("v1/plugin.py")
    listing = source_of(tmp_path / "current.py").resolve()
    assert listing.files == (
        ("current.py", str(tmp_path / "v1" / "plugin.py")),
        ("helper.py", str(tmp_path / "v1" / "helper.py")),
    )
    assert {str(tmp_path), str(tmp_path / "v1")} <= set(listing.folders)


def test_links_to_links_show_in_the_folder_of_each(tmp_path: Path) -> None:
    write(tmp_path / "mount" / "..2024" / "p.py")
    (tmp_path / "mount" / "..data").symlink_to("..2024")
    (tmp_path / "mount" / "p.py").symlink_to("..data/p.py")
    folders = source_of(tmp_path / "mount" / "p.py").resolve().folders
    assert {str(tmp_path / "mount"), str(tmp_path / "mount" / "..2024")} <= set(folders)


def test_a_missing_source_says_where_and_what_to_do(tmp_path: Path) -> None:
    write(tmp_path / "denoise.py")
    with pytest.raises(SourceMissing) as caught:
        source_of(tmp_path / "denois.py").resolve()
    assert str(caught.value) == (
        f"{tmp_path / 'denois.py'} does not exist\n"
        "  did you mean denoise.py? put it there, or correct source"
    )


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="there is no folder"):
        source_of(tmp_path / "no" / "p.py").resolve()


def test_an_empty_folder_is_missing_its_plugin(tmp_path: Path) -> None:
    (tmp_path / "plug").mkdir()
    with pytest.raises(SourceMissing, match="has no files"):
        source_of(tmp_path / "plug").resolve()


def test_a_device_is_neither_file_nor_folder() -> None:
    with pytest.raises(SourceError, match="/dev/null is neither a file nor a folder"):
        source_of(Path("/dev/null")).resolve()


def test_a_program_that_is_a_path_is_the_source(tmp_path: Path) -> None:
    program = write(tmp_path / "worker")
    source = SourceSet.of(PluginSpec(name="p", command=(str(program), "--fast")))
    assert source.resolve().files == (("worker", str(program)),)


def test_a_program_from_the_path_has_no_files() -> None:
    source = SourceSet.of(PluginSpec(name="p", command=("ffmpeg", "-i", "-")))
    assert (source.resolve().files, source.path, source.name) == ((), "", "")


def test_a_command_that_would_run_the_live_file_is_refused(tmp_path: Path) -> None:
    path = str(write(tmp_path / "p.js"))
    source = SourceSet.of(PluginSpec(name="p", source=path, command=("node", path)))
    with pytest.raises(SourceError, match=r"p: command does not mention \{source\}"):
        source.resolve()


@pytest.mark.parametrize(
    ("command", "staged"),
    [
        (("node", "{source}", "--m={source}/m"), ("node", "/s/x", "--m=/s/x/m")),
        (("./worker", "-v"), ("/s/x", "-v")),
        (("ffmpeg", "-v"), ("ffmpeg", "-v")),
        ((), ()),
    ],
)
def test_the_staged_path_takes_the_place_of_the_source(
    command: tuple[str, ...], staged: tuple[str, ...]
) -> None:
    assert staged_command(command, "/s/x") == staged


def test_a_callable_from_code_has_no_file_and_nothing_to_watch() -> None:
    source = SourceSet.of(PluginSpec(name="double", pickled=b"\x80\x05N."))
    assert (source.path, source.name, source.content) == ("", "double.pickle", b"\x80\x05N.")
