"""Hooks around jobs: check, handing state over, flush, unload, and what they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover.protocol.errors import Code, Fault
from tests.conftest import PluginFile
from tests.worker_driver import WorkerProcess

OLD_VERSION = {
    "id": "count",
    "version": "1.0.0",
    "hash": "cbf29ce484222325",
    "loaded_at": "2026-01-02T03:04:05+00:00",
}
COUNTER = """
    from changeover.worker import Plugin, plugin

    class Counter(Plugin):
        name, version = "count", "2.0.0"
        state_format, state_accepts = "n/2", ("n/1", "n/2")

        def on_load(self, ctx):
            self.n = 0
            self.old = None
        def run(self):
            self.n += 1
            return self.n
        @plugin.method
        def seen(self):
            old = self.old
            return old and [old.id, old.version, old.hash, old.loaded_at.year]
        def export_state(self):
            return {"n": self.n}
        def on_reload(self, old_version, state):
            self.old = old_version
            self.n = state["n"] if state else 0
"""


def hooks(body: str) -> str:
    return f"""
    from changeover.worker import Plugin

    class Given(Plugin):
        version = "1.0.0"
        def run(self): return "ran"
        {body}
    """


def adopt(state: Any = None) -> dict[str, Any]:
    return {"old_version": OLD_VERSION, "state": state}


def test_state_passes_from_one_worker_to_the_next(plugin_file: PluginFile) -> None:
    source = plugin_file("count.py", COUNTER)
    with WorkerProcess(source) as old, WorkerProcess(source) as new:
        for worker in (old, new):
            worker.boot()
        assert [old.run() for _ in range(3)] == [1, 2, 3]
        state = old.call("export_state", {})
        assert state == {"format": "n/2", "version": "2.0.0", "data": {"n": 3}}
        assert new.call("adopt", adopt(state)) is None
        assert new.run() == 4
        assert new.run(method="seen") == ["count", "1.0.0", 0xCBF29CE484222325, 2026]
        assert old.run() == 4  # the export left it able to go on


def test_load_names_the_state(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("count.py", COUNTER)) as worker:
        loaded = worker.boot()
    assert loaded["state"] == {"format": "n/2", "accepts": ["n/1", "n/2"]}
    assert loaded["capabilities"]["state"]


def test_adopt_without_state_tells_the_old_version(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("count.py", COUNTER)) as worker:
        worker.boot()
        worker.call("adopt", adopt())
        assert worker.run() == 1


def test_state_of_another_format_is_refused(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("count.py", COUNTER)) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.call("adopt", adopt({"format": "n/9", "version": "9.0.0", "data": {}}))
        assert caught.value.code == Code.STATE_INCOMPATIBLE
        assert "'n/9'" in caught.value.message
        assert "'n/1', 'n/2'" in caught.value.message


@pytest.mark.parametrize(
    "options", [{"state": {"format": "n/1"}}, {"state": 3}, {"old_version": {"id": "x"}}, 7]
)
def test_an_adopt_that_is_not_readable_is_refused(plugin_file: PluginFile, options: Any) -> None:
    with WorkerProcess(plugin_file("count.py", COUNTER)) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.call("adopt", options)
        assert caught.value.code == Code.INVALID_PARAMS


def test_arrays_travel_in_the_state(plugin_file: PluginFile) -> None:
    text = """
        import numpy as np
        from changeover.worker import Plugin

        class Mean(Plugin):
            version = "1.0.0"
            def run(self, n):
                self.seen = np.arange(n, dtype=np.float32)
            def export_state(self):
                return self.seen
            def on_reload(self, old_version, state):
                self.seen = state
    """
    source = plugin_file("mean.py", text)
    with WorkerProcess(source) as old, WorkerProcess(source) as new:
        for worker in (old, new):
            worker.boot()
        old.run(1000)
        new.call("adopt", adopt(old.call("export_state", {})))
        again = new.call("export_state", {})
    assert np.array_equal(again["data"], np.arange(1000, dtype=np.float32))


def test_state_that_nobody_takes_is_dropped_with_a_warning(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("given.py", hooks(""))) as worker:
        worker.boot()
        state = {"format": "1", "version": "3.0.0", "data": 1}
        assert worker.call("adopt", adopt(state)) is None
        level, text, _ = worker.told("log")[0]
    assert level == "warning"
    assert "the state of 3.0.0 is dropped" in text


def test_a_state_that_cannot_travel_is_refused(plugin_file: PluginFile) -> None:
    source = plugin_file("given.py", hooks("def export_state(self): return {'tracks': {1, 2}}"))
    with WorkerProcess(source) as worker:
        worker.boot()
        with pytest.raises(Fault, match=r"state\['data'\]\['tracks'\] is of type set") as caught:
            worker.call("export_state", {})
        assert caught.value.code == Code.RESULT_INVALID
        assert worker.run() == "ran"


def test_export_from_a_plugin_without_state_is_an_unknown_method(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("given.py", hooks(""))) as worker:
        assert not worker.boot()["capabilities"]["state"]
        with pytest.raises(Fault) as caught:
            worker.call("export_state", {})
        assert caught.value.code == Code.METHOD_NOT_FOUND


@pytest.mark.parametrize(
    ("hook", "method", "params"),
    [
        ("on_load(self, ctx)", "load", {}),
        ("on_check(self, ctx)", "check", {}),
        ("on_reload(self, old_version, state)", "adopt", adopt()),
        ("on_flush(self)", "flush", {}),
        ("export_state(self)", "export_state", {}),
        ("on_unload(self)", "unload", {}),
    ],
)
def test_a_hook_that_raises_is_told_with_its_name_and_line(
    plugin_file: PluginFile, hook: str, method: str, params: dict[str, Any]
) -> None:
    source = plugin_file("given.py", hooks(f"def {hook}: assert False, 'no boxes'"))
    with WorkerProcess(source) as worker:
        if method == "load":
            worker.call("hello", {})
        else:
            worker.boot()
        with pytest.raises(Fault) as caught:
            worker.call(method, params)
        name = hook.partition("(")[0]
        assert caught.value.message == f"{name}: AssertionError: no boxes (given.py:7)"
        assert caught.value.data["stage"] == name
        assert "in " + name in caught.value.data["traceback"]


def test_on_unload_runs_although_on_load_raised(plugin_file: PluginFile) -> None:
    body = """
        def on_load(self, ctx): raise OSError("no GPU")
        def on_unload(self): print("cleaned up")
    """
    with WorkerProcess(plugin_file("given.py", hooks(body))) as worker:
        worker.call("hello", {})
        with pytest.raises(Fault, match="no GPU"):
            worker.call("load", {})
        with pytest.raises(Fault, match="unloaded already"):
            worker.run()
        worker.process.kill()  # as the supervisor does with a release that is refused
        worker.wait_exit()
        assert worker.log == b"cleaned up\n"


def test_an_on_unload_that_raises_at_the_end_of_input_is_logged(plugin_file: PluginFile) -> None:
    source = plugin_file("given.py", hooks("def on_unload(self): 1 / 0"))
    with WorkerProcess(source) as worker:
        worker.boot()
        worker.end_input()
        assert worker.wait_exit() == 0
        assert worker.told("log")[0][1].startswith("on_unload: ZeroDivisionError")


@pytest.mark.parametrize(
    ("body", "held"),
    [
        ("return [1, 2]", [1, 2]),
        ("return None", []),
        ("return b'frame'", [b"frame"]),
        ("yield 1; yield 2", [1, 2]),
        ("yield from ()", []),
    ],
)
def test_flush_gives_what_is_still_held(
    plugin_file: PluginFile, body: str, held: list[Any]
) -> None:
    source = plugin_file("given.py", hooks(f"def on_flush(self): {body}"))
    with WorkerProcess(source) as worker:
        assert worker.boot()["capabilities"]["flush"]
        assert worker.call("flush", {}) == held


def test_requests_without_a_hook_have_nothing_to_do(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("given.py", hooks(""))) as worker:
        capabilities = worker.boot()["capabilities"]
        assert not any(capabilities[name] for name in ("check", "state", "flush"))
        assert worker.call("check", {}) is None
        assert worker.call("flush", {}) == []
        assert worker.call("adopt", adopt()) is None
        assert worker.call("unload", {}) is None


def test_the_context_has_config_and_a_folder_for_state(
    plugin_file: PluginFile, tmp_path: Path
) -> None:
    body = """
        def on_load(self, ctx):
            self.ctx = ctx
        def on_check(self, ctx):
            assert ctx is self.ctx
            (ctx.state_dir / "kept").write_text(ctx.config["model"])
            ctx.log("checked", model=ctx.config["model"])
    """
    folder = tmp_path / "state" / "given"
    env = {"CHANGEOVER_STATE_DIR": str(folder)}
    with WorkerProcess(plugin_file("given.py", hooks(body)), env=env) as worker:
        worker.boot(config={"model": "yolo"}, reason="start")
        worker.call("check", {})
        assert worker.told("log") == [["info", "checked", {"model": "yolo"}]]
    assert (folder / "kept").read_text() == "yolo"


def test_without_a_folder_for_state_that_is_said(plugin_file: PluginFile) -> None:
    source = plugin_file("given.py", hooks("def on_load(self, ctx): ctx.state_dir"))
    with WorkerProcess(source) as worker:
        worker.call("hello", {})
        with pytest.raises(Fault, match="no folder for state"):
            worker.call("load", {})
