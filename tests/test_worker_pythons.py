"""A worker in bare venvs of other Pythons: all that a plugin may do works as in our own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from changeover.protocol.errors import Fault
from changeover.protocol.frame import Frame
from changeover.supervisor.runtime import Runtime
from tests import pythons
from tests.conftest import PluginFile
from tests.worker_driver import WorkerProcess

VERSIONS = dict.fromkeys(["3.9", "3.10", "3.11", "3.12", "3.13", "3.14", pythons.OURS])
HEAD = "from changeover.worker import Frame, Plugin, Progress, plugin\n"
COUNTER = """
class Count(Plugin):
    name, version = "count", "2.0.0"
    def on_load(self, ctx): self.told = ["load", ctx.config["word"]]
    def on_check(self, ctx): self.told.append("check")
    def on_reload(self, old, state): self.told = [*state["told"], old.version]
    def export_state(self): return {"told": self.told}
    def run(self): return self.told
"""
GENERATOR = """
@plugin
def run(count):
    for n in range(count):
        yield Progress(n + 1, count, "step")
        yield {"item": n}
"""
ASYNC = """
import asyncio

@plugin
async def run(n):
    await asyncio.sleep(0)
    return n + 1
"""
FRAME = """
@plugin
def run(frame: Frame):
    return frame.like(bytes(255 - value for value in frame.data), pts=frame.pts + 1)
"""
BESIDE = """
from beside.words import WORD

@plugin
def run(is_good):
    if not is_good:
        raise ValueError("no boxes")
    return WORD
"""
ECHO = """
@plugin
def run(value):
    return value
"""
MSGPACK = """
@plugin
def run():
    import msgpack
    return msgpack.ORIGIN
"""
# Threads that take turns all the time.
HEADS = """
import sys, threading
sys.path.insert(0, sys.argv[1])
sys.setswitchinterval(1e-6)
from changeover.protocol.codec import array_header
heads = set()

def pack():
    for _ in range(50000):
        heads.add(array_header(3))

threads = [threading.Thread(target=pack) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(heads)
"""


@pytest.fixture(scope="session")
def venvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("venvs")


@pytest.fixture(params=VERSIONS)
def venv(request: pytest.FixtureRequest, venvs: Path) -> Path:
    return pythons.bare_venv(request.param, venvs)


def start(venv: Path, source: Path, *arguments: str | Path) -> WorkerProcess:
    runtime = Runtime(venv / "runtime").path()
    return WorkerProcess(source, *arguments, command=(str(venv / "bin/python"), str(runtime)))


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_hooks_and_state(venv: Path, plugin_file: PluginFile) -> None:
    source = plugin_file("count.py", HEAD + COUNTER)
    with start(venv, source) as old, start(venv, source) as new:
        for worker in (old, new):
            worker.boot(config={"word": "hello"})
            worker.call("check", {})
        facts = {
            "id": "count",
            "version": "1.0.0",
            "hash": "7",
            "loaded_at": "2026-01-01T00:00:00Z",
        }
        new.call("adopt", {"old_version": facts, "state": old.call("export_state", {})})
        assert new.run() == ["load", "hello", "check", "1.0.0"]


def test_progress_and_items(venv: Path, plugin_file: PluginFile) -> None:
    with start(venv, plugin_file("parts.py", HEAD + GENERATOR)) as worker:
        worker.boot()
        assert worker.run(2, progress=True, stream=2) is None
        assert [params[1]["done"] for params in worker.told("progress")] == [1, 2]
        assert [params[1:] for params in worker.told("item")] == [
            [0, {"item": 0}],
            [1, {"item": 1}],
        ]


def test_coroutines(venv: Path, plugin_file: PluginFile) -> None:
    with start(venv, plugin_file("later.py", HEAD + ASYNC)) as worker:
        worker.boot()
        assert worker.run(1) == 2


def test_frames_without_numpy(venv: Path, plugin_file: PluginFile) -> None:
    with start(venv, plugin_file("negative.py", HEAD + FRAME)) as worker:
        worker.boot()
        out = worker.run(Frame(bytes([0, 1, 2, 3]), format="gray", width=2, height=2, pts=5))
    assert (bytes(out.data), out.pts) == (bytes([255, 254, 253, 252]), 6)


def test_modules_beside_the_source_and_its_own_path_in_tracebacks(
    venv: Path, plugin_file: PluginFile, tmp_path: Path
) -> None:
    plugin_file("store/beside/__init__.py", "")
    plugin_file("store/beside/words.py", "WORD = 'beside'")
    source = plugin_file("store/blur.py", HEAD + BESIDE)
    shown = tmp_path / "home/blur.py"
    with start(venv, source, "--shown", shown) as worker:
        worker.boot()
        assert worker.run(True) == "beside"
        with pytest.raises(Fault) as caught:
            worker.run(False)
    assert caught.value.message == "ValueError: no boxes (blur.py:8)"
    frames = [line for line in caught.value.data["traceback"].splitlines() if "File " in line]
    assert frames == [f'  File "{shown}", line 8, in run']


def test_values_may_be_as_deep_and_as_odd_as_anywhere(venv: Path, plugin_file: PluginFile) -> None:
    """Where the message itself is three containers around an argument."""
    with start(venv, plugin_file("echo.py", HEAD + ECHO)) as worker:
        worker.boot()
        for value in (nested(61), {1: "one", None: [b"two"]}, list(range(1000)), 2**64 - 1):
            assert worker.run(value) == value
        with pytest.raises(Fault, match="nested deeper than 64"):
            worker.run(nested(80))
        assert worker.run("still") == "still"


def test_threads_do_not_mix_the_heads_of_their_messages(venv: Path) -> None:
    runtime = Runtime(venv / "runtime").path()
    command = [str(venv / "bin/python"), "-c", HEADS, str(runtime)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=pythons.WAIT_S)
    assert done.stdout == b"{b'\\x93'}\n"


def test_a_file_may_be_called_as_a_module_of_the_standard_library(
    venv: Path, plugin_file: PluginFile
) -> None:
    text = "import wave\n@plugin\ndef run(): return [__name__, wave.Wave_read.__name__]\n"
    with start(venv, plugin_file("wave.py", HEAD + text)) as worker:
        worker.boot()
        assert worker.run() == ["plugin_wave", "Wave_read"]


def test_msgpack_is_the_plugins_own_or_none(venv: Path, plugin_file: PluginFile) -> None:
    source = plugin_file("packs.py", HEAD + MSGPACK)
    own = pythons.site_packages(venv) / "msgpack.py"
    with start(venv, source) as worker:
        worker.boot()
        with pytest.raises(Fault, match="No module named 'msgpack'"):
            worker.run()
    own.write_text("ORIGIN = 'the venv'\n")
    try:
        with start(venv, source) as worker:
            worker.boot()
            assert worker.run() == "the venv"
    finally:
        own.unlink()
