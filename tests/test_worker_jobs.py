"""One job: its arguments, its result, and what is told when it fails."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover.protocol.errors import Code, Fault
from changeover.protocol.frame import Frame
from tests.conftest import PluginFile
from tests.worker_driver import WorkerProcess

PLUGINS = Path(__file__).parent / "plugins"


def run_source(plugin_file: PluginFile, text: str, *args: Any, **options: Any) -> Any:
    with WorkerProcess(plugin_file("given.py", text)) as worker:
        worker.boot()
        return worker.run(*args, **options)


def fault_of(plugin_file: PluginFile, text: str, *args: Any, **options: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        run_source(plugin_file, text, *args, **options)
    return caught.value


ADD = """
    from changeover.worker import plugin

    @plugin
    def add(a, b=10, *, c=100):
        return a + b + c
"""


@pytest.mark.parametrize(
    ("kwargs", "result"),
    [([1], 111), ([1, 2], 103), ({"a": 1, "c": 3}, 14), ({"*": [1], "b": 5}, 106), (7, 117)],
)
def test_arguments_are_positional_keyword_both_or_one(
    plugin_file: PluginFile, kwargs: Any, result: int
) -> None:
    assert run_source(plugin_file, ADD, kwargs=kwargs) == result


@pytest.mark.parametrize("kwargs", [[], [1, 2, 3], {"a": 1, "d": 4}, {"*": [1], "a": 2}])
def test_arguments_that_do_not_fit_were_not_run(plugin_file: PluginFile, kwargs: Any) -> None:
    fault = fault_of(plugin_file, ADD, kwargs=kwargs)
    assert (fault.code, fault.executed) == (Code.INVALID_PARAMS, "no")
    assert "add()" in fault.message


def test_a_type_error_of_the_plugins_own_is_a_failed_job(plugin_file: PluginFile) -> None:
    fault = fault_of(plugin_file, ADD, "text")
    assert (fault.code, fault.executed) == (Code.JOB_FAILED, "yes")
    assert fault.message.startswith("TypeError: ")
    assert fault.message.endswith("(given.py:6)")


def test_an_exception_is_told_with_its_line_and_traceback(plugin_file: PluginFile) -> None:
    text = """
        from changeover.worker import plugin

        def below(x):
            raise ValueError(f"no boxes in {x}")

        @plugin
        def run(x):
            return below(x)
    """
    fault = fault_of(plugin_file, text, "frame 3")
    assert fault.message == "ValueError: no boxes in frame 3 (given.py:5)"
    assert fault.data["type"] == "ValueError"
    assert fault.data["job"].startswith("job-")
    lines = fault.data["traceback"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "line 9, in run" in lines[1]
    assert "return below(x)" in lines[2]
    assert "worker/" not in fault.data["traceback"]


def test_an_error_in_a_library_names_the_plugins_line(plugin_file: PluginFile) -> None:
    text = """
        import json
        from changeover.worker import plugin

        @plugin
        def run(x):
            return json.loads(x)
    """
    fault = fault_of(plugin_file, text, "{")
    assert fault.message.endswith("(given.py:7)")
    assert fault.data["type"] == "json.decoder.JSONDecodeError"
    assert "decoder.py" in fault.data["traceback"]


def test_the_cause_of_an_error_is_told_too(plugin_file: PluginFile) -> None:
    text = """
        from changeover.worker import plugin

        @plugin
        def run():
            try:
                {}["model"]
            except KeyError as err:
                raise RuntimeError("no model") from err
    """
    traceback = fault_of(plugin_file, text).data["traceback"]
    assert "KeyError: 'model'" in traceback
    assert "direct cause" in traceback


@pytest.mark.parametrize(("base", "retryable"), [("retryable = True", True), ("pass", False)])
def test_an_exception_may_say_that_it_is_retryable(
    plugin_file: PluginFile, base: str, retryable: bool
) -> None:
    text = f"""
        from changeover.worker import plugin

        class Hiccup(Exception):
            {base}

        @plugin
        def run():
            raise Hiccup("later")
    """
    fault = fault_of(plugin_file, text)
    assert fault.data["retryable"] is retryable
    assert fault.message == "Hiccup: later (given.py:9)"


@pytest.mark.parametrize(
    ("raised", "start"),
    [
        ("KeyboardInterrupt()", "KeyboardInterrupt (given.py"),
        ("SystemExit(4)", "SystemExit: the plugin left by sys.exit(4) (given.py"),
        ("MemoryError()", "MemoryError (given.py"),
        ("ValueError('x' * 5000)", "ValueError: xxx"),
        ("Evil()", "Evil: (its text cannot be shown: ZeroDivisionError) (given.py"),
    ],
)
def test_whatever_is_raised_is_an_answer(plugin_file: PluginFile, raised: str, start: str) -> None:
    text = f"""
        from changeover.worker import plugin

        class Evil(Exception):
            def __str__(self): return str(1 / 0)

        @plugin
        def run(again=False):
            if again:
                return "still here"
            raise {raised}
    """
    with WorkerProcess(plugin_file("given.py", text)) as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run()
        assert caught.value.message.startswith(start)
        assert len(caught.value.message) < 1100
        assert worker.run(True) == "still here"


def test_a_recursion_without_end_is_a_failed_job_with_a_bounded_traceback(
    plugin_file: PluginFile,
) -> None:
    text = """
        from changeover.worker import plugin

        @plugin
        def even(n): return odd(n)
        def odd(n): return even(n)
    """
    fault = fault_of(plugin_file, text, 1)
    assert fault.data["type"] == "RecursionError"
    assert len(fault.data["traceback"]) < 40_000


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("a set", "result['boxes'][1] is of type set"),
        ("a lock", "result is of type _thread.lock"),
        ("a big int", "result[0] is an int beyond 64 bits"),
        ("a loop", "deeper than 64"),
        ("too deep", "deeper than 64"),
        ("too big", "result of 68157445 bytes"),
        ("half a character", "UTF-8"),
        ("itself", "is of type function"),
    ],
)
def test_a_result_that_cannot_travel_is_named(kind: str, says: str) -> None:
    with WorkerProcess(PLUGINS / "returns_garbage.py") as worker:
        worker.boot()
        with pytest.raises(Fault) as caught:
            worker.run(kind)
        fault = caught.value
        assert (fault.code, fault.executed) == (Code.RESULT_INVALID, "yes")
        assert says in fault.message
        assert "(run, returns_garbage.py:34)" in fault.message
        assert worker.call("ping", 1) == 1


def test_a_result_may_be_nested_as_deep_as_a_message_allows(plugin_file: PluginFile) -> None:
    text = """
        from changeover.worker import plugin

        @plugin
        def run(levels):
            value = "x" * 100
            for _ in range(levels):
                value = [value]
            return value
    """
    with WorkerProcess(plugin_file("given.py", text)) as worker:
        worker.boot()
        worker.run(63)  # with the message's own array: 64
        with pytest.raises(Fault, match="nested deeper"):
            worker.run(64)


def test_an_unknown_method_is_not_found(plugin_file: PluginFile) -> None:
    fault = fault_of(plugin_file, ADD, 1, method="rum")
    assert (fault.code, fault.executed) == (Code.NOT_FOUND, "no")
    assert "did you mean run?" in fault.message


@pytest.mark.parametrize(
    "where", ["job, a, b=2", "a, job, b=2", "a, b=2, *, job", "a, b=2, job=None"]
)
def test_the_job_is_filled_in_wherever_it_stands(plugin_file: PluginFile, where: str) -> None:
    where = where.replace("job", "job: Job")
    text = f"""
        from __future__ import annotations
        from changeover.worker import Job, plugin

        @plugin
        def run({where}):
            return [a, b, job.id, job.attempt]
    """
    assert run_source(plugin_file, text, 1, 5, attempt=3) == [1, 5, "job-2", 3]
    assert run_source(plugin_file, text, kwargs={"a": 7}) == [7, 2, "job-2", 1]


def test_the_job_is_filled_in_behind_a_wrapper(plugin_file: PluginFile) -> None:
    text = """
        import functools
        from typing import Optional
        from changeover.worker import Job, plugin

        def timed(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs)
            return wrapper

        @plugin
        @timed
        def run(a, job: Optional[Job] = None):
            return [a, job.id]
    """
    assert run_source(plugin_file, text, 1) == [1, "job-2"]


FRAME_KINDS = """
    from __future__ import annotations
    from changeover.worker import Frame, Job, plugin

    @plugin
    def run(job: Job, frame: Frame, plain=None, other: Frame | None = None):
        return [type(value).__name__ for value in (frame, plain, other)]
