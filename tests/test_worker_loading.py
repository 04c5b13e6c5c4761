"""From a source to a plugin: which file, which object, and what is told when there is none."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import dill
import msgpack
import pytest

from changeover.protocol.errors import Code, Fault
from tests.conftest import PluginFile
from tests.worker_driver import WorkerProcess

PLUGINS = Path(__file__).parent / "plugins"
BLUR = """
    from changeover.worker import plugin

    @plugin(version="1.2.0")
    def blur():
        return __name__
"""


def load(*arguments: str | Path, env: dict[str, str] | None = None) -> dict[str, Any]:
    with WorkerProcess(*arguments, env=env) as worker:
        return worker.boot()


def refusal(*arguments: str | Path, env: dict[str, str] | None = None) -> Fault:
    with pytest.raises(Fault) as caught:
        load(*arguments, env=env)
    return caught.value


# -- which file


def test_a_file_is_a_module_of_its_own_name(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("blur.py", BLUR)) as worker:
        worker.boot()
        assert worker.run() == "blur"


def test_a_file_may_be_called_as_a_module_of_the_standard_library(plugin_file: PluginFile) -> None:
    text = """
        import wave
        from changeover.worker import plugin

        @plugin
        def run():
            return [__name__, wave.Wave_read.__name__]
    """
    with WorkerProcess(plugin_file("wave.py", text)) as worker:
        worker.boot()
        assert worker.run() == ["plugin_wave", "Wave_read"]


def test_a_file_name_need_not_be_a_module_name(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("soft-blur 2.py", BLUR)) as worker:
        worker.boot()
        assert worker.run() == "soft_blur_2"


def test_modules_beside_the_file_are_imported_from_there(plugin_file: PluginFile) -> None:
    plugin_file("kernels/__init__.py", "")
    plugin_file("kernels/gauss.py", "SIZE = 5")
    source = plugin_file(
        "blur.py",
        """
        from kernels.gauss import SIZE
        from changeover.worker import plugin

        @plugin
        def blur():
            return SIZE
        """,
    )
    with WorkerProcess(source) as worker:
        worker.boot()
        assert worker.run() == 5


def test_a_module_beside_the_file_wins_over_an_installed_one(plugin_file: PluginFile) -> None:
    plugin_file("dill.py", "WHOSE = 'mine'")
    source = plugin_file(
        "blur.py",
        """
        import dill
        from changeover.worker import plugin

        @plugin
        def blur():
            return dill.WHOSE
        """,
    )
    with WorkerProcess(source) as worker:
        worker.boot()
        assert worker.run() == "mine"


def test_nothing_is_written_beside_the_source(plugin_file: PluginFile) -> None:
    plugin_file("kernels.py", "SIZE = 5")
    source = plugin_file("blur.py", "import kernels\n" + _dedented(BLUR))
    before = sorted(os.listdir(source.parent))
    load(source, env={"PYTHONDONTWRITEBYTECODE": ""})
    assert sorted(os.listdir(source.parent)) == before


def test_a_package_is_imported_as_a_package(plugin_file: PluginFile) -> None:
    plugin_file("filters/core.py", BLUR)
    init = plugin_file("filters/__init__.py", "from .core import blur")
    with WorkerProcess(init.parent) as worker:
        worker.boot()
        assert worker.run() == "filters.core"


def test_a_package_without_a_plugin_may_have_it_in_its_module_plugin(
    plugin_file: PluginFile,
) -> None:
    plugin_file("filters/plugin.py", BLUR)
    init = plugin_file("filters/__init__.py", "from os.path import join")
    with WorkerProcess(init.parent) as worker:
        worker.boot()
        assert worker.run() == "filters.plugin"


def test_a_folder_is_its_plugin_py(plugin_file: PluginFile) -> None:
    plugin_file("filters/other.py", "SIZE = 5")
    source = plugin_file("filters/plugin.py", "from other import SIZE\n" + _dedented(BLUR))
    assert load(source.parent)["name"] == "blur"


def test_a_folder_with_one_file_is_that_file(plugin_file: PluginFile) -> None:
    source = plugin_file("filters/soft.py", BLUR)
    assert load(source.parent)["name"] == "blur"


def test_a_folder_that_could_be_anything_is_refused(plugin_file: PluginFile) -> None:
    plugin_file("filters/a.py", BLUR)
    source = plugin_file("filters/b.py", BLUR)
    message = refusal(source.parent).message
    assert message.startswith("import: which file of filters is the plugin?")
    assert "a.py, b.py" in message


@pytest.mark.parametrize("suffix", [".zip", ".whl"])
def test_an_archive_is_its_module_plugin(
    tmp_path: Path, plugin_file: PluginFile, suffix: str
) -> None:
    archive = tmp_path / f"filters{suffix}"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("plugin.py", _dedented(BLUR))
        file.writestr("other.py", "")
    assert load(archive)["name"] == "blur"


def test_a_wheel_is_what_its_entry_point_names(tmp_path: Path) -> None:
    archive = _wheel(tmp_path, "soft = filters.soft:blur\n")
    with WorkerProcess(archive) as worker:
        assert worker.boot()["name"] == "blur"
        assert worker.run() == "filters.soft"


def test_several_entry_points_need_an_object(tmp_path: Path) -> None:
    archive = _wheel(tmp_path, "soft = filters.soft:blur\nhard = filters.hard:blur\n")
    assert "several plugins in the source: hard, soft" in refusal(archive).message
    assert load(archive, "--object", "soft")["name"] == "blur"


def test_an_object_may_name_its_module(tmp_path: Path) -> None:
    archive = _wheel(tmp_path, "")
    assert load(archive, "--object", "filters.soft:blur")["name"] == "blur"


def _wheel(folder: Path, points: str) -> Path:
    archive = folder / "filters-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("filters/__init__.py", "")
        file.writestr("filters/soft.py", _dedented(BLUR))
        file.writestr(
            "filters-1.0.dist-info/entry_points.txt", f"[changeover.plugins]\n{points}[other]\n"
        )
    return archive


def test_other_files_are_no_python_source(tmp_path: Path) -> None:
    source = tmp_path / "native.so"
    source.write_bytes(b"\x7fELF")
    assert "native.so is no Python source" in refusal(source).message


def test_a_source_that_is_gone_is_named(tmp_path: Path) -> None:
    assert "no file or folder" in refusal(tmp_path / "gone.py").message


# -- which object


TWO = """
    from changeover.worker import Plugin, plugin

    @plugin
    def soft(): return "soft"

    class Hard(Plugin):
        version = "2.0.0"
        def run(self): return "hard"

    def plain(): return "plain"
