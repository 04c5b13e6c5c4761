"""How each worker is to be started: its `LaunchSpec`, out of the plugin's keys and its release.

Makes the folders and the runtime that the worker needs, and remembers which variables it was not
given, to say so when it fails for want of one. Starts nothing.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..protocol.errors import Fault
from .containment import Containment, programs
from .environment import explain_withheld
from .folders import Folders
from .launch import LaunchSpec
from .runtime import Runtime
from .source import staged_command
from .spec import PluginSpec
from .worker import Worker

if TYPE_CHECKING:
    from .shell import Shell


class LaunchSpecs:
    """For the workers of one supervisor."""

    def __init__(self, shell: Shell, supervisor_id: str, state_dir: Path) -> None:
        self._shell = shell
        self._id = supervisor_id
        self._runtime = Runtime(state_dir / "runtime")
        self._folders = Folders(state_dir, supervisor_id, shell.files)
        self._withheld: dict[str, set[str]] = {}  # by worker, until it is forgotten

    async def of(self, worker: Worker) -> LaunchSpec:
        """What to start. Raises OSError where a folder or file of ours cannot be made."""
        spec, release = worker.generation.spec, worker.generation.release
        runtime = await self._runtime_for(spec)
        state_dir, tmp_dir = str(self._folders.of_plugin(spec.name)), ""
        if spec.isolation != "trusted":
            tmp_dir = str(self._folders.of_worker(worker.id))
        launch = LaunchSpec(
            plugin=spec.name,
            worker=f"{self._id}/{worker.id}",
            slot=worker.slot,
            start=_start_method(spec),
            command=staged_command(spec.command, release.path) if spec.command else (),
            python=_interpreter(spec.python),
            runtime=runtime,
            source=release.path,
            shown=release.shown,
            object=spec.object,
            pickled=bool(spec.pickled),
            env=spec.env,
            env_pass=spec.env_pass,
            containment=self._containment(spec, release.digest, state_dir, tmp_dir),
            launcher=spec.launcher,
            preload=spec.preload,
            state_dir=state_dir,
            tmp_dir=tmp_dir,
        )
        self._withheld[worker.id] = launch.withheld()
        return launch

    async def _runtime_for(self, spec: PluginSpec) -> str:
        """What another interpreter runs; the supervisor's own has it installed."""
        if not spec.python:
            return ""
        loop = asyncio.get_running_loop()
        return str(await loop.run_in_executor(self._shell.files, self._runtime.path))

    def _containment(
        self, spec: PluginSpec, digest: str, state_dir: str, tmp_dir: str
    ) -> Containment:
        if spec.isolation == "trusted":
            return Containment()
        root = self._shell.staging.root(digest)
        return Containment(
            level=spec.isolation,
            network=spec.network,
            read=(str(root), *programs(spec.command)),
            write=(state_dir, tmp_dir),
        )

    def explain(self, worker: Worker, fault: Fault) -> None:
        """If it names a variable that the worker was not given, say so."""
        explain_withheld(fault, self._withheld[worker.id])

    def forget(self, worker: Worker) -> None:
        """It has left, or never came."""
        self._withheld.pop(worker.id, None)
        self._folders.discard(worker.id)


def _start_method(spec: PluginSpec) -> Any:
    if spec.start != "auto":
        return spec.start
    return "spawn" if spec.pickled else "exec"


def _interpreter(python: str) -> str:
    """The program itself where the folder of a venv is named; a name is left to PATH."""
    is_folder = os.path.isabs(python) and os.path.isdir(python)
    return os.path.join(python, "bin", "python") if is_folder else python