"""


def test_an_array_becomes_a_frame_only_where_one_is_asked_for(plugin_file: PluginFile) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    kinds = run_source(plugin_file, FRAME_KINDS, pixels, pixels)
    assert kinds == ["Frame", "ndarray", "NoneType"]
    kinds = run_source(plugin_file, FRAME_KINDS, kwargs={"*": [pixels], "other": pixels})
    assert kinds == ["Frame", "NoneType", "Frame"]


def test_an_array_that_is_no_picture_is_refused_where_a_frame_is_asked_for(
    plugin_file: PluginFile,
) -> None:
    fault = fault_of(plugin_file, FRAME_KINDS, np.zeros((2, 2, 7)))
    assert (fault.code, fault.executed) == (Code.INVALID_PARAMS, "no")


def test_frames_come_and_go_with_their_metadata(plugin_file: PluginFile) -> None:
    text = """
        from changeover.worker import Frame, plugin

        @plugin
        def invert(frame: Frame) -> Frame:
            return frame.like(255 - frame.array)
    """
    pixels = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    frame = Frame.from_array(pixels, pts=7, time_base=(1, 25), meta={"camera": "a"})
    result = run_source(plugin_file, text, frame)
    assert np.array_equal(result.array, 255 - pixels)
    assert (result.pts, result.meta) == (7, {"camera": "a"})


@pytest.mark.parametrize(
    "value",
    [None, [], [1, [2, {"a": b"x"}]], dt.datetime(2026, 1, 2, tzinfo=dt.UTC), 2**63, 1.5],
)
def test_plain_values_come_back_as_they_were(plugin_file: PluginFile, value: object) -> None:
    text = """
        from changeover.worker import plugin

        @plugin
        def run(value):
            return value
    """
    assert run_source(plugin_file, text, kwargs=[value]) == value


def test_a_log_line_names_its_job(plugin_file: PluginFile) -> None:
    text = """
        from changeover.worker import Job, plugin

        @plugin
        def run(job: Job):
            job.log("seen", boxes=3, odd={1, 2})
            job.log.warning("x" * 10000)
            job.log("wrong", level="loud")
    """
    with WorkerProcess(plugin_file("given.py", text)) as worker:
        worker.boot()
        with pytest.raises(Fault, match="level must be one of"):
            worker.run()
        first, second = worker.told("log")
    assert first == ["info", "seen", {"job": "job-2", "boxes": 3, "odd": "{1, 2}"}]
    assert (second[0], len(second[1])) == ("warning", 8192)


def test_memory_stays_flat_over_many_jobs(plugin_file: PluginFile) -> None:
    with WorkerProcess(plugin_file("given.py", ADD)) as worker:
        worker.boot()
        jobs = [worker.run(n) for n in range(3000)]
        before = _rss_bytes(worker.process.pid)
        for n in range(10_000):
            worker.run(n)
        assert _rss_bytes(worker.process.pid) - before < 1_000_000
    assert jobs[5] == 115


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