"""


def test_several_plugins_are_named(plugin_file: PluginFile) -> None:
    message = refusal(plugin_file("two.py", TWO)).message
    assert message.startswith("import: several plugins in the source: Hard, soft (two.py)")
    assert 'object = "Hard"' in message


@pytest.mark.parametrize(
    ("name", "result"), [("soft", "soft"), ("Hard", "hard"), ("plain", "plain")]
)
def test_an_object_chooses(plugin_file: PluginFile, name: str, result: str) -> None:
    with WorkerProcess(plugin_file("two.py", TWO), "--object", name) as worker:
        worker.boot()
        assert worker.run() == result


def test_an_object_that_is_not_there_gets_a_hint(plugin_file: PluginFile) -> None:
    message = refusal(plugin_file("two.py", TWO), "--object", "sofd").message
    assert message == "import: no sofd in two.py; did you mean soft?"


def test_no_plugin_in_the_source_is_said_with_a_way_out(plugin_file: PluginFile) -> None:
    message = refusal(plugin_file("none.py", "def double(x): return 2 * x")).message
    assert message.startswith("import: no plugin in the source: none.py has no function")
    assert 'mark double, or name it: object = "double"' in message


def test_what_is_imported_is_no_plugin_of_this_file(plugin_file: PluginFile) -> None:
    plugin_file("other.py", BLUR)
    source = plugin_file(
        "mine.py",
        """
        from other import blur
        from changeover.worker import Plugin, plugin

        @plugin(version="3.0.0")
        def mine(): ...
        """,
    )
    assert load(source)["name"] == "mine"


def test_a_base_class_is_no_plugin_of_its_own(plugin_file: PluginFile) -> None:
    source = plugin_file(
        "derived.py",
        """
        from changeover.worker import Plugin

        class Base(Plugin):
            def run(self): return type(self).__name__

        class Derived(Base):
            version = "1.0.0"
        """,
    )
    assert load(source)["name"] == "Derived"


def test_a_class_without_a_method_to_call_is_refused(plugin_file: PluginFile) -> None:
    source = plugin_file(
        "mute.py",
        """
        from changeover.worker import Plugin

        class Mute(Plugin):
            def process(self): ...
        """,
    )
    assert "Mute has no method to call: name it run" in refusal(source).message


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        ("version = 1.2", "import: the version of Odd must be a str, not 1.2"),
        ("name = 7", "import: the name of Odd must be a str, not 7"),
        ("frames = 'both'", "import: frames must be one of independent, ordered, not 'both'"),
        ("state_accepts = 3", "import: TypeError: 'int' object is not iterable"),
        ("version = property(lambda self: 1 / 0)", "import: ZeroDivisionError: division by zero"),
    ],
)
def test_a_fact_that_makes_no_sense_is_refused(
    plugin_file: PluginFile, fact: str, message: str
) -> None:
    text = f"""
        from changeover.worker import Plugin

        class Odd(Plugin):
            {fact}
            def run(self): ...
            def on_reload(self, old_version, state): ...
    """
    assert refusal(plugin_file("odd.py", text)).message.startswith(message)


def test_marked_methods_and_run_are_public(plugin_file: PluginFile) -> None:
    source = plugin_file(
        "several.py",
        """
        from changeover.worker import Plugin, plugin

        class Base(Plugin):
            name, version, pure, frames = "detect", "2.1.0", True, "ordered"

            def run(self): return self.helper()
            @plugin.method(pure=False)
            def calibrate(self, n): return n
            @plugin.method
            def boxes(self):
                yield 1
            def helper(self): return "helped"

        class Detector(Base):
            def calibrate(self, n): return n + 1
        """,
    )
    with WorkerProcess(source) as worker:
        loaded = worker.boot()
        assert worker.run() == "helped"
        assert worker.run(3, method="calibrate") == 4
        with pytest.raises(Fault, match="no method helper"):
            worker.run(method="helper")
    assert loaded["methods"] == {
        "run": {"pure": True, "stream": False},
        "calibrate": {"pure": False, "stream": False},
        "boxes": {"pure": True, "stream": True},
    }
    assert (loaded["name"], loaded["version"], loaded["frames"]) == ("detect", "2.1.0", "ordered")
    assert loaded["capabilities"]["stream"]


def test_a_decorated_class_need_not_derive(plugin_file: PluginFile) -> None:
    source = plugin_file(
        "plain.py",
        """
        from changeover.worker import plugin

        @plugin(version="1.0.0", name="plain", pure=True)
        class Plain:
            def on_load(self, ctx): self.size = ctx.config["size"]
            def run(self): return self.size
        """,
    )
    with WorkerProcess(source) as worker:
        loaded = worker.boot(config={"size": 9})
        assert worker.run() == 9
    assert (loaded["name"], loaded["methods"]["run"]["pure"]) == ("plain", True)


# -- what goes wrong on the way


NO_GPU = """from changeover.worker import Plugin
class Given(Plugin):
    def __init__(self): raise OSError("no GPU")
    def run(self): ...
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import x\n1 / 0", "ModuleNotFoundError: No module named 'x' (given.py:1)"),
        ("x = 1\nx = = 2", "SyntaxError: invalid syntax (given.py:2)"),
        ("def f():\n    1 / 0\nf()", "ZeroDivisionError: division by zero (given.py:2)"),
        ("import os\nos.nix", "AttributeError: module 'os' has no attribute 'nix' (given.py:2)"),
        (
            "from changeover.worker import plugin\n@plugin(frames='odd')\ndef f(): ...",
            "ValueError: frames must be one of independent, ordered, not 'odd' (given.py:2)",
        ),
        (NO_GPU, "OSError: no GPU (given.py:3)"),
    ],
)  # fmt: skip
def test_a_broken_import_is_told_with_file_and_line(
    plugin_file: PluginFile, text: str, message: str
) -> None:
    fault = refusal(plugin_file("given.py", text))
    assert fault.message == f"import: {message}"
    assert (fault.code, fault.data["stage"]) == (Code.JOB_FAILED, "import")
    assert fault.data["type"] == message.partition(":")[0]


