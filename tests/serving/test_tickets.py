"""Callers are given session tickets as long as somebody uses them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from typing import cast

import pytest

from meshlib.policy.mtls_mode import MtlsMode
from meshlib.serving import acceptor
from meshlib.serving import tickets as module
from meshlib.serving.tickets import ENOUGH, ONE_IN, Accepts, Tickets, acknowledge
from tests.support.acceptor import accepting, until
from tests.support.identities import World

on_linux = pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="the kernel has no TCP_QUICKACK")


def given(tickets: Tickets, handshakes: int, *, resumed: bool = False) -> list[int]:
    """How many were given in so many handshakes."""
    found = []
    for _ in range(handshakes):
        found.append(tickets.next())
        tickets.shaken(resumed)
    return found


def test_each_of_the_first_callers_gets_one() -> None:
    assert given(Tickets(), ENOUGH) == [1] * ENOUGH


@on_linux
def test_where_nobody_resumes_one_in_a_few_still_gets_one() -> None:
    tickets = Tickets()
    given(tickets, ENOUGH)
    assert given(tickets, 3 * ONE_IN) == ([1] + [0] * (ONE_IN - 1)) * 3


@on_linux
def test_one_that_resumes_has_all_given_again() -> None:
    tickets = Tickets()
    given(tickets, 5 * ENOUGH + 1)
    assert tickets.next() == 0
    given(tickets, 1, resumed=True)
    assert given(tickets, ENOUGH) == [1] * ENOUGH


def test_callers_that_resume_always_get_one() -> None:
    assert given(Tickets(), 10 * ENOUGH, resumed=True) == [1] * 10 * ENOUGH


def sent_after_the_handshake(world: World, tickets: int | None) -> int:
    """Tickets that a client was sent."""
    credentials = world.identity.current()
    assert credentials is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = credentials.server_context(("http/1.1",))
    server = Accepts(context, tickets).wrap_bio(to_server, to_client, server_hostname=None)
    client = world.client().wrap_bio(to_client, to_server, server_hostname="reviews")
    for _ in range(2):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    server.write(b"x")
    assert client.read(1) == b"x"
    session = client.session
    assert session is not None
    return int(session.has_ticket)


def test_a_handshake_sends_as_many_as_it_is_told() -> None:
    world = World()
    world.rotate()
    assert [sent_after_the_handshake(world, tickets) for tickets in (1, 0, 1)] == [1, 0, 1]


def test_none_is_said_of_it_leaves_what_the_context_has() -> None:
    world = World()
    world.rotate()
    assert [sent_after_the_handshake(world, tickets) for tickets in (None, 0, None)] == [1, 0, 0]


class Sock:
    def __init__(self, problem: OSError | None = None) -> None:
        self.set: list[tuple[int, ...]] = []
        self.problem = problem

    def setsockopt(self, *asked: int) -> None:
        if self.problem is not None:
            raise self.problem
        self.set.append(asked)


@on_linux
def test_what_has_come_is_acknowledged_at_once() -> None:
    sock = Sock()
    acknowledge(cast("socket.socket", sock))
    assert sock.set == [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)]


def test_a_socket_that_cannot_or_is_gone_is_left_alone() -> None:
    acknowledge(cast("socket.socket", Sock(OSError(errno.EOPNOTSUPP, "a unix socket"))))


def test_where_it_cannot_be_acknowledged_at_once_all_are_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else clients without TCP_NODELAY would wait before their first request."""
    monkeypatch.setattr(module, "_QUICK_ACK", None)
    assert given(Tickets(), 5 * ENOUGH) == [1] * 5 * ENOUGH


@on_linux
async def test_a_handshake_that_gives_none_is_acknowledged_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.rotate()
    acknowledged: list[int] = []
    turn = 0
    monkeypatch.setattr(acceptor, "acknowledge", lambda sock: acknowledged.append(turn))
    async with accepting(world, MtlsMode.STRICT) as port:
        for turn in range(ENOUGH + 3):
            conversation = await port.connect(world.client(), "reviews")
            await until(lambda: port.acceptor.counts["tls"] == turn + 1)  # noqa: B023 (called in this turn)
            await conversation.say("hello")
            conversation.close()
    assert acknowledged == [ENOUGH + 1, ENOUGH + 2]


@on_linux
async def test_a_client_that_speaks_with_the_end_of_its_handshake_is_acknowledged_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest of its request may wait for that."""
    world = World()
    world.rotate()
    acknowledged: list[socket.socket] = []
    monkeypatch.setattr(acceptor, "acknowledge", acknowledged.append)
    async with accepting(world, MtlsMode.STRICT) as port:
        for _ in range(ENOUGH + 3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = world.client().wrap_bio(incoming, outgoing, server_hostname="reviews")
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(ssl.SSLWantReadError):
                        client.do_handshake()
                        break
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(1 << 16))
                client.write(b"hello")
                writer.write(outgoing.read())
                assert await reader.read(1 << 16)
            writer.transport.abort()
        await until(lambda: port.acceptor.counts["tls"] == ENOUGH + 3)
    assert len(acknowledged) == 2


@on_linux
async def test_a_port_gives_fewer_once_its_callers_do_not_resume() -> None:
    world = World()
    world.rotate()
    has = []
    async with accepting(world, MtlsMode.STRICT) as port:
        for _ in range(ENOUGH + 2):
            conversation = await port.connect(world.client(), "reviews")
            await conversation.say("hello")
            has.append(conversation.writer.get_extra_info("ssl_object").session.has_ticket)
            conversation.close()
    assert has == [True] * (ENOUGH + 1) + [False]
