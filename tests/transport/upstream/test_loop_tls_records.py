"""TLS over a transport of a loop: records, and renegotiations amid them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from meshlib.transport.upstream.loop_tls import RECORD
from tests.support.loop_tls_ends import BIG, Ends, on_a_loop


class Renegotiating:
    """An ``SSLObject`` that takes nothing while it shakes hands again; as its ``wrap_bio``, a context that makes it."""

    server_side = False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # which verifies nobody

    def __init__(self) -> None:
        self.busy = False
        self.most = 1 << 30
        self.taken: list[bytes] = []
        self.gives: list[bytes] = []
        self.says: list[bytes] = []
        self.reads = 0

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, server_hostname: object) -> Renegotiating:
        self.incoming, self.outgoing = incoming, outgoing
        return self

    def do_handshake(self) -> None: ...

    def getpeercert(self) -> dict[str, object]:
        return {}

    def write(self, data: bytes | memoryview) -> int:
        if self.busy:
            raise ssl.SSLWantReadError
        self.taken.append(bytes(data[: self.most]))
        return len(self.taken[-1])

    def read(self, most: int) -> bytes:
        self.reads += 1
        if self.says:
            self.outgoing.write(self.says.pop())
        if not self.gives:
            raise ssl.SSLWantReadError
        self.incoming.read()
        return self.gives.pop(0)


@on_a_loop
async def test_what_is_written_during_a_renegotiation_waits_for_it_in_order() -> None:
    shaking = Renegotiating()
    ends = Ends(shaking)
    shaking.busy = True
    ends.tls.write(b"one")
    ends.tls.data_received(b"not all of it")
    ends.tls.write(b"two")
    assert shaking.taken == []
    assert ends.tls.get_write_buffer_size() == 7 + len(b"onetwo")
    shaking.busy = False
    ends.tls.write(b"three")
    ends.tls.data_received(b"the rest")
    assert shaking.taken == [b"one", b"two", b"three"]


@on_a_loop
async def test_a_record_that_came_alone_is_read_once() -> None:
    """Another read would have OpenSSL, and Python by an exception, say that there is nothing: as much as the first costs."""
    shaking = Renegotiating()
    ends = Ends(shaking)
    shaking.reads, shaking.gives = 0, [b"all", b"in the next"]
    ends.tls.data_received(b"a record")
    assert (ends.inner.received, shaking.reads) == (b"all", 1)


@on_a_loop
async def test_what_a_record_makes_us_say_is_said_before_it_is_given_on() -> None:
    shaking = Renegotiating()
    ends = Ends(shaking)
    shaking.gives, shaking.says = [b"data"], [b"our new keys"]
    said: list[bytes] = []
    ends.inner.on_data = lambda: said.append(bytes(ends.below.written))
    ends.tls.data_received(b"a record")
    assert said == [b"our new keys"]


@on_a_loop
async def test_data_that_come_during_a_renegotiation_are_given_on_before_what_waits_is_written() -> None:
    shaking = Renegotiating()
    ends = Ends(shaking)
    shaking.busy = True
    ends.tls.write(b"one")
    shaking.busy = False
    shaking.gives = [b"data"]
    taken: list[list[bytes]] = []
    ends.inner.on_data = lambda: taken.append(list(shaking.taken))
    ends.tls.data_received(b"a record")
    assert taken == [[]]
    assert shaking.taken == [b"one"]


@on_a_loop
async def test_what_was_written_before_the_handshake_ended_is_sent_with_its_end_and_before_all_else() -> None:
    """Not with what the server says next, which may be nothing."""
    ends = Ends()
    made = ends.inner.connection_made

    def writes(transport: asyncio.BaseTransport) -> None:
        made(transport)
        ends.tls.write(b"two")

    ends.inner.connection_made = writes  # type: ignore[method-assign]
    ends.tls.write(b"one")
    ends.take()
    with contextlib.suppress(ssl.SSLWantReadError):
        ends.server.do_handshake()
    ends.sent()
    assert ends.tls.get_write_buffer_size() == 7
    ends.take()
    ends.server.do_handshake()
    assert ends.read() == b"onetwo"


@pytest.mark.parametrize("size", [1, RECORD - 1, RECORD, RECORD + 1, 2 * RECORD])
def test_records_are_given_on_with_the_bytes_that_end_them(size: int) -> None:
    async def test() -> None:
        ends = Ends()
        ends.shake()
        data = BIG[:size]
        for _ in range(2):
            ends.server.write(data)
            sent = ends.outgoing.read()
            ends.tls.data_received(sent[:-1])
            assert len(ends.inner.received) == (size - 1) // RECORD * RECORD
            ends.tls.data_received(sent[-1:])
            assert ends.inner.received == data
            ends.inner.received.clear()

    asyncio.run(test())


@on_a_loop
async def test_what_is_taken_in_parts_is_taken_whole() -> None:
    shaking = Renegotiating()
    ends = Ends(shaking)
    shaking.most = 2
    ends.tls.write(b"three")
    assert shaking.taken == [b"th", b"re", b"e"]
