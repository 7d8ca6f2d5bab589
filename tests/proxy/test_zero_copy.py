"""Streams that the kernel moves: what arrives, what is counted, who waits for whom, and when they are ours again. Real sockets,
on the loops that proxies run on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import select
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from meshlib.alarms import Alarms
from meshlib.proxy import zero_copy
from meshlib.proxy.connect_tunnel import ConnectTunnel
from meshlib.proxy.zero_copy import LARGE, OFTEN, PATIENCE, Pipes
from meshlib.telemetry.tables import CountSeries
from meshlib.telemetry.tcp_series import TcpSeries
from tests.support.event_loops import event_loops

pytestmark = pytest.mark.skipif(not hasattr(os, "splice"), reason="the kernel's splice is Linux's alone")
MB = 1024 * 1024
STREAM = os.urandom(MB) * 24
SECONDS = 60


@pytest.fixture(params=event_loops())
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    def play(scene: Any) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(scene, SECONDS))

    return play


class Client(asyncio.Protocol):
    """Hands its tunnel what it hears."""

    def __init__(self, tunnel: ConnectTunnel) -> None:
        self.tunnel = tunnel
        self.received = tunnel.received
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.received(data)

    def eof_received(self) -> bool:
        return self.tunnel.ended()

    def pause_writing(self) -> None:
        self.tunnel.writable(False)

    def resume_writing(self) -> None:
        self.tunnel.writable(True)

    def connection_lost(self, error: Exception | None) -> None:
        self.tunnel.lost()
        self.lost.set()


def pair() -> tuple[socket.socket, socket.socket]:
    """A connection over TCP: our end, and the other one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = socket.create_connection(server.getsockname())
        here, _ = server.accept()
    here.setblocking(False)
    there.settimeout(SECONDS)
    return here, there


class Scene:
    """A tunnel between two connections, whose far ends a test has: ``client`` and ``upstream``, which block."""

    def __init__(self, pipes: Pipes | None = None) -> None:
        self.pipes = pipes or Pipes()
        self.series = TcpSeries(*(CountSeries() for _ in range(4)))
        self.client: socket.socket
        self.upstream: socket.socket
        self.downstream: Client
        self.transport: asyncio.Transport
        self.tunnel: ConnectTunnel

    async def __aenter__(self) -> Scene:
        loop = asyncio.get_running_loop()
        self.tunnel = ConnectTunnel(loop, Alarms(), self.pipes)
        here, self.upstream = pair()
        await loop.create_connection(lambda: self.tunnel, sock=here)
        self.tunnel.begin(self.series, 0, None, lambda: None)
        here, self.client = pair()
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)  # what the system keeps for who does not read
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
        self.transport, self.downstream = await loop.create_connection(lambda: Client(self.tunnel), sock=here)
        self.tunnel.join(self.transport)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.close()
        self.upstream.close()
        await self.downstream.lost.wait()
        assert self.carried == (False, False)

    @property
    def carried(self) -> tuple[bool, bool]:
        """Upwards and downwards."""
        ways = self.tunnel._upwards, self.tunnel._downwards
        return (ways[0] is not None and ways[0].carried, ways[1] is not None and ways[1].carried)


async def exactly(sock: socket.socket, size: int) -> bytes:
    def read() -> bytes:
        found = bytearray()
        while len(found) < size:
            more = sock.recv(min(MB, size - len(found)))
            if not more:
                break
            found += more
        return bytes(found)

    return await asyncio.to_thread(read)


async def until(ready: Callable[[], bool]) -> None:
    while not ready():
        await asyncio.sleep(0.005)


def sent(sock: socket.socket, data: bytes) -> threading.Thread:
    """In the background, for as long as the other side takes."""

    def send() -> None:
        with contextlib.suppress(OSError):  # the test is over
            sock.sendall(data)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


async def filled(there: Scene) -> bytes:
    """A stream downwards that the kernel has, and of which the client takes no more: what it has taken."""
    found = bytearray()
    there.upstream.setblocking(False)
    there.client.setblocking(False)
    while not (there.carried[1] and there.tunnel._downwards is not None and there.tunnel._downwards.holds):
        with contextlib.suppress(BlockingIOError):
            there.upstream.send(STREAM[:MB])
        if not there.carried[1]:
            with contextlib.suppress(BlockingIOError):
                found += there.client.recv(MB)
        await asyncio.sleep(0.001)
    there.upstream.settimeout(SECONDS)
    there.client.settimeout(SECONDS)
    return bytes(found)


def same(found: bytes, wanted: bytes) -> bool:
    """As ==, without megabytes in a message."""
    return len(found) == len(wanted) and hashlib.sha256(found).digest() == hashlib.sha256(wanted).digest()


@pytest.fixture(autouse=True)
def pipes_made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """By the names that the kernel has for them: none is left behind."""
    made: list[str] = []
    real = os.pipe2

    def pipe2(flags: int) -> tuple[int, int]:
        found = real(flags)
        made.append(os.readlink(f"/proc/self/fd/{found[0]}"))
        return found

    monkeypatch.setattr(os, "pipe2", pipe2)
    yield made
    open_now = set()
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            open_now.add(os.readlink(f"/proc/self/fd/{each}"))
    assert not open_now.intersection(made)