def test_a_broken_module_beside_the_source_is_named_itself(plugin_file: PluginFile) -> None:
    plugin_file("parts/helper.py", "raise ValueError('half written')")
    source = plugin_file("given.py", "import parts.helper")
    assert refusal(source).message == "import: ValueError: half written (parts/helper.py:1)"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("import", "import: SystemExit: the plugin left by sys.exit(3) (leaves_by_exit.py:10)"),
        ("on_load", "on_load: SystemExit: the plugin left by sys.exit('?') (leaves_by_exit.py:18)"),
    ],
)  # fmt: skip
def test_sys_exit_while_loading_is_a_refusal(where: str, message: str) -> None:
    fault = refusal(PLUGINS / "leaves_by_exit.py", env={"LEAVE_AT": where})
    assert fault.message == message
    assert fault.data["stage"] == where


def test_os_exit_is_the_end_of_the_worker() -> None:
    with WorkerProcess(PLUGINS / "leaves_by_exit.py") as worker:
        worker.boot()
        worker.ask_job("last", "os._exit")
        assert worker.wait_exit() == 7


# -- staged and shown


@pytest.fixture
def staged(tmp_path: Path, plugin_file: PluginFile) -> tuple[Path, Path]:
    """A staged source and its original; a helper beside it is staged, a model is not."""
    original = plugin_file(
        "project/denoise.py",
        """
        import helper, os
        from changeover.worker import Plugin

        class Denoise(Plugin):
            def on_load(self, ctx):
                self.ctx = ctx
            def run(self, what, name=""):
                if what == "open":
                    return open(os.path.join(os.path.dirname(__file__), name)).read()
                if what == "path":
                    return str(self.ctx.path(name))
                return getattr(helper, what)()
        """,
    )
    plugin_file("project/helper.py", "def fail(): raise ValueError('helped')")
    plugin_file("project/model.txt", "weights")
    store = tmp_path / "store" / "3fa9"
    shutil.copytree(original.parent, store, ignore=shutil.ignore_patterns("model.txt"))
    return store / "denoise.py", original


