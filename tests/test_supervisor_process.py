"""Real workers of all three starts: how they end, and what is left of them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from changeover.protocol.framing import Splitter
from changeover.protocol.messages import Message, open_message, request
from changeover.supervisor import process
from changeover.supervisor.children import Children, Exit, become_subreaper
from changeover.supervisor.containment import Containment
from changeover.supervisor.descriptors import readable
from changeover.supervisor.launch import LaunchSpec
from changeover.supervisor.launcher import Launcher
from changeover.supervisor.logs import StderrPump
from changeover.supervisor.process import Process
from tests.serving import need_level

PLUGINS = Path(__file__).parent / "plugins"
DEADLINE_S = 10.0
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")

Start = Literal["exec", "spawn", "forkserver"]


class Worker:
    """A started worker with its pipes, as a supervisor would hold it."""

    def __init__(self, workshop: Workshop, started: Any) -> None:
        self.exits: list[Exit] = []
        self.ended = asyncio.Event()
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self.process = Process(started, workshop.children, self._on_exit)
        self.log = StderrPump(started.stderr_fd, self._lines.put_nowait)
        self.stdin, self.stdout = started.stdin_fd, started.stdout_fd
        self._splitter = Splitter()
        self._messages: list[bytes] = []

    async def exit(self) -> Exit:
        await asyncio.wait_for(self.ended.wait(), DEADLINE_S)
        return self.exits[0]

    async def loaded(self) -> Worker:
        await self.ask("hello", {"protocol": [1]})
        loaded = await self.ask("load", {"reason": "start", "config": {}})
        assert not loaded.error, loaded.error
        return self

    async def run(self, *args: Any) -> Message:
        return await self.ask("job", "j1", "run", list(args), {})

    def send(self, method: str, *params: Any) -> None:
        os.write(self.stdin, request(1, method, params))

    async def ask(self, method: str, *params: Any) -> Message:
        self.send(method, *params)
        return await self.receive()

    async def receive(self) -> Message:
        while not self._messages:
            await asyncio.wait_for(readable(self.stdout), DEADLINE_S)
            self.read()
        return open_message(self._messages.pop(0))

    async def logs(self, text: str) -> str:
        """Wait for a line of the log that has this in it."""
        while text not in (line := await asyncio.wait_for(self._lines.get(), DEADLINE_S)):
            pass
        return line

    def read(self) -> None:
        data = os.read(self.stdout, 1 << 16)
        assert data, f"the worker closed its output: {self.log.stderr_tail}"
        self._splitter.feed(data)
        self._messages += self._splitter

    async def clear(self) -> None:
        self.process.kill()
        await self.exit()
        self.log.close()
        os.close(self.stdin)
        os.close(self.stdout)

    def _on_exit(self, ended: Exit) -> None:
        self.exits.append(ended)
        self.ended.set()


class Workshop:
    """What starts workers, and clears up after them."""

    def __init__(self) -> None:
        self.children = Children()
        self.said: list[str] = []
        self.launcher = Launcher(self.children, self.said.append)
        self.workers: list[Worker] = []

    async def start(self, start: Start, plugin: str = "dies", **spec: Any) -> Worker:
        number = len(self.workers)
        spec = {"source": str(PLUGINS / f"{plugin}.py"), "slot": number, **spec}
        launch = LaunchSpec(plugin=plugin, worker=f"s{os.getpid()}/w{number}", start=start, **spec)
        worker = Worker(self, await asyncio.wait_for(self.launcher.start(launch), DEADLINE_S))
        self.workers.append(worker)
        return worker


@asynccontextmanager
async def open_workshop() -> AsyncIterator[Workshop]:
    become_subreaper()
    workshop = Workshop()
    workshop.children.attach()
    try:
        yield workshop
    finally:
        for worker in workshop.workers:
            await worker.clear()
        await workshop.launcher.close()
        assert await workshop.children.swept(DEADLINE_S)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)


Story = Callable[[Workshop], Coroutine[Any, Any, None]]


def play(story: Story) -> None:
    async def run() -> None:
        async with open_workshop() as workshop:
            await story(workshop)

    asyncio.run(run())


@pytest.fixture(params=["exec", "spawn", "forkserver"])
def start(request: pytest.FixtureRequest) -> Start:
    kind: Start = request.param
    return kind


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)


class Held:
    """The reading end of a FIFO that a descendant holds: its end of file is that one's death."""

    def __init__(self, fifo: str) -> None:
        self._fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    async def __aenter__(self) -> None:
        assert await self._read() == b"here\n"

    async def __aexit__(self, *_: object) -> None:
        try:
            assert await self._read() == b""
        finally:
            os.close(self._fd)

    async def _read(self) -> bytes:
        await asyncio.wait_for(readable(self._fd), DEADLINE_S)
        return os.read(self._fd, 100)


