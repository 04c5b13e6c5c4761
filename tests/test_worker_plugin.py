"""The marks: a marked function stays an ordinary one, nonsense is refused where it is written."""

from __future__ import annotations

from typing import Any

import pytest

import changeover.worker
from changeover.worker import Cancelled, Frame, Job, Plugin, Progress, plugin
from changeover.worker.loaded import LoadedPlugin
from changeover.worker.parameters import Parameters


def test_a_marked_function_can_be_called_as_before() -> None:
    @plugin(version="1.2.0", pure=True)
    def double(x: int) -> int:
        return 2 * x

    assert double(4) == 8
    loaded = LoadedPlugin(double)
    assert (loaded.name, loaded.version, loaded.methods["run"].pure) == ("double", "1.2.0", True)


def test_the_decorator_needs_no_parentheses() -> None:
    @plugin
    def double(x: int) -> int:
        return 2 * x

    loaded = LoadedPlugin(double)
    assert (double(4), loaded.version, loaded.methods["run"].pure) == (8, "0.0.0", False)


@pytest.mark.parametrize(
    ("given", "error"),
    [({"frames": "sorted"}, ValueError), ({"version": 1.2}, TypeError), ({"name": 3}, TypeError)],
)
def test_a_mark_that_can_mean_nothing_is_refused(
    given: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        plugin(**given)


@pytest.mark.parametrize("key", ["batch", "batch_wait", "concurrency"])
def test_keys_that_do_not_exist_are_refused(key: str) -> None:
    with pytest.raises(TypeError, match=key):
        plugin(**{key: 1})  # type: ignore[call-overload]


def test_only_what_can_be_called_can_be_marked() -> None:
    with pytest.raises(TypeError, match="marks a function or a class"):
        plugin(7)  # type: ignore[call-overload]


def test_the_decorator_overrules_the_class() -> None:
    @plugin(version="2.0.0", pure=True)
    class Given(Plugin):
        version = "1.0.0"
        frames = "ordered"

        def run(self) -> None: ...

    loaded = LoadedPlugin(Given)
    assert (loaded.version, loaded.frames, loaded.methods["run"].pure) == ("2.0.0", "ordered", True)


def test_a_hook_of_the_base_class_is_no_hook() -> None:
    class Given(Plugin):
        def run(self) -> None: ...
        def on_flush(self) -> list[int]:
            return []

    loaded = LoadedPlugin(Given)
    assert loaded.hook("on_flush") is not None
    assert loaded.hook("on_check") is None


def test_every_name_of_the_page_is_there() -> None:
    names = {name: getattr(changeover.worker, name) for name in changeover.worker.__all__}
    assert names == {
        "Frame": Frame, "Job": Job, "Plugin": Plugin, "Progress": Progress,
        "plugin": plugin, "Cancelled": Cancelled,
    }  # fmt: skip
    with pytest.raises(AttributeError, match="no attribute 'Plug'"):
        _ = changeover.worker.Plug


class Callable:
    def __call__(self, a: int, job: Job) -> None: ...

    def method(self, a: int, job: Job | None) -> None: ...


def plain(a: int, /, b: Frame, *rest: int, job: Job, **more: int) -> None: ...


def quoted(job: "Job", frame: "NoSuchName", boxes: list[Job]) -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037


@pytest.mark.parametrize(
    ("function", "names", "positional"),
    [
        (plain, ("a", "b", "job"), 2),
        (Callable(), ("a", "job"), 2),
        (Callable().method, ("a", "job"), 2),
        (quoted, ("job", "frame", "boxes"), 3),
        (len, ("obj",), 1),
        (print, None, 0),
    ],
)
def test_parameters_are_read_without_running_anything(
    function: Any, names: tuple[str, ...] | None, positional: int
) -> None:
    parameters = Parameters(function)
    assert names is None or parameters.names == names
    assert parameters.positional == positional


@pytest.mark.parametrize("function", [plain, Callable(), Callable().method, quoted])
def test_the_parameter_for_the_job_is_found(function: Any) -> None:
    assert Parameters(function).annotated(Job) == ["job"]
