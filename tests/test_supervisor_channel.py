"""One peer over real pipes: what is whole is handed over, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from changeover.protocol.errors import Fatal, FatalCode
from changeover.supervisor.channel import Channel, Patience
from tests.wire import packed

PATIENCE_S = 20.0
SHORT = Patience(unfinished_s=0.2, unread_s=0.2, unread_bytes=100_000)
ENDLESS = Patience(unread_s=None, unread_bytes=None)
Run = Callable[..., None]
PING = packed([0, 1, "ping", [7]])


class Peer:
    """The other side of a channel, and what the channel told."""

    def __init__(self, patience: Patience, *, as_socket: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.messages: list[bytes] = []
        self.unread: list[int] = []  # how much of our output was, at each of them
        self.told: asyncio.Queue[Any] = asyncio.Queue()
        if as_socket:
            ours, theirs = socket.socketpair()
            read_fd = write_fd = ours.detach()
            self.from_us = self.to_us = theirs.detach()
        else:
            read_fd, self.to_us = os.pipe()
            self.from_us, write_fd = os.pipe()
        self.channel = Channel(
            self.loop, read_fd, write_fd, on_message=self.take, on_end=self.end,
            on_fatal=self.told.put_nowait, patience=patience,
        )  # fmt: skip
        self.channel.start()

    def take(self, raw: bytes) -> None:
        self.messages.append(raw)
        self.unread.append(self.channel.unread_bytes)
        self.told.put_nowait(raw)

    def end(self) -> None:
        self.told.put_nowait("end")

    async def hear(self) -> Any:
        """The next thing that the channel told."""
        return await asyncio.wait_for(self.told.get(), PATIENCE_S)

    def write(self, data: bytes) -> None:
        assert os.write(self.to_us, data) == len(data)

    async def read(self, size: int) -> bytes:
        """So many bytes of what was sent to the peer."""
        data = b""
        while len(data) < size:
            data += await asyncio.wait_for(
                self.loop.run_in_executor(None, os.read, self.from_us, size - len(data)), PATIENCE_S
            )
        return data

    def leave(self) -> None:
        """The peer's ends are closed."""
        for fd in {self.from_us, self.to_us} - {-1}:
            os.close(fd)
        self.from_us = self.to_us = -1


@pytest.fixture
def run() -> Run:
    """Run a test's coroutine with a peer, and close both."""

    def run(test: Callable[[Peer], Any], patience: Patience = ENDLESS, **how: bool) -> None:
        async def whole() -> None:
            peer = Peer(patience, **how)
            try:
                await test(peer)
            finally:
                peer.channel.close()
                peer.leave()

        asyncio.run(whole())

    return run


def test_messages_come_one_by_one_however_they_were_cut(run: Run) -> None:
    async def test(peer: Peer) -> None:
        for byte in PING * 3:
            peer.write(bytes([byte]))
        assert [await peer.hear() for _ in range(3)] == [PING] * 3
        peer.leave()
        assert await peer.hear() == "end"

    run(test)


def test_an_unfinished_message_is_2005(run: Run) -> None:
    async def test(peer: Peer) -> None:
        peer.write(PING + PING[:-1])
        assert await peer.hear() == PING
        fatal = await peer.hear()
        assert isinstance(fatal, Fatal)
        assert (fatal.code, "0.2 s" in fatal.message) == (FatalCode.UNFINISHED, True)

    run(test, SHORT)


def test_a_busy_peer_always_has_an_unfinished_message_and_is_not_late(run: Run) -> None:
    """Each read ends in the middle of a message, but of another one each time."""

    async def test(peer: Peer) -> None:
        began = peer.loop.time()
        peer.write(PING[:3])
        while peer.loop.time() < began + 4 * 0.2:
            peer.write(PING[3:] + PING[:3])
            assert await peer.hear() == PING
        fatal = await peer.hear()
        assert isinstance(fatal, Fatal)
        assert fatal.code == FatalCode.UNFINISHED

    run(test, SHORT)


def test_reading_stops_at_unread_output_and_goes_on_afterwards(run: Run) -> None:
    async def test(peer: Peer) -> None:
        peer.channel.send(bytes(300_000))
        peer.write(PING)
        assert await peer.hear() == PING, "it was under way"
        assert peer.channel.unread_bytes > 100_000
        peer.write(PING)
        await peer.read(300_000)
        assert await peer.hear() == PING
        assert peer.unread[-1] <= 100_000

    run(test, Patience(unread_s=None, unread_bytes=100_000))