def test_tracebacks_show_the_original_with_the_lines_that_run(staged: tuple[Path, Path]) -> None:
    path, original = staged
    original.with_name("helper.py").write_text("# edited meanwhile\n")
    with WorkerProcess(path, "--shown", original) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run("fail")
    fault = caught.value
    assert fault.message == "ValueError: helped (helper.py:1)"
    assert f'File "{original}", line 13' in fault.data["traceback"]
    assert f'File "{original.parent}/helper.py", line 1' in fault.data["traceback"]
    assert "raise ValueError('helped')" in fault.data["traceback"]
    assert "3fa9" not in fault.data["traceback"]


@pytest.mark.parametrize("what", ["open", "path"])
def test_a_file_that_was_not_staged_gets_the_hint(staged: tuple[Path, Path], what: str) -> None:
    path, original = staged
    with WorkerProcess(path, "--shown", original) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run(what, "model.txt")
        assert "model.txt lies beside denoise.py" in caught.value.message
        assert "add it to include" in caught.value.message
        with pytest.raises(Fault) as caught:
            worker.run(what, "nowhere.txt")
        assert "include" not in caught.value.message


def test_a_module_that_was_not_staged_gets_the_hint(staged: tuple[Path, Path]) -> None:
    path, original = staged
    path.with_name("helper.py").unlink()
    message = refusal(path, "--shown", original).message
    assert message.startswith("import: ModuleNotFoundError: No module named 'helper'")
    assert "helper.py lies beside denoise.py" in message


