"""Writes of one turn of the loop are one write of the transport, at its end, and nothing else about the transport changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from meshlib.serving.joined_writes import MOST, JoinedWrites
from tests.support.identities import World


class Loop:
    """Runs what was asked for when the test says that the turn has ended."""

    def __init__(self) -> None:
        self.soon: list[Any] = []

    def call_soon(self, callback: Any) -> None:
        self.soon.append(callback)

    def turn(self) -> None:
        due, self.soon = self.soon, []
        for callback in due:
            callback()


class Transport:
    """Notes what it is told, in its order."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.closing = False

    def write(self, data: Any) -> None:
        self.told.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 7

    def is_closing(self) -> bool:
        return self.closing

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.told.append((name, *arguments))


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def joined(loop: Loop, transport: Transport) -> JoinedWrites:
    return JoinedWrites(transport, loop)  # type: ignore[arg-type]


def test_what_is_written_in_a_turn_is_one_write_at_its_end(
    loop: Loop, transport: Transport, joined: JoinedWrites
) -> None:
    joined.write(b"head ")
    joined.writelines([b"bo", b"dy"])
    assert transport.told == []
    loop.turn()
    assert transport.told == [b"head body"]


def test_each_turn_has_its_own(loop: Loop, transport: Transport, joined: JoinedWrites) -> None:
    for piece in (b"first", b"second"):
        joined.write(piece)
        assert len(loop.soon) == 1
        loop.turn()
    loop.turn()
    assert transport.told == [b"first", b"second"]


def test_a_buffer_that_its_owner_changes_afterwards_was_written_as_it_was(
    loop: Loop, transport: Transport, joined: JoinedWrites
) -> None:
    buffer = bytearray(b"before")
    joined.write(buffer)
    joined.write(memoryview(buffer)[:1])
    buffer[:] = b"after!"
    loop.turn()
    assert transport.told == [b"beforeb"]


def test_no_more_than_a_record_waits_so_that_a_full_buffer_is_told_in_the_same_turn(
    loop: Loop, transport: Transport, joined: JoinedWrites
) -> None:
    joined.write(b"head")
    joined.write(b"x" * MOST)
    assert transport.told == [b"head" + b"x" * MOST]
    joined.write(b"y" * MOST)
    assert transport.told[1:] == [b"y" * MOST]
    joined.write(b"z")
    loop.turn()
    loop.turn()
    assert transport.told[2:] == [b"z"]


def test_what_is_written_small_before_much_is_sent_before_it(
    loop: Loop, transport: Transport, joined: JoinedWrites
) -> None:
    for piece in (b"a", b"b" * (MOST - 1), b"c"):
        joined.write(piece)
    loop.turn()
    assert b"".join(transport.told) == b"a" + b"b" * (MOST - 1) + b"c"


@pytest.mark.parametrize("end", ["close", "write_eof"])
def test_an_end_comes_after_what_was_written(end: str, loop: Loop, transport: Transport, joined: JoinedWrites) -> None:
    joined.write(b"last words")
    getattr(joined, end)()
    loop.turn()
    assert transport.told == [b"last words", (end,)]


def test_abort_drops_what_was_not_written_yet(loop: Loop, transport: Transport, joined: JoinedWrites) -> None:
    joined.write(b"never sent")
    joined.abort()
    loop.turn()
    assert transport.told == [("abort",)]
    assert joined.get_write_buffer_size() == 7


class Gone(Transport):
    """As uvloop's when its peer has reset the connection."""

    def write(self, data: Any) -> None:
        raise RuntimeError("unable to perform operation on a closed transport; the handler is closed")


@pytest.mark.parametrize("writes", [1, 2])
def test_what_a_peer_that_has_gone_in_this_turn_does_not_read_is_dropped(loop: Loop, writes: int) -> None:
    transport = Gone()
    joined = JoinedWrites(transport, loop)  # type: ignore[arg-type]
    for _ in range(writes):
        joined.write(b"a")
    transport.closing = True
    loop.turn()
    assert joined.get_write_buffer_size() == 7


def test_another_error_of_a_transport_is_told(loop: Loop) -> None:
    JoinedWrites(Gone(), loop).write(b"a")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        loop.turn()


def test_what_waits_is_part_of_the_buffer(loop: Loop, joined: JoinedWrites) -> None:
    joined.write(b"12345")
    assert joined.get_write_buffer_size() == 12
    loop.turn()
    assert joined.get_write_buffer_size() == 7


def test_an_empty_write_sends_nothing(loop: Loop, transport: Transport, joined: JoinedWrites) -> None:
    joined.write(b"")
    loop.turn()
    assert b"".join(transport.told) == b""


def test_everything_else_is_the_transports(transport: Transport, joined: JoinedWrites) -> None:
    protocol = asyncio.Protocol()
    joined.pause_reading()
    joined.resume_reading()
    joined.set_protocol(protocol)
    joined.get_protocol()
    joined.is_reading()
    joined.can_write_eof()
    joined.set_write_buffer_limits(9, 3)
    joined.get_write_buffer_limits()
    joined.get_extra_info("peername")
    assert transport.told == [
        ("pause_reading",),
        ("resume_reading",),
        ("set_protocol", protocol),
        ("get_protocol",),
        ("is_reading",),
        ("can_write_eof",),
        ("set_write_buffer_limits", 9, 3),
        ("get_write_buffer_limits",),
        ("get_extra_info", "peername", None),
    ]
    assert not joined.is_closing()
    transport.closing = True
    assert joined.is_closing()


def test_no_method_of_a_transport_is_forgotten() -> None:
    asked = set(vars(asyncio.Transport) | vars(asyncio.WriteTransport) | vars(asyncio.ReadTransport))
    asked |= set(vars(asyncio.BaseTransport))
    assert {name for name in asked if not name.startswith("_")} <= set(vars(JoinedWrites))


ENOUGH = 1 << 23
"""Bytes, far more than the kernel takes."""


class Pausing(asyncio.Protocol):
    """Writes without end until it is told to pause, as soon as it is connected."""

    def __init__(self) -> None:
        self.paused = asyncio.Event()
        self.written = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.joined = JoinedWrites(transport, asyncio.get_running_loop())
        while not self.paused.is_set() and self.written < ENOUGH:
            self.joined.write(b"x" * 1000)
            self.written += 1000

    def pause_writing(self) -> None:
        self.paused.set()


def test_over_tls_who_does_not_read_pauses_the_writer_within_one_turn() -> None:
    async def go() -> tuple[int, bytes]:
        world = World()
        world.rotate()
        identity = world.identity
        credentials = identity.current()
        assert credentials is not None
        protocol = Pausing()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: protocol, "127.0.0.1", 0, ssl=credentials.server_context(("http/1.1",))
        )
        port = server.sockets[0].getsockname()[1]
        context = credentials.client_context(("http/1.1",))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="a", limit=1000)
        await protocol.paused.wait()
        assert protocol.written < ENOUGH
        protocol.joined.close()
        read = b""
        while piece := await reader.read(65536):
            read += piece
        writer.close()
        server.close()
        return protocol.written, read

    written, read = asyncio.run(go())
    assert read == b"x" * written