def test_whole_messages_wait_too_while_output_is_not_read(run: Run) -> None:
    async def test(peer: Peer) -> None:
        def answer(raw: bytes) -> None:
            peer.messages.append(raw)
            peer.channel.send(bytes(100_000))

        peer.channel._in._on_message = answer
        peer.write(PING * 100)
        await peer.read(100_000)
        assert len(peer.messages) < 10
        await peer.read(9_900_000)
        assert len(peer.messages) == 100

    run(test, Patience(unread_s=None, unread_bytes=150_000))


def test_output_without_progress_is_2006(run: Run) -> None:
    async def test(peer: Peer) -> None:
        peer.channel.send(bytes(1_000_000))
        fatal = await peer.hear()
        assert isinstance(fatal, Fatal)
        assert fatal.code == FatalCode.UNREAD

    run(test, SHORT)


def test_a_slow_reader_makes_progress_and_is_borne(run: Run) -> None:
    async def test(peer: Peer) -> None:
        peer.channel.send(bytes(400_000))
        for _ in range(40):
            await peer.read(10_000)
            with contextlib.suppress(TimeoutError):
                raise AssertionError(await asyncio.wait_for(peer.told.get(), 0.02))

    run(test, Patience(unread_s=0.5))


@pytest.mark.parametrize("as_socket", [False, True])
def test_a_peer_that_dies_without_reading_is_noticed(run: Run, as_socket: bool) -> None:
    """Reading had stopped, so its end of input would never be seen."""

    async def test(peer: Peer) -> None:
        peer.channel.send(bytes(1_000_000))
        await peer.read(1)
        peer.leave()
        assert await peer.hear() == "end"

    run(test, Patience(unread_bytes=100_000), as_socket=as_socket)


def test_flushed_is_called_back_once_all_is_taken(run: Run) -> None:
    async def test(peer: Peer) -> None:
        peer.channel.when_flushed(lambda: peer.told.put_nowait("nothing to wait for"))
        assert await peer.hear() == "nothing to wait for"
        peer.channel.send(bytes(300_000))
        peer.channel.when_flushed(lambda: peer.told.put_nowait("flushed"))
        await peer.read(200_000)
        assert peer.told.empty(), "a pipe holds 64 KiB"
        await peer.read(100_000)
        assert await peer.hear() == "flushed"

    run(test)


def test_flushed_is_called_back_when_nobody_can_read_any_more(run: Run) -> None:
    async def test(peer: Peer) -> None:
        peer.channel.send(bytes(300_000))
        peer.channel.when_flushed(lambda: peer.told.put_nowait("flushed"))
        peer.leave()
        assert {await peer.hear(), await peer.hear()} == {"flushed", "end"}

    run(test)


def test_closing_in_the_middle_of_a_flush_closes_once(run: Run) -> None:
    async def test(peer: Peer) -> None:
        peer.channel.send(bytes(300_000))
        peer.channel.when_flushed(peer.channel.close_output)
        peer.channel.when_flushed(peer.channel.close)
        peer.channel.close_output()
        peer.channel.close()

    run(test)
    run(test, as_socket=True)


def test_the_messages_of_one_turn_leave_in_one_write() -> None:
    async def test() -> None:
        ours, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )  # one write, one read
        with ours, theirs:
            theirs.settimeout(PATIENCE_S)
            channel = Channel(
                asyncio.get_running_loop(), os.dup(ours.fileno()), os.dup(ours.fileno()),
                on_message=print, on_end=print, on_fatal=print, patience=ENDLESS,
            )  # fmt: skip
            for _ in range(100):
                channel.send(PING)
            flushed = asyncio.get_running_loop().create_future()
            channel.when_flushed(lambda: flushed.set_result(None))
            await asyncio.wait_for(flushed, PATIENCE_S)
            assert theirs.recv(1 << 16) == PING * 100
            channel.close()

    asyncio.run(test())


def test_drain_takes_what_is_in_the_pipe_and_not_what_is_written_meanwhile(run: Run) -> None:
    """A grandchild of a dead worker may hold the pipe and write for ever."""

    async def test(peer: Peer) -> None:
        def answer(raw: bytes) -> None:
            peer.messages.append(raw)
            peer.write(PING)

        peer.channel._in._on_message = answer
        peer.write(PING * 3)
        peer.channel.drain_input()
        assert peer.messages == [PING] * 3

    run(test)


def test_nothing_is_handed_over_after_a_fatal_byte(run: Run) -> None:
    async def test(peer: Peer) -> None:
        peer.write(PING + b"\xc1" + PING)
        assert await peer.hear() == PING
        fatal = await peer.hear()
        assert fatal.code == FatalCode.NOT_A_MESSAGE
        peer.channel.drain_input()
        assert peer.told.empty()

    run(test)