def test_an_exit_status_is_told_once(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start)).loaded()
        assert worker.process.is_alive()
        worker.send("job", "j1", "run", {"status": 7}, {})

        assert await worker.exit() == Exit(7, None)
        assert not worker.process.is_alive()
        assert await workshop.children.swept(DEADLINE_S)
        assert len(worker.exits) == 1

    play(story)


def test_a_signal_is_told_as_one(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start)).loaded()
        worker.send("job", "j1", "run", {"signal": int(signal.SIGSEGV)}, {})

        ended = await worker.exit()
        assert ended == Exit(None, signal.SIGSEGV)
        assert str(ended) == "died of SIGSEGV"

    play(story)


def test_the_end_of_input_ends_a_worker(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start)).loaded()
        os.close(worker.stdin)
        worker.stdin = os.open(os.devnull, os.O_RDONLY)

        assert await worker.exit() == Exit(0, None)

    play(story)


def test_what_was_written_before_the_exit_can_be_read_after_it(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start, "ignores_sigterm")).loaded()
        worker.send("job", "j1", "run", [], {})
        await asyncio.wait_for(readable(worker.stdout), DEADLINE_S)
        worker.process.kill()
        assert await worker.exit() == Exit(None, signal.SIGKILL)

        assert (await worker.receive()).result == b"\xaastill here"

    play(story)


def test_terminate_ends_a_worker_that_does_not_mind(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start)).loaded()
        assert worker.process.terminate()

        assert await worker.exit() == Exit(None, signal.SIGTERM)

    play(story)


def test_kill_ends_one_that_does_not_listen(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start, "ignores_sigterm")).loaded()
        assert worker.process.terminate()
        assert (await worker.run()).result == b"\xaastill here"
        assert worker.process.kill()

        assert await worker.exit() == Exit(None, signal.SIGKILL)

    play(story)


def test_one_that_holds_the_gil_in_c_shows_its_stack_and_is_killed(start: Start, fifo: str) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start, "spins_in_c")).loaded()
        worker.send("job", "j1", "run", [fifo], {})
        held = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)  # opens when it is in there
        worker.process.has_stacks = True
        assert worker.process.dump_stacks()
        await worker.logs("spins_in_c.py")
        worker.process.kill()

        assert await worker.exit() == Exit(None, signal.SIGKILL)
        os.close(held)

    play(story)


def test_stacks_are_asked_for_only_where_they_were_offered() -> None:
    async def story(workshop: Workshop) -> None:
        worker = await workshop.start("exec", source="", command=(sys.executable, "-c", "input()"))
        assert not worker.process.dump_stacks()
        os.write(worker.stdin, b"\n")

        assert await worker.exit() == Exit(0, None)

    play(story)


def test_no_stacks_are_asked_of_what_launched_a_worker() -> None:
    async def story(workshop: Workshop) -> None:
        launcher = ("sh", "-c", '"$0" "$@"; exit $?')  # knows no SIGUSR2
        worker = await workshop.start("exec", "ignores_sigterm", launcher=launcher)
        await worker.loaded()
        worker.process.has_stacks = True
        assert not worker.process.dump_stacks()
        assert (await worker.run()).result == b"\xaastill here"
        worker.process.kill()

        assert await worker.exit() == Exit(None, signal.SIGKILL)

    play(story)


