"""A request's body over HTTP/1.1 beside its response: sent as the system takes it, ended with the response, and never twice."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.engine.outcome import Failure
from meshlib.proxy.http1_downstream import DuplexBody
from meshlib.transport.protocol.framing import framing_of
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.request_body import ReplayBody
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.loop_duplex import is_duplex
from meshlib.transport.upstream.loop_pending import Pending
from tests.support.loop_lender import TARGET, LoopLender

HOST = (b"Host", b"a")
HEAD = b"POST / HTTP/1.1\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Pieces:
    """A body that a client sends piece by piece."""

    def __init__(self):
        self.queue = asyncio.Queue()

    def __aiter__(self):
        return self

    async def __anext__(self):
        piece = await self.queue.get()
        if piece is None:
            raise StopAsyncIteration
        if isinstance(piece, Exception):
            raise piece
        return piece

    def put(self, piece):
        self.queue.put_nowait(piece)


class Sent:
    """A request under way whose body goes on."""

    def __init__(self, headers=(HOST,)):
        self.lent = LoopLender(asyncio.get_running_loop())
        self.source = Pieces()
        self.body = DuplexBody(self.source)
        self.pending = Pending(self.lent.connection, Attempt(b"POST", b"/", [HOST], None, TARGET, None))
        self.lent.connection.start(HEAD, False, self.pending, [HOST])
        self.pending.send_beside(framing_of(list(headers), self.body))

    def comes(self, data):
        self.lent.connection.data_received(data)

    @property
    def written(self):
        return self.lent.transport.written[len(HEAD) :]


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_body_goes_on_after_the_head_of_the_response_has_come_and_the_connection_is_good_again():
    sent = Sent()
    sent.source.put(b"one")
    await turns()
    sent.comes(CHUNKED)
    outcome = await sent.pending.outcome
    body = aiter(outcome.body)
    for piece in (b"two", b"three"):
        sent.source.put(piece)
        await turns()
        assert sent.written.endswith(b"%x\r\n%b\r\n" % (len(piece), piece))
        sent.comes(b"%x\r\n%b\r\n" % (len(piece), piece))
        assert await anext(body) == piece
    sent.source.put(None)
    await turns()
    sent.comes(b"0\r\n\r\n")
    assert [part async for part in body] == []
    assert sent.written == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"
    assert (sent.lent.fates, sent.lent.connection.reader.reusable) == (["released"], True)


async def test_a_response_that_ends_before_its_request_ends_that_and_its_connection_is_not_used_again():
    sent = Sent()
    sent.source.put(b"one")
    await turns()
    sent.comes(b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nno.")
    outcome = await sent.pending.outcome
    sent.source.put(b"two")
    await turns()
    assert (outcome.status, outcome.whole) == (413, b"no.")
    assert (sent.written, sent.lent.fates) == (b"3\r\none\r\n", ["released"])
    assert not sent.lent.connection.reader.reusable


async def test_a_piece_is_read_when_the_system_has_taken_the_one_before():
    sent = Sent()
    sent.lent.connection.pause_writing()
    sent.source.put(b"one")
    sent.source.put(b"two")
    await turns()
    assert (sent.written, sent.body.size) == (b"", 0)  # the head is on its way still
    sent.lent.connection.resume_writing()
    await turns()
    assert sent.written == b"3\r\none\r\n3\r\ntwo\r\n"


async def test_what_the_system_has_not_taken_when_the_response_is_over_leaves_the_connection_useless():
    sent = Sent()
    sent.source.put(b"one")
    sent.source.put(None)
    await turns()
    sent = Sent()
    sent.source.put(None)
    sent.lent.connection.pause_writing()
    await turns()
    sent.comes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert (await sent.pending.outcome).status == 200
    assert not sent.lent.connection.reader.reusable


async def test_a_client_that_goes_cuts_the_response():
    sent = Sent()
    sent.comes(CHUNKED)
    outcome = await sent.pending.outcome
    sent.source.put(ConnectionResetError("the client has gone"))
    await turns()
    with pytest.raises(BodyFailed, match="the client has gone") as caught:
        await anext(aiter(outcome.body))
    assert (caught.value.failure, sent.lent.fates) == (Failure.REQUEST_BODY_FAILED, ["dropped"])


async def test_a_client_that_goes_before_there_is_one_is_the_outcome():
    sent = Sent()
    sent.source.put(ConnectionResetError("the client has gone"))
    outcome = await sent.pending.outcome
    assert (outcome.failure, sent.lent.fates) == (Failure.REQUEST_BODY_FAILED, ["dropped"])


async def test_a_body_that_is_longer_than_it_says_is_not_sent():
    sent = Sent([HOST, (b"Content-Length", b"2")])
    sent.source.put(b"more")
    outcome = await sent.pending.outcome
    assert (outcome.failure, sent.written, sent.lent.fates) == (Failure.INVALID_REQUEST, b"", ["dropped"])


async def test_an_upstream_that_breaks_amid_both_ends_both():
    sent = Sent()
    sent.comes(CHUNKED)
    outcome = await sent.pending.outcome
    sent.lent.connection.connection_lost(ConnectionResetError("reset"))
    sent.source.put(b"one")
    await turns()
    with pytest.raises(BodyFailed):
        await anext(aiter(outcome.body))
    assert (sent.written, sent.lent.fates) == (b"", ["lost"])


async def test_a_response_that_nobody_wants_ends_the_request_too():
    sent = Sent()
    sent.comes(CHUNKED)
    outcome = await sent.pending.outcome
    outcome.body.abort()
    sent.source.put(b"one")
    await turns()
    assert (sent.written, sent.lent.fates) == (b"", ["dropped"])


async def test_a_head_that_comes_too_late_ends_the_body():
    sent = Sent()
    sent.pending.head_timed_out()
    sent.source.put(b"one")
    await turns()
    assert ((await sent.pending.outcome).failure, sent.written) == (Failure.TIMEOUT, b"")


async def test_another_attempt_has_all_of_the_body():
    """What a first one has taken and not sent is kept."""
    sent = Sent()
    sent.source.put(b"one")
    await turns()
    sent.pending.abort()
    sent.source.put(b"two")
    sent.source.put(None)
    assert [piece async for piece in sent.body] == [b"one", b"two"]


def test_only_bodies_of_a_proxys_clients_go_on_beside_their_responses():
    assert not is_duplex(None)
    assert not is_duplex(framing_of([HOST], ReplayBody(iter([]))))
    assert is_duplex(framing_of([HOST], DuplexBody(iter([]))))
    assert not is_duplex(framing_of([HOST, (b"Expect", b"100-continue")], DuplexBody(iter([]))))
