"""Where the supervisor's socket is."""

from __future__ import annotations

import os

import pytest

from changeover.protocol.paths import default_socket, find_socket


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"RUNTIME_DIRECTORY": "/run/co", "XDG_RUNTIME_DIR": "/run/user/1"}, "/run/co"),
        ({"RUNTIME_DIRECTORY": "/run/co:/run/other"}, "/run/co"),
        ({"XDG_RUNTIME_DIR": "/run/user/1"}, "/run/user/1"),
        ({"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": ""}, f"/tmp/changeover-{os.getuid()}"),
        ({}, f"/tmp/changeover-{os.getuid()}"),
    ],
)
def test_the_runtime_directory_is_the_first_that_is_set(environ: dict[str, str], path: str) -> None:
    assert default_socket(environ=environ) == f"{path}/changeover.sock"


def test_another_name_is_another_socket() -> None:
    assert default_socket("mcr-1", {"XDG_RUNTIME_DIR": "/run/user/1"}) == "/run/user/1/mcr-1.sock"


def test_a_client_prefers_what_it_was_told() -> None:
    environ = {"CHANGEOVER_SOCKET": "/a.sock", "XDG_RUNTIME_DIR": "/run/user/1"}
    assert find_socket("/b.sock", environ) == "/b.sock"
    assert find_socket(None, environ) == "/a.sock"
    assert find_socket(None, {"XDG_RUNTIME_DIR": "/r"}) == "/r/changeover.sock"
