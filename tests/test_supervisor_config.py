"""The config: what it makes of a file, of `-o` and of `add`, and how it lists mistakes."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover.supervisor import config_tables as tables
from changeover.supervisor.config import Config, ConfigError, Layers, load, load_tables, plugin_spec
from changeover.supervisor.config_changes import CHANGEOVER_KEYS, LIVE_KEYS, changed_keys
from changeover.supervisor.registry import Cron, Disabled, Every, OnChange, OnSignal
from changeover.supervisor.spec import PluginSpec, SupervisorSpec

Load = Callable[..., Config]

ALL_KEYS = """
[supervisor]
name          = "changeover"
socket        = "auto"
socket_mode   = "0600"
socket_group  = ""
allow_uids    = []
allow_add     = false
state_dir     = "auto"
watch         = "auto"
settle        = "500ms"
stop_timeout  = "60s"
keep_releases = 5
session_jobs  = 4096
session_bytes = "512MiB"
max_spawns    = 2

[log]
level  = "info"
format = "auto"

[defaults]

[plugins.denoise]
source  = "plugins/denoise.py"
object  = ""
command = []
python  = ""
include = []
config  = {}
env     = {}
pin     = ""
workers     = 1
concurrency = 1
queue       = 256
full        = "block"
timeout    = "off"
retries    = 0
poison     = 3
kill_grace = "2s"
restart    = "100ms..30s"
crash_loop = "5 in 60s"
isolation = "trusted"
env_pass  = []
network   = false
launcher  = []
max_jobs = "off"
max_age  = "off"
max_rss  = "off"
memory   = "off"
durable    = false
start     = "auto"
preload   = []
reload        = "on-change"
swap          = "auto"
warm_timeout  = "60s"
drain_timeout = "30s"
drain_over    = "kill"
hold_timeout  = "10s"
probation     = "30s"
rollback_keep = "auto"
max_errors    = "2x"
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Write a config and load it: `loaded(text, "workers=3")`."""

    def load_text(text: str, *overrides: str) -> Config:
        path = tmp_path / "changeover.toml"
        path.write_text(text)
        return load(path, overrides)

    return load_text


@pytest.fixture
def problems(loaded: Load) -> Callable[..., list[str]]:
    """The lines that a config is refused with."""

    def refused(text: str, *overrides: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            loaded(text, *overrides)
        return caught.value.problems

    return refused


def test_three_lines_are_enough(loaded: Load, tmp_path: Path) -> None:
    config = loaded('[plugins.denoise]\nsource = "plugins/denoise.py"\nworkers = 2\n')

    source = str(tmp_path / "plugins/denoise.py")
    assert config.plugins == {"denoise": PluginSpec(name="denoise", source=source, workers=2)}
    assert config.supervisor == SupervisorSpec()


def test_every_key_written_with_its_default_changes_nothing(loaded: Load) -> None:
    plain = loaded('[plugins.denoise]\nsource = "plugins/denoise.py"\n')

    assert loaded(ALL_KEYS).plugins == plain.plugins
    assert loaded(ALL_KEYS).supervisor == plain.supervisor


def test_the_listing_of_defaults_names_every_key() -> None:
    document = tomllib.loads(ALL_KEYS)

    assert set(document["plugins"]["denoise"]) == set(tables.PLUGIN_KEYS)
    assert set(document["supervisor"]) == set(tables.SUPERVISOR_KEYS)
    assert set(document["log"]) == set(tables.LOG_KEYS)


def test_every_field_of_a_plugin_has_a_key() -> None:
    reached = {
        field for key in tables.PLUGIN_KEYS for field in tables.PLUGIN_FIELDS.get(key, (key,))
    }

    assert reached | {"name"} == {field.name for field in dataclasses.fields(PluginSpec)}


def test_every_field_of_the_supervisor_has_a_key() -> None:
    reached = {tables.SUPERVISOR_FIELDS.get(key, key) for key in tables.SUPERVISOR_KEYS}
    reached |= {f"log_{key}" for key in tables.LOG_KEYS}

    assert reached == {field.name for field in dataclasses.fields(SupervisorSpec)}


def test_values_arrive_in_seconds_bytes_and_digits(loaded: Load) -> None:
    config = loaded(
        "\n".join(
            [
                "[supervisor]",
                'settle = "100ms"',
                'session_bytes = "1MiB"',
                "[log]",
                'level = "debug"',
                "[plugins.p]",
                'source = "p.py"',
                'timeout = "5s"',
                'restart = "1s..2s"',
                'crash_loop = "3 in 10s"',
                "max_jobs = 1000",
                'max_age = "12h"',
                'max_rss = "2GiB"',
                'memory = "4GiB"',
                'max_errors = "5%"',
                f'pin = "sha256:{"a" * 64}"',
                'config = {strength = 0.5, deep = {list = [1, "two"]}}',
                'env = {LANG = "C"}',
            ]
        )
    )

    plugin = config.plugins["p"]
    assert (config.supervisor.settle_s, config.supervisor.session_bytes) == (0.1, 2**20)
    assert config.supervisor.log_level == "debug"
    assert plugin.timeout_s == 5.0
    assert (plugin.restart_min_s, plugin.restart_max_s) == (1.0, 2.0)
    assert (plugin.crash_loop_count, plugin.crash_loop_window_s) == (3, 10.0)
    assert (plugin.max_jobs, plugin.max_age_s) == (1000, 43200.0)
    assert (plugin.max_rss_bytes, plugin.memory_bytes) == (2 * 2**30, 4 * 2**30)
    assert (plugin.max_errors_factor, plugin.max_errors_rate) == (None, 0.05)
    assert plugin.pin == "a" * 64
    assert plugin.config == {"strength": 0.5, "deep": {"list": [1, "two"]}}
    assert plugin.env == {"LANG": "C"}


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ('"on-change"', OnChange()),
        ('"on-signal"', OnSignal()),
        ('"disabled"', Disabled()),
        ('{every = "10m"}', Every(600.0)),
        ('{cron = "0 3 * * *"}', Cron("0 3 * * *")),
    ],
)
def test_each_reload_policy_can_be_written(loaded: Load, written: str, policy: object) -> None:
    config = loaded(f'[plugins.p]\nsource = "p.py"\nreload = {written}\n')

    assert config.plugins["p"].reload == policy


def test_paths_are_relative_to_the_folder_of_the_file(
    loaded: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    config = loaded(
        '[supervisor]\nsocket = "run/x.sock"\nstate_dir = "state"\n'
        '[plugins.a]\ncommand = ["./a.out", "relative/argument"]\n'
        '[plugins.b]\ncommand = ["python3", "-u"]\nlauncher = ["./wrap", "./as_it_is"]\n'
    )

    assert config.supervisor.socket == str(tmp_path / "run/x.sock")
    assert config.supervisor.state_dir == str(tmp_path / "state")
    assert config.plugins["a"].command == (str(tmp_path / "a.out"), "relative/argument")
    assert config.plugins["b"].command == ("python3", "-u")
    assert config.plugins["b"].launcher == (str(tmp_path / "wrap"), "./as_it_is")


@pytest.mark.parametrize("path", ["venvs/blur/bin/python", "./blur", ".venv", "../blur"])
def test_a_python_with_a_path_is_relative_to_the_folder_of_the_file(
    loaded: Load, tmp_path: Path, path: str
) -> None:
    config = loaded(f'[plugins.p]\nsource = "p.py"\npython = "{path}"\n')

    assert config.plugins["p"].python == os.path.normpath(tmp_path / path)
    assert load_tables(tmp_path / "changeover.toml")["p"]["python"] == config.plugins["p"].python


def test_a_python_without_a_path_is_a_name(loaded: Load) -> None:
    config = loaded('[defaults]\npython = "python3.12"\n[plugins.p]\nsource = "p.py"\n')

    assert config.plugins["p"].python == "python3.12"


def test_a_callable_has_the_python_that_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has a python, but a callable runs on the one that"):
        plugin_spec("p", {"source": b"pickled", "python": "python3"}, tmp_path)


def test_a_path_may_begin_at_home(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")

    config = loaded('[plugins.p]\nsource = "~/p.py"\n')

    assert config.plugins["p"].source == "/home/somebody/p.py"


def test_defaults_are_for_every_plugin_that_does_not_say_otherwise(loaded: Load) -> None:
    config = loaded(
        "[defaults]\nworkers = 4\nqueue = 9\n"
        '[plugins.a]\nsource = "a.py"\nworkers = 1\n[plugins.b]\nsource = "b.py"\n'
    )

    assert [(p.workers, p.queue) for p in config.plugins.values()] == [(1, 9), (4, 9)]


@pytest.mark.parametrize("key", ["source", "command"])
def test_defaults_cannot_say_what_runs(problems: Callable[..., list[str]], key: str) -> None:
    assert problems(f'[defaults]\n{key} = "a.py"\n')[0].endswith(
        f"changeover.toml:2: defaults.{key}: belongs to one plugin: [plugins.NAME]"
    )


def test_all_mistakes_are_reported_at_once_one_line_each(
    problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    found = problems(
        "[supervisor]\n"
        "settle = 5\n"
        "[plugins.denoise]\n"
        'source = "denoise.py"\n'
        "qeue = 3\n"
        'workers = "two"\n'
        'full = "blok"\n'
    )

    file = tmp_path / "changeover.toml"
    words = 'must be "block" or "reject", not "blok"; did you mean "block"?'
    assert found == [
        f'{file}:5: plugins.denoise.qeue: unknown key; did you mean "queue"?',
        f'{file}:6: plugins.denoise.workers: must be a whole number, such as 3, not "two"',
        f"{file}:7: plugins.denoise.full: {words}",
        f'{file}:2: supervisor.settle: needs a unit, such as "5s", not 5',
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("workers = 0", "workers: must be at least 1, not 0"),
        ("workers = true", "workers: must be a whole number"),
        ("retries = -1", "retries: must be at least 0, not -1"),
        ('drain_timeout = "30sec"', 'drain_timeout: unknown unit "sec"'),
        ('warm_timeout = "0s"', "warm_timeout: must be longer than zero"),
        ('include = "a"', 'include: must be a list, such as ["a", "b"], not "a"'),
        ("include = [3]", "include.0: must be text, not 3"),
        ("python = 3", "python: must be text, not 3"),
        ('python = " "', 'python: must be text, not " "'),
        ("config = 3", "config: must be a table"),
        ("config = {at = 2024-01-01}", "config: at is a date; write it as text"),
        ("config = {big = 18446744073709551616}", "config: big does not fit into 64 bits"),
        ("env = {A = 1}", "env: A must be text, not 1"),
        ('env = {CHANGEOVER_SLOT = "1"}', "env: CHANGEOVER_SLOT is set by changeover itself"),
        ('pin = "abc"', 'pin: must be "sha256:" and 64 hex digits'),
        ('reload = "on-chang"', 'reload: must be "on-change", "on-signal", "disabled"'),
        ('reload = {every = "10"}', 'reload: needs a unit, such as "10s", not "10"'),
        ('reload = {cron = "61 * * * *"}', 'reload: cron "61 * * * *": Bad minute'),
        ('reload = {cron = "0 0 30 2 *"}', "Bad day-of-month"),
        ('swap = "handoff"\nworkers = 2', "takes workers = 1"),
        ('preload = ["numpy"]', 'takes start = "forkserver"'),
        ('isolation = "sandbox"', 'isolation: must be "trusted", "limited" or "sandboxed", not'),
        ('env_pass = "A"', 'env_pass: must be a list of names, such as ["HTTP_PROXY"], not "A"'),
        ('isolation = "limited"\nenv_pass = ["A=B"]', 'env_pass: "A=B" cannot be the name'),
        ('isolation = "limited"\nenv_pass = ["AWS_*"]', "env_pass: AWS_* is a pattern"),
        ('env_pass = ["A"]', 'which take isolation = "limited" or "sandboxed": trusted has all'),
        ("network = true", 'which take isolation = "limited" or "sandboxed": trusted has all'),
        ('isolation = "limited"\nstart = "forkserver"', 'takes start = "exec" or "spawn"'),
        ('launcher = ["nice"]\nstart = "forkserver"', 'takes start = "exec" or "spawn"'),
        ("max_jobs = 0", 'max_jobs: must be a whole number from 1, such as 1000, or "off", not 0'),
        ("max_jobs = true", "max_jobs: must be a whole number from 1"),
        ('max_jobs = "many"', 'max_jobs: must be a whole number from 1, such as 1000, or "off"'),
        ('max_age = "0s"', "max_age: must be longer than zero"),
        ("max_rss = 512", 'max_rss: needs a unit, such as "512MiB", not 512'),
        ('memory = "0GiB"', "memory: must be more than zero"),
        ('max_rss = "2GiB"\nmemory = "2GiB"', "has a max_rss that is not below its memory"),
        ('max_errors = "1"', 'max_errors: must be a factor, such as "2x", or a rate'),
    ],
)
def test_a_wrong_value_is_refused(
    problems: Callable[..., list[str]], line: str, sentence: str
) -> None:
    (found,) = problems(f'[plugins.p]\nsource = "p.py"\n{line}\n')

    assert sentence in found


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("workers = 1", "needs a source"),
        ('command = ["./a", "{source}"]', "has {source} in its command but no source"),
        ('command = ["./a"]\nobject = "A"', "has an object"),
        ('command = ["./a"]\nstart = "spawn"', "which is always executed"),
        (
            'command = ["./a"]\npython = "python3"',
            "has a python, which runs a Python source, and a",
        ),
        (
            'source = "p.py"\npython = "python3"\nstart = "forkserver"',
            "has a python, which is exec",
        ),
        (
            'source = "p.py"\npython = "python3"\nisolation = "limited"',
            "has a python, which is not contained yet",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_refused(
    problems: Callable[..., list[str]], lines: str, sentence: str
) -> None:
    (found,) = problems(f"[plugins.p]\n{lines}\n")

    assert sentence in found


def test_a_misspelt_source_is_one_mistake(problems: Callable[..., list[str]]) -> None:
    (found,) = problems('[plugins.p]\nsorce = "p.py"\n')

    assert 'unknown key; did you mean "source"?' in found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '[plugin.p]\nsource = "p.py"',
            'changeover.toml:1: plugin: unknown table; did you mean "pl',
        ),
        ("plugins = 3", "plugins: must be a table: [plugins]"),
        ("[plugins]\np = 3", "plugins.p: must be a table: [plugins.NAME], not 3"),
        ('[plugins."a b"]\nsource = "p.py"', "a name is 1 to 64 letters"),
        ("[plugins.p\n", "changeover.toml: is not TOML"),
        (f'[supervisor]\nsocket = "/{"x" * 120}"', "longer than the 107 bytes of a socket's path"),
    ],
)
def test_a_wrong_shape_is_refused(
    problems: Callable[..., list[str]], text: str, sentence: str
) -> None:
    (found,) = problems(text)

    assert sentence in found


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load(tmp_path / "nowhere.toml")


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match=r"binary\.toml: is not UTF-8"):
        load(path)


def test_without_a_file_there_are_no_plugins() -> None:
    assert load(None, ["settle=100ms"]).supervisor.settle_s == 0.1


TWO = '[plugins.a]\nsource = "a.py"\nworkers = 2\n[plugins."b.c"]\nsource = "b.py"\n'


def test_an_override_without_a_name_is_for_every_plugin(loaded: Load) -> None:
    config = loaded(TWO, "workers=3")

    assert [plugin.workers for plugin in config.plugins.values()] == [3, 3]


def test_an_override_with_a_name_wins(loaded: Load) -> None:
    config = loaded(TWO, "b.c.workers=5", "workers=3", "plugins.a.queue=7")

    assert [plugin.workers for plugin in config.plugins.values()] == [3, 5]
    assert config.plugins["a"].queue == 7


def test_overrides_reach_the_supervisor_and_the_log(loaded: Load) -> None:
    config = loaded("", "settle=1s", "supervisor.max_spawns=4", "allow_add=true", "log.level=debug")

    assert config.supervisor == SupervisorSpec(
        settle_s=1.0, max_spawns=4, allow_add=True, log_level="debug"
    )


def test_an_override_may_be_a_list_or_a_table(loaded: Load) -> None:
    config = loaded(TWO, 'include=["*.onnx"]', "a.config={strength = 1}", 'reload={every = "5s"}')

    assert config.plugins["a"].include == ("*.onnx",)
    assert config.plugins["a"].config == {"strength": 1}
    assert config.plugins["a"].reload == Every(5.0)


def test_an_override_of_text_stays_text(loaded: Load) -> None:
    assert loaded("", "name=123").supervisor.name == "123"


def test_paths_of_overrides_are_relative_to_the_current_folder(
    loaded: Load, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)

    assert loaded(TWO, "a.source=new.py").plugins["a"].source == str(here / "new.py")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("wrokers=3", '-o wrokers=3: unknown key "wrokers"; did you mean "workers"?'),
        ("a.qeue=3", '-o a.qeue=3: unknown key "qeue"; did you mean "queue"?'),
        ("aa.queue=3", '-o aa.queue=3: no plugin "aa"; did you mean "a"?'),
        (
            "supervisor.setle=1s",
            '-o supervisor.setle=1s: unknown key "setle"; did you mean "settle"?',
        ),
        ("workers", "-o workers: must be KEY=VALUE, such as -o workers=3"),
        ("workers=many", '-o workers=many: must be a whole number, such as 3, not "many"'),
        ("settle=5", '-o settle=5: needs a unit, such as "5s", not 5'),
        ("source=a.py", "-o source=a.py: belongs to one plugin: -o NAME.source=…"),
    ],
)
def test_a_wrong_override_is_refused(
    problems: Callable[..., list[str]], override: str, line: str
) -> None:
    assert problems(TWO, override) == [line]


def test_the_same_file_is_read_again_with_the_same_overrides(loaded: Load, tmp_path: Path) -> None:
    config = loaded(TWO, "workers=3")
    (tmp_path / "changeover.toml").write_text('[plugins.new]\nsource = "n.py"\n')

    again = config.read_again()

    assert {name: plugin.workers for name, plugin in again.plugins.items()} == {"new": 3}


def test_add_takes_every_key_of_the_config(tmp_path: Path) -> None:
    spec = plugin_spec("p", {"source": "p.py", "workers": 2, "drain_timeout": "5s"}, tmp_path)

    source = str(tmp_path / "p.py")
    assert spec == PluginSpec(name="p", source=source, workers=2, drain_timeout_s=5.0)


def test_add_takes_a_pickled_callable(tmp_path: Path) -> None:
    assert plugin_spec("p", {"source": b"pickle"}, tmp_path).pickled == b"pickle"


def test_add_lies_between_the_defaults_and_the_overrides(tmp_path: Path) -> None:
    layers = Layers(below={"workers": 4, "queue": 9}, above={"retries": 2})

    spec = plugin_spec("p", {"source": "p.py", "queue": 5, "retries": 1}, tmp_path, layers)

    assert (spec.workers, spec.queue, spec.retries) == (4, 5, 2)


@pytest.mark.parametrize(
    ("name", "mapping", "problems"),
    [
        ("p", {"sorce": "p.py"}, ['p.sorce: unknown key; did you mean "source"?']),
        ("p", {}, ['p: needs a source, such as source = "plugins/denoise.py", or a command']),
        ("p", {3: 4}, ["p: has a key that is not text"]),
        (
            "p",
            {"source": b"x", "include": ["a"]},
            ["p: includes files, but a callable has none beside it"],
        ),
        (
            "p",
            {"source": b"x", "command": ["a"]},
            ["p: has a callable as its source and a command: one of the two"],
        ),
        (
            "p",
            {"source": "p.py", "workers": 0, "settle": "1s"},
            ["p.workers: must be at least 1, not 0", "p.settle: unknown key"],
        ),
    ],
)
def test_add_reports_all_mistakes(
    tmp_path: Path, name: str, mapping: dict[Any, Any], problems: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        plugin_spec(name, mapping, tmp_path)
    assert caught.value.problems == problems


@pytest.mark.parametrize("name", ["", "-o", ".hidden", "a/b", "a b", "x" * 65, "é"])
def test_add_refuses_a_name_that_is_not_safe(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="a name is 1 to 64 letters"):
        plugin_spec(name, {"source": "p.py"}, tmp_path)


def test_what_a_worker_is_started_with_takes_a_changeover() -> None:
    assert {"source", "config", "env", "workers", "start", "pin"} <= CHANGEOVER_KEYS
    assert {"queue", "timeout", "drain_timeout", "reload", "swap"} <= LIVE_KEYS


def test_changed_keys_are_told_apart_by_what_they_take() -> None:
    old = PluginSpec(name="p", source="/p.py")
    new = dataclasses.replace(old, queue=1, restart_max_s=1.0, workers=2, pickled=b"x", source="")

    assert changed_keys(old, new) == ({"queue", "restart"}, {"workers", "source"})