def test_a_sandbox_is_killed_whole_but_never_asked_for_stacks_or_to_terminate() -> None:
    need_level("sandboxed")

    async def story(workshop: Workshop) -> None:
        sandboxed = Containment(level="sandboxed", read=(str(PLUGINS),))
        worker = await workshop.start("exec", "ignores_sigterm", containment=sandboxed)
        await worker.loaded()
        worker.process.has_stacks = True
        assert not worker.process.dump_stacks()
        assert not worker.process.terminate()
        assert (await worker.run()).result == b"\xaastill here"
        worker.process.kill()

        assert await worker.exit() == Exit(None, signal.SIGKILL)

    play(story)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGRTMAX])
def test_a_sandboxed_worker_that_dies_of_a_signal_is_told_as_any_other(number: int) -> None:
    need_level("sandboxed")

    async def story(workshop: Workshop) -> None:
        sandboxed = Containment(level="sandboxed", read=(str(PLUGINS),))
        worker = await (await workshop.start("exec", containment=sandboxed)).loaded()
        worker.send("job", "j1", "run", [0, int(number)], {})

        assert await worker.exit() == Exit(None, number)

    play(story)


@pytest.mark.parametrize("status", [0, 3, 126, 128, 255])
def test_a_sandboxed_worker_that_exits_is_told_as_any_other(status: int) -> None:
    need_level("sandboxed")

    async def story(workshop: Workshop) -> None:
        sandboxed = Containment(level="sandboxed", read=(str(PLUGINS),))
        worker = await (await workshop.start("exec", containment=sandboxed)).loaded()
        worker.send("job", "j1", "run", [status, 0], {})

        assert await worker.exit() == Exit(status, None)

    play(story)


def test_a_stopped_one_is_killed(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start)).loaded()
        os.kill(worker.process.pid, signal.SIGSTOP)
        worker.process.kill()

        assert await worker.exit() == Exit(None, signal.SIGKILL)

    play(story)


def test_terminate_reaches_a_stopped_one(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start)).loaded()
        os.kill(worker.process.pid, signal.SIGSTOP)
        worker.process.terminate()

        assert await worker.exit() == Exit(None, signal.SIGTERM)

    play(story)


def test_a_child_in_its_group_ends_with_it_and_does_not_delay_its_exit(
    start: Start, fifo: str
) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start, "leaks_child")).loaded()
        held = Held(fifo)
        await worker.run(fifo)
        async with held:
            os.kill(worker.process.pid, signal.SIGKILL)

            assert await worker.exit() == Exit(None, signal.SIGKILL)

    play(story)


def test_a_child_in_another_session_is_found_and_killed(start: Start, fifo: str) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start, "leaks_child")).loaded()
        held = Held(fifo)
        await worker.run(fifo, True)
        async with held:
            worker.process.kill()
            await worker.exit()
        assert await workshop.children.swept(DEADLINE_S)

    play(story)


def test_a_double_forked_daemon_is_found_and_killed(start: Start, fifo: str) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start, "double_forks")).loaded()
        neighbour = await (await workshop.start(start, "ignores_sigterm")).loaded()
        held = Held(fifo)
        await worker.run(fifo)
        async with held:
            os.close(worker.stdin)  # it leaves in good order, and still
            worker.stdin = os.open(os.devnull, os.O_RDONLY)
            assert await worker.exit() == Exit(0, None)

        assert (await neighbour.run()).result == b"\xaastill here"

    play(story)


def test_an_escaped_process_lives_as_long_as_its_worker(start: Start, fifo: str) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start, "double_forks")).loaded()
        neighbour = await (await workshop.start(start)).loaded()
        held = Held(fifo)
        await worker.run(fifo)
        async with held:
            neighbour.process.kill()
            await neighbour.exit()
            assert await workshop.children.swept(DEADLINE_S)
            assert _tagged(worker.process.worker) == 2  # the worker and its daemon
            worker.process.kill()

    play(story)