def test_a_stream_is_the_kernels_both_ways_arrives_whole_and_is_counted(run: Any, pipes_made: list[str]) -> None:
    async def scene() -> None:
        async with Scene() as there:
            sent(there.upstream, STREAM)
            first = await exactly(there.client, len(STREAM) // 2)
            assert there.carried == (False, True)
            sent(there.client, STREAM[: 8 * MB])
            half = await exactly(there.upstream, 4 * MB)
            assert there.carried == (True, True)
            rest = await exactly(there.client, len(STREAM) - len(first))
            assert same(first + rest, STREAM)
            assert same(half + await exactly(there.upstream, 4 * MB), STREAM[: 8 * MB])
            assert (there.series.sent.value, there.series.received.value) == (len(STREAM), 8 * MB)
            assert (there.tunnel.bytes_sent, there.tunnel.bytes_received) == (len(STREAM), 8 * MB)
        assert len(pipes_made) >= 2

    run(scene())


def test_small_messages_are_never_the_kernels(run: Any) -> None:
    async def scene() -> None:
        async with Scene() as there:
            for _ in range(50):
                there.client.sendall(b"x" * 100)
                assert await exactly(there.upstream, 100)
                there.upstream.sendall(b"y" * 100)
                assert await exactly(there.client, 100)
            assert (there.tunnel._upwards, there.tunnel._downwards) == (None, None)

    run(scene())


def test_the_end_of_a_stream_is_heard_behind_its_last_byte_and_the_other_way_goes_on(run: Any) -> None:
    async def scene() -> None:
        async with Scene() as there:
            sending = sent(there.client, STREAM)
            found = await exactly(there.upstream, len(STREAM))
            await asyncio.to_thread(sending.join)
            there.client.shutdown(socket.SHUT_WR)
            assert await exactly(there.upstream, 1) == b""
            assert same(found, STREAM)
            assert there.carried == (False, False)
            there.upstream.sendall(b"an answer")
            assert await exactly(there.client, 9) == b"an answer"

    run(scene())


def test_a_reader_that_waits_has_the_source_wait_and_gets_all_of_it_then(run: Any) -> None:
    async def scene() -> None:
        async with Scene() as there:
            taken = len(await filled(there))
            way = there.tunnel._downwards
            assert way is not None
            assert way._held <= zero_copy.PIPE  # no more is kept for it
            assert there.transport.get_write_buffer_size() == 0
            there.upstream.shutdown(socket.SHUT_WR)
            rest = await exactly(there.client, 1024 * MB)
            assert taken + len(rest) == there.series.sent.value

    run(scene())


def test_reads_that_are_small_again_are_the_loops_again(run: Any) -> None:
    async def scene() -> None:
        async with Scene() as there:
            sent(there.upstream, STREAM)
            assert same(await exactly(there.client, len(STREAM)), STREAM)
            for number in range(3 * PATIENCE):
                there.upstream.sendall(b"%8d" % number)
                assert await exactly(there.client, 8) == b"%8d" % number
            assert there.carried == (False, False)

    run(scene())


@pytest.mark.parametrize("error", zero_copy.REFUSALS)
@pytest.mark.parametrize("gives", [False, True], ids=["taking", "giving"])
def test_a_kernel_that_refuses_is_asked_once(run: Any, monkeypatch: Any, error: int, gives: bool) -> None:
    asked = []
    real = os.splice

    def refuse(source: int, to: int, size: int, **how: Any) -> int:
        asked.append(size)
        if gives and len(asked) == 1:
            return real(source, to, size, **how)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "splice", refuse)

    async def scene() -> None:
        async with Scene() as there:
            sent(there.upstream, STREAM)
            assert same(await exactly(there.client, len(STREAM)), STREAM)
            assert there.carried == (False, False)
            assert there.series.sent.value == len(STREAM)
        assert len(asked) == (2 if gives else 1)

    run(scene())


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_a_connection_that_is_reset_amid_a_stream_ends_the_other(run: Any, who: str) -> None:
    async def scene() -> None:
        async with Scene() as there:
            await filled(there)
            sock = getattr(there, who)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
            await asyncio.to_thread(drained, there.client if who == "upstream" else there.upstream)
            await there.downstream.lost.wait()

    run(scene())


def drained(sock: socket.socket) -> None:
    """Until its other side has closed."""
    try:
        while sock.recv(MB):
            pass
    except OSError as error:
        assert error.errno in (errno.ECONNRESET, errno.EBADF, errno.EPIPE)


def test_a_tunnel_that_is_cut_lets_go_of_its_stream(run: Any) -> None:
    async def scene() -> None:
        async with Scene() as there:
            await filled(there)
            there.tunnel.cut()
            await there.downstream.lost.wait()
            assert there.carried == (False, False)

    run(scene())


