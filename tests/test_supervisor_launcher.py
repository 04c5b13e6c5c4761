"""Starting a worker: what it gets, and what is left when it cannot be started."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from changeover.supervisor.children import Children
from changeover.supervisor.descriptors import readable
from changeover.supervisor.launch import LaunchSpec, SpawnError, Started
from changeover.supervisor.launcher import Launcher

DEADLINE_S = 10.0
SUPERVISOR = f"s{os.getpid()}"


class Bench:
    """A launcher, and what reads a worker's output to its end."""

    def __init__(self) -> None:
        self.children = Children()
        self.said: list[str] = []
        self.launcher = Launcher(self.children, self.said.append)
        self.count = 0

    def spec(self, *command: str, **spec: Any) -> LaunchSpec:
        self.count += 1
        spec = {"plugin": "p", "slot": 0, **spec}
        return LaunchSpec(worker=f"{SUPERVISOR}/w{self.count}", command=command, **spec)

    async def start(self, spec: LaunchSpec) -> Started:
        return await asyncio.wait_for(self.launcher.start(spec), DEADLINE_S)

    async def output(self, spec: LaunchSpec, stdin: bytes = b"") -> str:
        """What the worker writes to stdout until it ends."""
        started = await self.start(spec)
        os.write(started.stdin_fd, stdin)
        text = b""
        while data := await self.read(started.stdout_fd):
            text += data
        await self.end(started)
        return text.decode()

    async def read(self, fd: int) -> bytes:
        await asyncio.wait_for(readable(fd), DEADLINE_S)
        return os.read(fd, 65536)

    async def end(self, started: Started) -> None:
        """End its input, wait for its exit, and let go of it."""
        os.close(started.stdin_fd)
        await asyncio.wait_for(readable(started.pidfd), DEADLINE_S)
        ended = self.children.reap(started.pid, started.pidfd)
        if started.popen is not None:
            started.popen.returncode = ended.code
        for fd in (started.stdout_fd, started.stderr_fd, started.pidfd, started.status_fd):
            if fd >= 0:
                os.close(fd)