def _tagged(worker: str) -> int:
    entry = f"CHANGEOVER_WORKER={worker}".encode()
    count = 0
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            count += entry in environ.read_bytes().split(b"\0")
        except OSError:
            continue  # gone, or a kernel thread
    return count


def test_an_orphan_that_ends_by_itself_is_reaped() -> None:
    async def story(workshop: Workshop) -> None:
        script = "(exec 1>&- 2>&-; read line <&3) 3<&0 & echo $!; read line"
        worker = await workshop.start("exec", command=("sh", "-c", script))
        await asyncio.wait_for(readable(worker.stdout), DEADLINE_S)
        orphan = int(os.read(worker.stdout, 100))
        pidfd = os.pidfd_open(orphan)
        os.kill(worker.process.pid, signal.SIGKILL)
        await worker.exit()
        await asyncio.wait_for(readable(pidfd), DEADLINE_S)
        os.close(pidfd)
        assert await workshop.children.swept(DEADLINE_S)

        with pytest.raises(ProcessLookupError):
            os.kill(orphan, 0)

    play(story)


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="pids cannot be chosen here")
def test_a_stranger_that_got_the_pid_is_not_signalled(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start)).loaded()
        os.kill(worker.process.pid, signal.SIGKILL)
        if start == "forkserver":
            # It was reaped by its parent, and the loop does not know yet.
            _wait(worker.process._started.status_fd)
        else:
            await worker.exit()
        stranger = _start_as(worker.process.pid)
        assert stranger.pid == worker.process.pid
        worker.process.terminate()
        worker.process.kill()
        await worker.exit()
        assert await workshop.children.swept(DEADLINE_S)

        assert stranger.poll() is None
        stranger.communicate(b"", timeout=DEADLINE_S)
        assert stranger.returncode == 0

    play(story)


def _wait(fd: int) -> None:
    assert select.select([fd], [], [], DEADLINE_S)[0]


def _start_as(pid: int) -> subprocess.Popen[bytes]:
    """A process with this pid and a group of its own; others may start processes meanwhile."""
    while True:
        LAST_PID.write_text(str(pid - 1))
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True)
        if process.pid == pid:
            return process
        process.communicate(b"")


def test_a_worker_outlives_the_thread_that_asked_for_it(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        loop = asyncio.get_running_loop()

        def ask() -> Worker:
            starting = workshop.start(start, "ignores_sigterm")
            return asyncio.run_coroutine_threadsafe(starting, loop).result(DEADLINE_S)

        loop.set_default_executor(pool := ThreadPoolExecutor(2))
        worker = await loop.run_in_executor(None, ask)
        await worker.loaded()
        pool.shutdown()  # the threads have ended

        assert (await worker.run()).result == b"\xaastill here"

    play(story)


def test_closed_standard_descriptors_do_not_harm_the_protocol(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start, "closes_fds")).loaded()

        assert (await worker.run()).result == b"\xa6closed"
        assert await worker.logs("a p") == "a print"
        assert (await worker.ask("job", "j2", "run", [], {})).error[0] == 1000

    play(story)


def test_a_flood_of_stderr_is_taken_and_bounded(start: Start) -> None:
    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start, "floods_stderr")).loaded()
        size = 64 * 1024 * 1024

        assert (await worker.run(size)).result == b"\xce\x04\x00\x00\x00"
        worker.log.close()
        assert (await worker.logs("bytes cut")).endswith(f"({size - 8192} bytes cut)")

    play(story)


def test_before_linux_6_9_the_group_is_killed_by_number_or_swept(
    start: Start, fifo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_PIDFD_SIGNAL_PROCESS_GROUP", 1 << 30)  # EINVAL, as there

    async def story(workshop: Workshop) -> None:
        worker = await (await workshop.start(start, "leaks_child")).loaded()
        held = Held(fifo)
        await worker.run(fifo)
        async with held:
            worker.process.kill()
            assert await worker.exit() == Exit(None, signal.SIGKILL)

    play(story)
