"""Callers are given session tickets as long as somebody uses them."""

from __future__ import annotations

import contextlib
import ssl

from meshlib.policy.mtls_mode import MtlsMode
from meshlib.serving.tickets import ENOUGH, ONE_IN, Accepts, Tickets
from tests.serving.test_acceptor import accepting
from tests.support.identities import World


def given(tickets: Tickets, handshakes: int, *, resumed: bool = False) -> list[int]:
    """How many were given in so many handshakes."""
    found = []
    for _ in range(handshakes):
        found.append(tickets.next())
        tickets.shaken(resumed)
    return found


def test_each_of_the_first_callers_gets_one() -> None:
    assert given(Tickets(), ENOUGH) == [1] * ENOUGH


def test_where_nobody_resumes_one_in_a_few_still_gets_one() -> None:
    tickets = Tickets()
    given(tickets, ENOUGH)
    assert given(tickets, 3 * ONE_IN) == ([1] + [0] * (ONE_IN - 1)) * 3


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