def play(story: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        bench = Bench()
        bench.children.attach()
        try:
            await story(bench)
        finally:
            await bench.launcher.close()
            bench.children.reap_orphans()
            asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

    asyncio.run(run())


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", dedent(code))


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules the fork server can import."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_worker_is_named_in_its_environment() -> None:
    async def story(bench: Bench) -> None:
        code = "import json, os; print(json.dumps(dict(os.environ)))"
        spec = bench.spec(
            *python(code),
            slot=3,
            env={"CUDA_VISIBLE_DEVICES": "{slot}", "CHANGEOVER_WORKER": "no", "BRACES": "{a}"},
            state_dir="/state",
        )
        environ = json.loads(await bench.output(spec))

        ours = {key: value for key, value in environ.items() if key.startswith("CHANGEOVER_")}
        assert ours == {
            "CHANGEOVER_PROTOCOLS": "1",
            "CHANGEOVER_PLUGIN": "p",
            "CHANGEOVER_WORKER": spec.worker,
            "CHANGEOVER_SLOT": "3",
            "CHANGEOVER_STATE_DIR": "/state",
        }
        assert environ["CUDA_VISIBLE_DEVICES"] == "3"
        assert environ["BRACES"] == "{a}"
        assert environ["PATH"] == os.environ["PATH"]

    play(story)


def test_a_worker_has_its_three_pipes_and_nothing_else() -> None:
    async def story(bench: Bench) -> None:
        neighbour = await bench.start(bench.spec("cat"))
        code = """
            import fcntl, os
            fds = [fd for fd in range(200) if os.path.exists(f"/proc/self/fd/{fd}")]
            kinds = [os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in fds]
            modes = [bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK) for fd in fds]
            print(fds, kinds, modes, os.getsid(0) == os.getpgid(0) == os.getpid())
        """
        output = await bench.output(bench.spec(*python(code)))
        await bench.end(neighbour)

        assert output.strip() == f"[0, 1, 2] {['pipe'] * 3} {[False] * 3} True"

    play(story)


def test_our_ends_do_not_block_and_are_not_inherited() -> None:
    async def story(bench: Bench) -> None:
        started = await bench.start(bench.spec("cat"))
        for fd in (started.stdin_fd, started.stdout_fd, started.stderr_fd):
            assert not os.get_blocking(fd)
            assert not os.get_inheritable(fd)
        await bench.end(started)

    play(story)


def test_it_starts_where_it_is_told(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        assert await bench.output(bench.spec("pwd", cwd=str(tmp_path))) == f"{tmp_path}\n"

    play(story)


def _script(path: Path, text: str, mode: int) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


BAD: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing": (lambda at: f"{at}/missing", "ENOENT"),
    "not executable": (lambda at: _script(at / "x", "#!/bin/sh\n", 0o644), "EACCES"),
    "no program": (lambda at: _script(at / "x", "hello\n", 0o755), "ENOEXEC"),
    "no interpreter": (lambda at: _script(at / "x", "#!/no/such\n", 0o755), "ENOENT"),
    "a folder": (str, "EACCES"),
    "below a file": (lambda at: _script(at / "x", "", 0o755) + "/y", "ENOTDIR"),
    "a null byte": (lambda at: "a\0b", "null byte"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_executed_is_bad_content(what: str, tmp_path: Path) -> None:
    program, reason = BAD[what]

    async def story(bench: Bench) -> None:
        descriptors = os.listdir("/dev/fd")
        with pytest.raises(SpawnError, match=reason) as caught:
            await bench.start(bench.spec(program(tmp_path)))
        assert not caught.value.bad_luck
        assert os.listdir("/dev/fd") == descriptors

    play(story)


def test_a_command_is_only_ever_executed() -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(SpawnError, match="spawn"):
            await bench.start(bench.spec("cat", start="spawn"))

    play(story)


def test_arguments_that_no_process_takes_are_bad_content() -> None:
    async def story(bench: Bench) -> None:
        for start in ("exec", "spawn", "forkserver"):
            spec = bench.spec(source="/x.py", start=start, env={"BIG": "x" * 20_000_000})
            descriptors = os.listdir("/dev/fd")
            with pytest.raises(SpawnError) as caught:
                await bench.start(spec)
            await bench.launcher.close()
            assert not caught.value.bad_luck
            assert os.listdir("/dev/fd") == descriptors

    play(story)


class FewDescriptors:
    """Leaves so many descriptors to this process, by opening all the others."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._opened: list[int] = []

    def __enter__(self) -> None:
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 40, self._limits[1]))
        with suppress(OSError):
            while True:
                self._opened.append(os.open(os.devnull, os.O_RDONLY))
        self._close(self._left)

    def __exit__(self, *_: object) -> None:
        self._close(len(self._opened))
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)

    def _close(self, count: int) -> None:
        for _ in range(count):
            os.close(self._opened.pop())


@pytest.mark.parametrize("start", ["exec", "spawn", "forkserver"])
def test_a_lack_of_descriptors_is_bad_luck_and_leaves_nothing(
    start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command = ["cat"] if start == "exec" else []
    errors: list[SpawnError] = []

    async def attempt(bench: Bench, left: int) -> Started | None:
        spec = bench.spec(*command, start=start, source="/no/such/plugin.py")
        with FewDescriptors(left):
            try:
                return await bench.start(spec)
            except SpawnError as error:
                errors.append(error)
                return None

    async def story(bench: Bench) -> None:
        for left in range(30):
            descriptors = os.listdir("/dev/fd")
            started = await attempt(bench, left)
            if started is not None:
                await bench.end(started)
            await bench.launcher.close()
            assert os.listdir("/dev/fd") == descriptors

    play(story)
    assert 6 < len(errors) < 25
    assert all(error.bad_luck and "EMFILE" in error.message for error in errors)
    assert not list(tmp_path.iterdir())


NO_MORE_PROCESSES = """
    import os, resource

    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if os.getuid() == 0:  # the limit does not hold for root
        os.setuid(65534)
"""
START_CAT = """
    import asyncio, os
    from changeover.supervisor.children import Children
    from changeover.supervisor.launch import LaunchSpec, SpawnError
    from changeover.supervisor.launcher import Launcher

    async def main():
        launcher = Launcher(Children(), print)
        descriptors = os.listdir("/dev/fd")
        try:
            await launcher.start(LaunchSpec(plugin="p", worker="s/w", slot=0, command=("cat",)))
        except SpawnError as error:
            print(error.bad_luck, os.listdir("/dev/fd") == descriptors, error)

    asyncio.run(main())
"""


def test_a_lack_of_processes_is_bad_luck() -> None:
    # A limit that was lowered is lowered for good: in a process of its own.
    ran = _run(
        "-c",
        dedent(START_CAT.replace("async def main", f"{NO_MORE_PROCESSES}\n    async def main")),
    )

    assert ran.startswith("True True cannot start cat: ")
    assert "(EAGAIN)" in ran


def test_a_fork_server_that_may_not_fork_lives_on(importable: Path) -> None:
    (importable / "no_more_processes.py").write_text(dedent(NO_MORE_PROCESSES))

    async def story(bench: Bench) -> None:
        def spec() -> LaunchSpec:
            preload = ("no_more_processes",)
            return bench.spec(source="/x.py", start="forkserver", preload=preload)

        for _ in range(3):
            with pytest.raises(SpawnError, match="EAGAIN") as caught:
                await bench.start(spec())
            assert caught.value.bad_luck
        [server] = bench.launcher._servers.values()
        assert server._server
        assert not server._server.ended.done()

    play(story)


def _run(*arguments: str | Path) -> str:
    """The output of a Python program that must not fail."""
    ran = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_the_supervisors_main_is_not_run_again(start: str, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        dedent("""
        import asyncio, os, sys
        print("main ran", flush=True)
        from changeover.supervisor.children import Children
        from changeover.supervisor.descriptors import readable
        from changeover.supervisor.launch import LaunchSpec
        from changeover.supervisor.launcher import Launcher

        async def main():
            launcher = Launcher(Children(), print)
            spec = LaunchSpec(
                plugin="p", worker="s/w", slot=0, source="/x.py", start=sys.argv[1],
            )
            started = await launcher.start(spec)
            os.write(started.stdin_fd, b"\\x94\\x00\\x01\\xa5hello\\x90")
            await readable(started.stdout_fd)
            print(os.read(started.stdout_fd, 100))
            os.close(started.stdin_fd)
            await readable(started.pidfd)
            await launcher.close()

        asyncio.run(main())
        """)
    )
    first, answer = _run(script, start).splitlines()

    assert first == "main ran"
    assert "protocol" in answer


def test_preloading_does_not_block_the_loop(importable: Path) -> None:
    fifo = importable / "fifo"
    os.mkfifo(fifo)
    (importable / "slow.py").write_text(f"open({str(fifo)!r}).read()")

    async def story(bench: Bench) -> None:
        spec = bench.spec(source="/x.py", start="forkserver", preload=("slow",))
        starting = asyncio.create_task(bench.start(spec))
        neighbours = [await bench.output(bench.spec("echo", str(n))) for n in range(3)]
        assert neighbours == ["0\n", "1\n", "2\n"]
        assert not starting.done()
        await asyncio.to_thread(fifo.write_bytes, b"go on")
        await bench.end(await starting)

    play(story)


def test_a_start_that_takes_too_long_can_be_given_up(importable: Path) -> None:
    fifo = importable / "fifo"
    os.mkfifo(fifo)
    (importable / "stuck.py").write_text(f"open({str(fifo)!r}).read()")

    async def story(bench: Bench) -> None:
        descriptors = len(os.listdir("/dev/fd"))
        spec = bench.spec(source="/x.py", start="forkserver", preload=("stuck",))
        starting = asyncio.create_task(bench.launcher.start(spec))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await bench.launcher.close()
        assert len(os.listdir("/dev/fd")) == descriptors

    play(story)


def test_a_module_that_cannot_be_preloaded_is_said_and_does_without(importable: Path) -> None:
    (importable / "broken.py").write_text("1 / 0")

    async def story(bench: Bench) -> None:
        preload = ("no_such_module", "broken", "json")
        spec = bench.spec(source="/x.py", start="forkserver", preload=preload)
        await bench.end(await bench.start(spec))

    said: list[str] = []

    async def hear(bench: Bench) -> None:
        bench.said = said
        bench.launcher._say = said.append
        await story(bench)

    play(hear)
    assert len(said) == 2
    assert "'no_such_module' failed (ModuleNotFoundError" in said[0]
    assert "'broken' failed (ZeroDivisionError: division by zero)" in said[1]


@pytest.mark.parametrize(
    ("code", "bad_luck", "how"),
    [
        ("raise SystemExit(3)", False, "exited with status 3"),
        ("import os; os.kill(os.getpid(), 9)", True, "died of SIGKILL"),
    ],
)
def test_a_fork_server_that_does_not_get_there_is_said(
    importable: Path, code: str, bad_luck: bool, how: str
) -> None:
    (importable / "fatal.py").write_text(code)

    async def story(bench: Bench) -> None:
        spec = bench.spec(source="/x.py", start="forkserver", preload=("fatal",))
        with pytest.raises(SpawnError, match=f"fatal preloaded.*{how}") as caught:
            await bench.start(spec)
        assert caught.value.bad_luck == bad_luck

    play(story)


def test_a_fork_server_that_died_is_started_again() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.start(bench.spec(source="/x.py", start="forkserver"))
        [server] = bench.launcher._servers.values()
        assert server._server
        pid = server._server.popen.pid
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(server._server.ended, DEADLINE_S)

        second = await bench.start(bench.spec(source="/x.py", start="forkserver"))
        assert server._server.popen.pid != pid
        await bench.end(first)
        await bench.end(second)

    play(story)


def test_workers_of_one_preload_set_share_a_server_others_do_not() -> None:
    async def story(bench: Bench) -> None:
        specs = [
            bench.spec(source="/x.py", start="forkserver", preload=preload)
            for preload in (("json",), ("json",), ("csv",))
        ]
        workers = await asyncio.gather(*(bench.start(spec) for spec in specs))
        assert len(bench.launcher._servers) == 2
        for worker in workers:
            await bench.end(worker)

    play(story)


def test_a_fork_server_and_its_workers_end_with_the_supervisor() -> None:
    code = """
        import asyncio, os, signal
        from changeover.supervisor.children import Children
        from changeover.supervisor.launch import LaunchSpec
        from changeover.supervisor.launcher import Launcher

        async def main():
            launcher = Launcher(Children(), print)
            spec = LaunchSpec(plugin="p", worker="s/w", slot=0, source="/x.py", start="forkserver")
            started = await launcher.start(spec)
            [server] = launcher._servers.values()
            print(started.pid, server._server.popen.pid, flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)

        asyncio.run(main())
    """
    supervisor = subprocess.Popen(
        [sys.executable, "-c", dedent(code)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert supervisor.stdout
    pidfds = [os.pidfd_open(int(pid)) for pid in supervisor.stdout.readline().split()]
    supervisor.kill()
    supervisor.communicate()

    async def both_end() -> None:
        began = time.monotonic()
        for pidfd in pidfds:
            await asyncio.wait_for(readable(pidfd), DEADLINE_S)
            os.close(pidfd)
        assert time.monotonic() - began < 1

    asyncio.run(both_end())


def test_workers_are_started_by_the_loops_thread_only() -> None:
    async def story(bench: Bench) -> None:
        spec = bench.spec("cat")
        with pytest.raises(RuntimeError, match="the loop's thread"):
            await asyncio.to_thread(asyncio.run, bench.launcher.start(spec))

    play(story)


def test_errors_are_told_in_words() -> None:
    error = SpawnError.of("./denoise", OSError(errno.EMFILE, ""))

    assert error.bad_luck
    assert error.message == (
        "cannot start ./denoise: Too many open files (EMFILE); "
        "this process has no descriptor left: raise LimitNOFILE / ulimit -n"
    )