def test_ctx_path_is_the_staged_file(staged: tuple[Path, Path]) -> None:
    path, original = staged
    with WorkerProcess(path, "--shown", original) as worker:
        worker.boot()
        assert worker.run("path", "helper.py") == str(path.with_name("helper.py"))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b"])
def test_ctx_path_does_not_leave_the_release(staged: tuple[Path, Path], name: str) -> None:
    path, original = staged
    with WorkerProcess(path, "--shown", original) as worker:
        worker.boot()
        with pytest.raises(Fault, match="inside the release"):
            worker.run("path", name)


def test_a_traceback_from_an_archive_shows_the_original(tmp_path: Path) -> None:
    archive = tmp_path / "staged.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("plugin.py", "from changeover.worker import plugin\n@plugin\ndef f(): 1/0")
    with WorkerProcess(archive, "--shown", "/project/filters.zip") as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run()
    assert caught.value.message == "ZeroDivisionError: division by zero (filters.zip/plugin.py:3)"
    assert 'File "/project/filters.zip/plugin.py", line 3' in caught.value.data["traceback"]


# -- callables given from code


def pickled(tmp_path: Path, value: Any, python: Any = None) -> Path:
    path = tmp_path / "callable.pickle"
    version = list(sys.version_info[:2]) if python is None else python
    content = {"python": version, "pickle": dill.dumps(value, recurse=True)}
    path.write_bytes(msgpack.packb(content))
    return path


def test_a_closure_runs(tmp_path: Path) -> None:
    factor = 3
    with WorkerProcess("--pickled", pickled(tmp_path, lambda x: factor * x)) as worker:
        loaded = worker.boot()
        assert worker.run(14) == 42
    assert loaded["version"] == "0.0.0"


def test_an_error_in_a_callable_names_the_script(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("from the script")

    line = fail.__code__.co_firstlineno + 1
    with WorkerProcess("--pickled", pickled(tmp_path, fail)) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run()
    name = os.path.basename(__file__)
    assert caught.value.message == f"ValueError: from the script ({name}:{line})"


def test_a_callable_of_another_python_is_not_unpickled(tmp_path: Path) -> None:
    message = refusal("--pickled", pickled(tmp_path, len, [3, 8])).message
    assert "pickled by Python 3.8, this worker runs 3." in message


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x80", b"\x91\x01", b"\xa3abc"])
def test_bytes_that_are_no_callable_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "callable.pickle"
    path.write_bytes(content)
    assert "this is no pickled callable" in refusal("--pickled", path).message


def test_a_pickle_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "callable.pickle"
    content = {"python": list(sys.version_info[:2]), "pickle": b"junk"}
    path.write_bytes(msgpack.packb(content))
    assert refusal("--pickled", path).message.startswith("import: UnpicklingError")


def test_what_was_pickled_must_be_callable(tmp_path: Path) -> None:
    assert "cannot be called: int" in refusal("--pickled", pickled(tmp_path, 7)).message


def _dedented(text: str) -> str:
    return "\n".join(line[4:] for line in text.splitlines())
