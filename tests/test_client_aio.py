"""The asyncio twin over the same peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from changeover.client import (
    AsyncChangeover,
    Cancelled,
    Change,
    Disconnected,
    JobTimeout,
    NoSupervisor,
    PluginError,
    aconnect,
)
from changeover.protocol.errors import Code
from changeover.protocol.messages import Message, unpack

from .client_peer import PATIENCE_S, Peer, args_of, job_of, piped

Ends = tuple[AsyncChangeover, Peer]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with piped() as (co, peer):
        yield AsyncChangeover(co.connection), peer


def run(coroutine: Any) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE_S):
            return await coroutine

    return asyncio.run(bounded())


async def heard(peer: Peer, method: str) -> Message:
    return await asyncio.to_thread(peer.next, method)


def test_a_call_is_awaited(ends: Ends) -> None:
    co, peer = ends

    async def main() -> None:
        call = asyncio.ensure_future(co["x"](3, strength=1))
        message = await heard(peer, "run")
        assert args_of(message) == ([3], {"strength": 1})
        peer.done(message, "fine")
        assert await call == "fine"

    run(main())


def test_many_calls_go_at_once(ends: Ends) -> None:
    co, peer = ends

    async def main() -> None:
        calls = [asyncio.ensure_future(co["x"](n)) for n in range(20)]
        messages = [await heard(peer, "run") for _ in calls]
        for message in reversed(messages):
            peer.done(message, args_of(message)[0][0] * 2)
        assert await asyncio.gather(*calls) == [2 * n for n in range(20)]

    run(main())


def test_a_submitted_job_has_info_and_progress(ends: Ends) -> None:
    co, peer = ends

    async def main() -> None:
        job = await co["x"].submit(1)
        reports: asyncio.Queue[Any] = asyncio.Queue()
        job.on_progress(reports.put_nowait)
        message = await heard(peer, "run")
        peer.notify("progress", job_of(message), {"done": 1, "total": 2, "message": ""})
        assert (await reports.get()).done == 1
        peer.done(message, "fine")
        assert await job == "fine"
        assert await job == "fine"
        assert job.info.release == 1

    run(main())


def test_errors_are_the_same(ends: Ends) -> None:
    co, peer = ends

    async def main() -> None:
        job = await co["x"].submit()
        peer.failed(await heard(peer, "run"), Code.JOB_FAILED, "ValueError: no")
        with pytest.raises(PluginError, match="ValueError: no"):
            await job
        job = await co["x"].submit()
        peer.failed(await heard(peer, "run"), Code.CANCELLED)
        with pytest.raises(Cancelled):
            await job

    run(main())


def test_a_call_whose_task_is_cancelled_cancels_the_job(ends: Ends) -> None:
    co, peer = ends

    async def main() -> None:
        call = asyncio.ensure_future(co["x"]())
        message = await heard(peer, "run")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        cancel = await heard(peer, "cancel")
        assert unpack(cancel.params[0]) == job_of(message)
        peer.failed(message, Code.CANCELLED)

    run(main())


def test_a_wait_that_is_cancelled_leaves_a_submitted_job_alone(ends: Ends) -> None:
    co, peer = ends

    async def main() -> None:
        job = await co["x"].submit()
        message = await heard(peer, "run")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await job
        peer.done(message, "still there")
        assert await job == "still there"

    run(main())


def test_room_in_the_session_is_awaited() -> None:
    with piped(jobs=1) as (plain, peer):
        co = AsyncChangeover(plain.connection)

        async def main() -> None:
            first = await co["x"].submit(1)
            second = asyncio.ensure_future(co["x"](2))
            message = await heard(peer, "run")
            assert not peer.has_input()
            with pytest.raises(JobTimeout, match="room"):
                await co["x"](3, timeout=0.01)
            peer.done(message, "a")
            peer.done(await heard(peer, "run"), "b")
            assert (await first, await second) == ("a", "b")

        run(main())


def test_map_takes_async_input_and_keeps_its_order(ends: Ends) -> None:
    co, peer = ends

    async def source() -> AsyncIterator[int]:
        for n in range(6):
            yield n

    async def main() -> None:
        got = []

        async def loop() -> None:
            async for result in co["x"].map(source(), buffersize=3):
                got.append(result)  # noqa: PERF401 - the order is the point

        task = asyncio.ensure_future(loop())
        first = [await heard(peer, "run") for _ in range(3)]
        assert not peer.has_input()
        for message in reversed(first):
            peer.done(message, args_of(message)[0][0] * 10)
        for _ in range(3):
            message = await heard(peer, "run")
            peer.done(message, args_of(message)[0][0] * 10)
        await task
        assert got == [0, 10, 20, 30, 40, 50]

    run(main())


def test_leaving_a_map_cancels_what_is_in_flight(ends: Ends) -> None:
    co, peer = ends

    async def main() -> None:
        results = co["x"].map(range(10), buffersize=3)
        first = asyncio.ensure_future(anext(results))
        messages = [await heard(peer, "run") for _ in range(3)]
        peer.done(messages[0], "first")
        assert await first == "first"
        await results.aclose()  # type: ignore[attr-defined]
        cancelled = {unpack((await heard(peer, "cancel")).params[0]) for _ in range(2)}
        assert cancelled == {job_of(message) for message in messages[1:]}
        for message in messages[1:]:
            peer.failed(message, Code.CANCELLED)

    run(main())


def test_errors_in_a_map_are_passed_over_where_that_is_wanted(ends: Ends) -> None:
    co, peer = ends

    async def main() -> None:
        async def loop() -> list[Any]:
            return [out async for out in co["x"].map([1, object(), 3], on_error="skip")]

        task = asyncio.ensure_future(loop())
        for _ in range(2):
            message = await heard(peer, "run")
            peer.done(message, args_of(message)[0][0])
        assert await task == [1, 3]

    run(main())


def test_a_stream_yields_items_and_gives_credit(ends: Ends) -> None:
    co, peer = ends

    async def main() -> None:
        async def loop() -> list[Any]:
            return [item async for item in co["x"].options(credits=2).stream("a")]

        task = asyncio.ensure_future(loop())
        message = await heard(peer, "run")
        for n in range(3):
            peer.notify("item", job_of(message), n, n)
            await heard(peer, "more")
        peer.done(message)
        assert await task == [0, 1, 2]

    run(main())


def test_control_requests_and_changeovers(ends: Ends) -> None:
    co, peer = ends

    async def main() -> None:
        status = asyncio.ensure_future(co.status())
        peer.answer(await heard(peer, "status"), {"plugins": {}})
        assert await status == {"plugins": {}}
        changes: asyncio.Queue[Change] = asyncio.Queue()
        listening = asyncio.ensure_future(co.on_changeover(changes.put_nowait))
        peer.answer(await heard(peer, "watch"), {"snapshot": {"plugins": {}}, "seq": 0})
        await listening
        watching = asyncio.ensure_future(co.watch("plugins"))
        peer.answer(await heard(peer, "watch"), {"snapshot": {}, "seq": 0})
        watch = await watching
        peer.notify("plugin_changed", "x", {"generation": 1, "release": 1, "state": "live"})
        assert (await changes.get()).plugin == "x"
        assert (await anext(watch)).kind == "plugin_changed"
        watch.close()
        assert [event async for event in watch] == []

    run(main())


def test_leaving_the_block_closes(ends: Ends) -> None:
    co, peer = ends

    async def main() -> None:
        async with co:
            served = peer.serve(lambda message: None)
        await asyncio.to_thread(served.join, PATIENCE_S)
        with pytest.raises(Disconnected):
            await co["x"]()

    run(main())


def test_nobody_there(tmp_path: Any) -> None:
    async def main() -> None:
        with pytest.raises(NoSupervisor):
            async with aconnect(str(tmp_path / "none.sock")):
                pass

    run(main())