def test_where_there_are_too_many_streams_the_oldest_that_holds_nothing_makes_room(run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(zero_copy, "MOST", 1)

    async def scene() -> None:
        pipes = Pipes()
        async with Scene(pipes) as one, Scene(pipes) as other:
            sent(one.upstream, STREAM)
            assert same(await exactly(one.client, len(STREAM)), STREAM)
            assert one.carried[1]
            sent(other.upstream, STREAM)
            assert same(await exactly(other.client, len(STREAM)), STREAM)
            assert (one.carried[1], other.carried[1]) == (False, True)
            one.upstream.sendall(b"still here")
            assert await exactly(one.client, 10) == b"still here"

    run(scene())


@pytest.mark.parametrize(("holding", "room"), [([True, False, False], True), ([True, True, True], False)])
def test_who_holds_something_keeps_its_pipe(monkeypatch: Any, holding: list[bool], room: bool) -> None:
    monkeypatch.setattr(zero_copy, "MOST", len(holding))
    gave: list[int] = []

    class Taken:
        def __init__(self, number: int, holds: bool) -> None:
            self.number, self.holds = number, holds

        def hand_back(self) -> None:
            gave.append(self.number)

    pipes = Pipes()
    pipes.taken = {Taken(*each): None for each in enumerate(holding)}  # type: ignore[misc]
    assert pipes.room() is room
    assert gave == ([1] if room else [])


def test_without_descriptors_it_stays_the_loops(run: Any, monkeypatch: Any) -> None:
    def none(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "pipe2", none)

    async def scene() -> None:
        async with Scene() as there:
            sent(there.upstream, STREAM)
            assert same(await exactly(there.client, len(STREAM)), STREAM)
            assert there.carried == (False, False)

    run(scene())


class Watched:
    """An epoll that watches so many descriptors, one after the other, and then no more."""

    def __init__(self, most: int) -> None:
        self.left = most
        self.refused = 0
        self.real = select.epoll()

    def register(self, descriptor: int, events: int) -> None:
        if not self.left:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= 1
        self.real.register(descriptor, events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.mark.parametrize("most", [0, 1], ids=["beginning", "waiting for the sink"])
def test_where_the_system_watches_no_more_it_is_the_loops_again(run: Any, monkeypatch: Any, most: int) -> None:
    made: list[Watched] = []

    def epoll() -> Watched:
        made.append(Watched(most))
        return made[-1]

    monkeypatch.setattr(
        zero_copy, "select", SimpleNamespace(epoll=epoll, EPOLLIN=select.EPOLLIN, EPOLLOUT=select.EPOLLOUT)
    )

    async def scene() -> None:
        async with Scene() as there:
            sent(there.upstream, STREAM)
            found = bytearray()
            there.client.setblocking(False)
            while not any(each.refused for each in made):
                if not there.carried[1]:
                    with contextlib.suppress(BlockingIOError):
                        found += there.client.recv(MB)
                await asyncio.sleep(0.001)
            there.client.settimeout(SECONDS)
            assert most or there.carried == (False, False)  # where it may begin, it may begin anew
            assert same(bytes(found) + await exactly(there.client, len(STREAM) - len(found)), STREAM)
            assert there.series.sent.value == len(STREAM)
            there.client.sendall(b"and back")
            assert await exactly(there.upstream, 8) == b"and back"
        assert (there.pipes.taken, there.pipes._then) == ({}, {})
        assert all(each.real.closed for each in made)

    run(scene())


def test_an_epoll_that_the_loop_does_not_look_at_is_not_kept() -> None:
    class Full:
        def add_reader(self, descriptor: int, look: Callable[[], None]) -> None:
            seen.append(descriptor)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    seen: list[int] = []
    pipes = Pipes()
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            pipes.take(object(), Full())  # type: ignore[arg-type]
    assert len(seen) == 2
    assert (pipes.taken, pipes._epoll) == ({}, None)


def test_of_two_descriptors_the_first_is_closed_where_there_is_no_second(monkeypatch: Any) -> None:
    real, got = os.dup, []

    def dup(descriptor: int) -> int:
        if got:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        got.append(real(descriptor))
        return got[0]

    class Plain:
        """A transport."""

        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock

        def get_extra_info(self, name: str) -> Any:
            return self.sock if name == "socket" else None

        def is_closing(self) -> bool:
            return False

        def get_write_buffer_size(self) -> int:
            return 0

    monkeypatch.setattr(os, "dup", dup)
    one, other = socket.socketpair()
    with one, other:
        way = zero_copy.Way(None, Pipes(), Plain(one), Plain(other), lambda size: None)  # type: ignore[arg-type]
        assert not any(way.takes(b"x" * LARGE) for _ in range(OFTEN))
        (first,) = got
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(first)


def test_what_is_more_than_its_socket_is_left_alone() -> None:
    class Encrypted:
        def get_extra_info(self, name: str) -> Any:
            return object()

        def is_closing(self) -> bool:
            return False

    assert zero_copy._socket_of(Encrypted()) == -1
