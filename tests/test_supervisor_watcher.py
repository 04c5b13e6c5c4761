"""Changes of real files, however they are made, become one candidate each, or none.

Unless a test is about it, the sweep never comes: what is found is found by events.
"""

# ruff: noqa: ASYNC240 - these tests play the person who writes the files

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from changeover.supervisor.digest import (
    CHUNK_BYTES,
    Fingerprint,
    compute_hash,
    fingerprint,
    go_on,
    read_files,
)
from changeover.supervisor.look import Look, look
from changeover.supervisor.source import SourceSet
from changeover.supervisor.spec import PluginSpec
from changeover.supervisor.watcher import Mode, Watcher

DEADLINE_S = 20.0
SETTLE_S = 0.2
PATIENT_S = 0.6  # for writers who pause between two writes
NEVER_S = 3600.0
TWIN_A = b'ANSWER = "102WY1n8OsXAOCG8"\n'
TWIN_B = b'ANSWER = "400AD19AA10E0BA6"\n'


class Helper(ThreadPoolExecutor):
    """The one helper thread, which also tells the test what each look has found."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self.looks: asyncio.Queue[Look] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._tell)
        return future

    def _tell(self, future: Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None:
            for look in future.result():
                self._loop.call_soon_threadsafe(self.looks.put_nowait, look)


class Bench:
    """A watcher, and what it has told."""

    def __init__(self, mode: Mode, settle_s: float, sweep_s: float) -> None:
        self.helper = Helper()
        self.candidates: asyncio.Queue[tuple[str, Fingerprint]] = asyncio.Queue()
        self.notes: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.watcher = Watcher(
            settle_s=settle_s,
            mode=mode,
            executor=self.helper,
            on_candidate=lambda name, found: self.candidates.put_nowait((name, found)),
            on_note=lambda name, words: self.notes.put_nowait((name, words)),
            sweep_s=sweep_s,
        )

    def watch(self, name: str, path: Path, *include: str) -> None:
        """Watch from what the file holds now, as after a first load."""
        source = SourceSet.of(PluginSpec(name=name, source=str(path), include=include))
        listing = source.resolve()
        self.watcher.watch(name, source, fingerprint(listing.files, tree=listing.tree))

    async def settled(self) -> None:
        """Until the content at the start has been read twice, and recognised."""
        await self.readings(2)

    async def readings(self, count: int) -> list[Look]:
        found: list[Look] = []
        while len(found) < count:
            look = await self.helper.looks.get()
            found += [look] if look.sight.fingerprint is not None else []
        return found

    async def next_look(self) -> Look:
        """One that begins from now on."""
        while not self.helper.looks.empty():
            self.helper.looks.get_nowait()
        return await self.helper.looks.get()

    async def candidate(self) -> tuple[str, str]:
        name, found = await self.candidates.get()
        return name, found.digest

    async def expect_only(self, path: Path, *contents: bytes) -> None:
        """These candidates of p, and no other: a last one is made, and is the next to come."""
        for content in contents:
            assert await self.candidate() == ("p", sha(content))
        path.parent.mkdir(exist_ok=True)
        replace(path, b"# the last one")
        assert await self.candidate() == ("p", sha(b"# the last one"))


@asynccontextmanager
async def bench(
    mode: Mode = "auto", settle_s: float = SETTLE_S, sweep_s: float = NEVER_S
) -> AsyncIterator[Bench]:
    made = Bench(mode, settle_s, sweep_s)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield made
    finally:
        await made.watcher.close()
        made.helper.shutdown()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def replace(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    new.replace(path)


def run_on(
    path: Path,
    scenario: Callable[[Bench], Awaitable[None]],
    mode: Mode = "auto",
    settle_s: float = SETTLE_S,
    sweep_s: float = NEVER_S,
) -> None:
    """Watch `path` as the plugin p until it is known, then let the scenario happen."""

    async def run() -> None:
        async with bench(mode, settle_s, sweep_s) as made:
            made.watch("p", path)
            await made.settled()
            await scenario(made)

    asyncio.run(run())


@pytest.fixture
def live(tmp_path: Path) -> Path:
    path = tmp_path / "plugins" / "p.py"
    path.parent.mkdir()
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize("mode", ["auto", "poll"])
def test_a_new_content_is_one_candidate_with_both_hashes(live: Path, mode: Mode) -> None:
    async def scenario(bench: Bench) -> None:
        replace(live, b"new")
        found = await bench.candidates.get()
        assert found == ("p", Fingerprint(digest=sha(b"new"), hash=compute_hash(b"new")))
        await bench.expect_only(live)

    run_on(live, scenario, mode)


def test_off_means_off(live: Path) -> None:
    async def run() -> None:
        async with bench("off") as made:
            made.watch("p", live)
            replace(live, b"new")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3 * SETTLE_S):
                    await made.helper.looks.get()

    asyncio.run(run())


def test_fifty_writes_are_one_candidate(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        for number in range(50):
            live.write_bytes(f"# {number}".encode())
            if number % 10 == 0:
                await bench.next_look()
        await bench.expect_only(live, b"# 49")

    run_on(live, scenario, settle_s=PATIENT_S)


def test_a_slow_copy_in_place_is_one_candidate(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        with live.open("wb", buffering=0) as file:
            for part in (b"a" * 1000, b"b" * 1000, b"c" * 1000):
                file.write(part)
                await bench.next_look()
        await bench.expect_only(live, b"a" * 1000 + b"b" * 1000 + b"c" * 1000)

    run_on(live, scenario, settle_s=PATIENT_S)


def test_a_file_left_empty_is_reported_once(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        os.truncate(live, 0)
        await bench.expect_only(live, b"")

    run_on(live, scenario)


def test_touch_is_read_and_is_no_candidate(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        os.utime(live)
        looks = await bench.readings(2)
        assert {look.sight.fingerprint.digest for look in looks if look.sight.fingerprint} == {
            sha(b"old")
        }
        await bench.expect_only(live)

    run_on(live, scenario)


def test_there_and_back_within_settle_is_no_candidate(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        replace(live, b"new")
        replace(live, b"old")
        await bench.readings(2)
        await bench.expect_only(live)

    run_on(live, scenario)


def test_same_size_and_mtime_with_other_bytes_is_a_candidate(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        times = live.stat()
        live.write_bytes(b"new")
        os.utime(live, ns=(times.st_atime_ns, times.st_mtime_ns))
        await bench.expect_only(live, b"new")

    run_on(live, scenario)


def test_an_older_file_is_a_candidate(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        older = live.with_name("older")
        older.write_bytes(b"new")
        os.utime(older, (1, 1))
        older.replace(live)
        await bench.expect_only(live, b"new")

    run_on(live, scenario)


def test_a_hard_link_in_its_place_is_a_candidate(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        kept = live.parent.parent / "kept"
        kept.write_bytes(b"new")
        os.utime(kept, ns=(live.stat().st_atime_ns, live.stat().st_mtime_ns))
        os.link(kept, live.with_name("swap"))
        live.with_name("swap").replace(live)
        await bench.expect_only(live, b"new")

    run_on(live, scenario)


def test_a_crafted_collision_of_the_trigger_is_a_candidate(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        replace(live, TWIN_A)
        assert await bench.candidate() == ("p", sha(TWIN_A))
        live.write_bytes(TWIN_B)
        await bench.expect_only(live, TWIN_B)

    run_on(live, scenario)


def test_a_link_that_is_flipped_is_a_candidate(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "p.py").write_text(version)
    current = tmp_path / "current"
    current.symlink_to("v1")

    async def scenario(bench: Bench) -> None:
        (tmp_path / "new").symlink_to("v2")
        (tmp_path / "new").replace(current)
        await bench.expect_only(tmp_path / "v2" / "p.py", b"v2")

    run_on(current / "p.py", scenario)


def test_a_gap_between_unlink_and_rename_is_not_told(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        live.unlink()
        replace(live, b"new")
        await bench.expect_only(live, b"new")
        assert bench.notes.empty()

    run_on(live, scenario)


def test_a_source_that_stays_away_is_told_once_and_seen_when_it_is_back(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        live.unlink()
        name, words = await bench.notes.get()
        assert (name, words.split("\n")[0]) == ("p", f"{live} does not exist")
        live.write_bytes(b"old")
        await bench.readings(2)
        await bench.expect_only(live)
        assert bench.notes.empty()

    run_on(live, scenario)


def test_a_folder_that_is_replaced_goes_on_being_watched(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        for content in (b"second", b"third"):
            shutil.rmtree(live.parent)
            live.parent.mkdir()
            live.write_bytes(content)
            assert await bench.candidate() == ("p", sha(content))
        await bench.expect_only(live)

    run_on(live, scenario)


def test_a_folder_that_is_moved_away_and_back_goes_on_being_watched(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        live.parent.rename(live.parent.with_name("away"))
        await bench.notes.get()
        live.parent.with_name("away").rename(live.parent)
        await bench.expect_only(live)

    run_on(live, scenario)


def test_a_write_that_makes_no_event_is_found_by_the_sweep(live: Path) -> None:
    """Events are those of the watched folder; this one writes by a name in another."""
    elsewhere = live.parent.parent / "elsewhere"
    os.link(live, elsewhere)

    async def scenario(bench: Bench) -> None:
        elsewhere.write_bytes(b"new")
        await bench.expect_only(live, b"new")

    run_on(live, scenario, sweep_s=0.3)


def test_a_new_import_is_part_of_the_source_from_then_on(live: Path) -> None:
    async def run() -> None:
        async with bench() as made:
            made.watch("p", live)
            await made.settled()
            helper = live.with_name("helper.py")
            helper.write_bytes(b"X = 1")
            replace(live, b"import helper")
            tree = [("helper.py", str(helper)), ("p.py", str(live))]
            assert await made.candidate() == ("p", fingerprint(tree, tree=True).digest)
            replace(helper, b"X = 2")
            assert await made.candidate() == ("p", fingerprint(tree, tree=True).digest)

    asyncio.run(run())


def test_a_file_that_went_counts_as_a_change_of_now(live: Path) -> None:
    """The files that stay are old; only their folder knows. Its time is set ahead to show it."""
    in_an_hour_s = live.stat().st_mtime + 3600
    os.utime(live.parent, (in_an_hour_s, in_an_hour_s))
    found = look(SourceSet.of(PluginSpec(name="p", source=str(live))), (), False, go_on)
    assert found.sight.changed_ago_s < -3000


def test_a_folder_source_sees_files_that_come_and_go_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "plug"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.py").write_text("a")

    async def run() -> None:
        async with bench() as made:
            made.watch("p", folder)
            await made.settled()
            before = fingerprint([("sub/a.py", str(folder / "sub" / "a.py"))], tree=True)
            (folder / "sub" / "b.py").write_text("b")
            assert (await made.candidate())[1] != before.digest
            (folder / "sub" / "b.py").unlink()
            assert await made.candidate() == ("p", before.digest)

    asyncio.run(run())


def test_sources_in_different_folders_have_candidates_of_their_own(tmp_path: Path) -> None:
    paths = {name: tmp_path / name / "p.py" for name in ("one", "two", "three")}

    async def run() -> None:
        async with bench() as made:
            for name, path in paths.items():
                path.parent.mkdir()
                path.write_bytes(b"old")
                made.watch(name, path)
            await made.readings(6)
            for name, path in paths.items():
                replace(path, name.encode())
            found = {await made.candidate() for _ in paths}
            assert found == {(name, sha(name.encode())) for name in paths}

    asyncio.run(run())


def test_an_unwatched_plugin_is_reported_no_more(live: Path) -> None:
    async def scenario(bench: Bench) -> None:
        fence = live.with_name("fence.py")
        fence.write_bytes(b"old")
        bench.watch("fence", fence)
        await bench.readings(2)
        replace(live, b"new")
        bench.watcher.unwatch("p")
        replace(fence, b"new")
        assert await bench.candidate() == ("fence", sha(b"new"))
        assert bench.candidates.empty()

    run_on(live, scenario)


def test_what_was_just_staged_is_not_read_again_and_nothing_is_polled(live: Path) -> None:
    async def run() -> None:
        async with bench() as made:
            source = SourceSet.of(PluginSpec(name="p", source=str(live)))
            reading = read_files(source.resolve().files, tree=False)
            made.watcher.watch("p", source, reading.fingerprint, reading.keys)
            first, begun = await made.helper.looks.get(), await made.helper.looks.get()
            assert (first.sight.fingerprint, begun.sight.fingerprint) == (None, None)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3 * SETTLE_S):
                    await made.helper.looks.get()

    asyncio.run(run())


def test_closing_ends_a_long_reading_at_its_next_chunk(live: Path) -> None:
    live.write_bytes(bytes(3 * CHUNK_BYTES))
    reading, closed = threading.Event(), threading.Event()
    chunks = 0

    def breathe() -> None:
        nonlocal chunks
        chunks += 1
        reading.set()
        closed.wait(DEADLINE_S)

    async def run() -> None:
        with ThreadPoolExecutor(1) as helper:
            watcher = Watcher(
                settle_s=0.0,
                mode="poll",
                executor=helper,
                on_candidate=lambda _name, _found: None,
                on_note=lambda _name, _words: None,
                breathe=breathe,
            )
            watcher.watch("p", SourceSet.of(PluginSpec(name="p", source=str(live))))
            assert await asyncio.to_thread(reading.wait, DEADLINE_S)
            async with asyncio.timeout(DEADLINE_S / 2):
                await watcher.close()
            closed.set()

    asyncio.run(run())
    assert chunks == 1


def test_without_events_it_looks_by_itself_and_says_so(live: Path) -> None:
    command = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow user namespaces")
    script = """
        import asyncio, sys
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from changeover.supervisor.digest import fingerprint
        from changeover.supervisor.source import SourceSet
        from changeover.supervisor.spec import PluginSpec
        from changeover.supervisor.watcher import Watcher

        Path("/proc/sys/user/max_inotify_instances").write_text("0")
        live = Path(sys.argv[1])

        async def main():
            notes, found = asyncio.Queue(), asyncio.Queue()
            with ThreadPoolExecutor(1) as helper:
                watcher = Watcher(
                    settle_s=0.1, mode="auto", executor=helper, sweep_s=3600.0,
                    on_candidate=lambda name, new: found.put_nowait((name, new.digest)),
                    on_note=lambda name, words: notes.put_nowait((name, words)),
                )
                source = SourceSet.of(PluginSpec(name="p", source=str(live)))
                watcher.watch("p", source, fingerprint(source.resolve().files, tree=False))
                async with asyncio.timeout(10):
                    print(await notes.get())
                    live.write_bytes(b"new")
                    print(await found.get())
                await watcher.close()

        asyncio.run(main())
    """
    done = subprocess.run(
        [*command, sys.executable, "-c", dedent(script), live],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "file events do not work here: " in done.stdout
    assert "looking every 0.1 s instead" in done.stdout
    assert sha(b"new") in done.stdout
