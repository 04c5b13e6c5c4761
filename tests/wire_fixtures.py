"""What the tests of the wire share: one supervisor, and a client for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipes import Hold
from tests.wire import PLUGINS, Supervisor, Wire

CONFIG = f"""
[supervisor]
allow_add = true

[defaults]
kill_grace = "300ms"

[plugins.echo]
source = "{PLUGINS}/echoes.py"

[plugins.yields]
source = "{PLUGINS}/yields.py"

[plugins.hold]
source = "{PLUGINS}/holds.py"

[plugins.heed]
source = "{PLUGINS}/heeds.py"
"""


@pytest.fixture(scope="session")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    folder = tmp_path_factory.mktemp("calls")
    (folder / "changeover.toml").write_text(CONFIG)
    with Supervisor(folder) as supervisor:
        yield supervisor


@pytest.fixture
def wire(supervisor: Supervisor) -> Iterator[Wire]:
    with supervisor.connect() as wire:
        yield wire


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    hold = Hold(tmp_path)
    yield hold
    hold.close()


@pytest.fixture
def other_hold(tmp_path: Path) -> Iterator[Hold]:
    hold = Hold(tmp_path, "other")
    yield hold
    hold.close()


@pytest.fixture
def own(wire: Wire, request: pytest.FixtureRequest) -> Iterator[str]:
    """A plugin for this test alone: `@pytest.mark.parametrize("own", [{keys}], indirect=True)`."""
    name = f"own{abs(hash(request.node.name)) % 10**9}"
    given = getattr(request, "param", {})
    wire.call("add", name, {"source": str(PLUGINS / "holds.py"), "kill_grace": "300ms", **given})
    yield name
    wire.call("remove", name)


def with_keys(**keys: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("own", [keys], indirect=True, ids=["own"])
