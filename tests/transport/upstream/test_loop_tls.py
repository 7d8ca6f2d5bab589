"""TLS over a transport of a loop: both ends in memory, so that bytes come and go as the test says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from types import SimpleNamespace

import pytest

from meshlib.transport.upstream.loop_tls import CLOSED_EARLY, RECORD, LoopTls
from meshlib.transport.upstream.refused_certificates import note_handshake, refusal_in
from tests.support.loop_tls_ends import AUTHORITY, BIG, CLIENT, NAME, OLD_CLIENT, SERVER, Below, Ends, Inner, on_a_loop


@on_a_loop
async def test_the_handshake_may_come_byte_by_byte_and_the_protocol_hears_of_it_once() -> None:
    ends = Ends()
    ends.shake(piece=1)
    await ends.tls.handshake
    assert ends.inner.heard == ["made"]
    assert ends.tls.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert ends.tls.get_extra_info("peercert")["subjectAltName"] == (("DNS", NAME),)
    assert ends.tls.get_extra_info("sslcontext") is CLIENT
    assert ends.tls.get_extra_info("sockname") == ("127.0.0.1", 1)
    assert ends.tls.get_extra_info("nothing", "else") == "else"


@pytest.mark.parametrize("piece", [1 << 30, 1000, 16_390])
def test_big_bodies_go_both_ways_however_the_network_cuts_them(piece: int) -> None:
    async def test() -> None:
        ends = Ends()
        ends.shake()
        ends.tls.write(BIG)
        assert ends.read() == BIG
        ends.server.write(BIG)
        ends.sent(piece)
        assert ends.inner.received == BIG

    asyncio.run(test())


@on_a_loop
async def test_what_comes_with_the_end_of_the_handshake_is_read() -> None:
    ends = Ends(OLD_CLIENT)  # in TLS 1.2 the server is the last to speak
    for _ in range(2):
        ends.take()
        with contextlib.suppress(ssl.SSLWantReadError):
            ends.server.do_handshake()
            ends.server.write(b"hello")  # in the same segment
        ends.sent()
    assert ends.tls.get_extra_info("ssl_object").version() == "TLSv1.2"
    assert ends.inner.received == b"hello"


@on_a_loop
async def test_nothing_is_read_where_nothing_has_come_behind_the_handshake() -> None:
    """OpenSSL would say so by an exception, which takes longer than to look."""
    ends, read = Ends(), list[int]()
    decrypt = ends.tls._decrypt

    def reads(most: int) -> bytes:
        read.append(most)
        return bytes(decrypt(most))

    ends.tls._decrypt = reads
    ends.take()
    with contextlib.suppress(ssl.SSLWantReadError):
        ends.server.do_handshake()
    ends.sent()
    assert ends.inner.heard == ["made"]
    assert read == []
    ends.take()
    ends.server.do_handshake()
    ends.sent()  # its tickets
    assert read == [RECORD]


@on_a_loop
async def test_pieces_are_one_write_below() -> None:
    ends = Ends()
    ends.shake()
    ends.tls.writelines([b"head", memoryview(b"body")])
    assert ends.read() == b"headbody"
    ends.tls.write(b"")
    assert ends.below.written == b""


@on_a_loop
async def test_a_server_that_says_goodbye_is_heard_and_told_the_same() -> None:
    ends = Ends()
    ends.shake()
    ends.read()
    ends.server.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        ends.server.unwrap()
    ends.sent()
    assert ends.inner.received == b"last"
    assert ends.inner.heard == ["made", "eof"]
    assert ends.below.ended == ["close"]
    ends.take()
    ends.server.unwrap()  # it has our goodbye
    ends.tls.connection_lost(None)
    assert ends.inner.heard[2:] == [("lost", None)]


@on_a_loop
async def test_a_connection_that_ends_without_goodbye_has_ended() -> None:
    ends = Ends()
    ends.shake()
    assert not ends.tls.eof_received()
    assert ends.inner.heard == ["made", "eof"]
    assert ends.below.ended == ["close"]


@on_a_loop
async def test_a_cut_is_told_with_its_reason() -> None:
    ends = Ends()
    ends.shake()
    cut = ConnectionResetError("cut")
    ends.tls.connection_lost(cut)
    assert ends.inner.heard == ["made", ("lost", cut)]
    assert ends.tls.is_closing()
    ends.tls.write(b"x")  # nobody is there; nothing is raised


@pytest.mark.parametrize("how", ["eof", "lost"])
def test_a_connection_that_ends_in_the_handshake_was_never_made(how: str) -> None:
    async def test() -> None:
        ends = Ends()
        if how == "eof":
            ends.tls.eof_received()
            assert ends.below.ended == ["abort"]
        ends.tls.connection_lost(None)
        with pytest.raises(ConnectionResetError, match=CLOSED_EARLY):
            await ends.tls.handshake
        assert ends.inner.heard == []

    asyncio.run(test())


@on_a_loop
async def test_a_server_that_is_not_trusted_hears_why_and_the_protocol_nothing() -> None:
    ends = Ends(ssl.create_default_context())
    with pytest.raises(ssl.SSLError, match="(?i)unknown.ca"):
        ends.shake()
    with pytest.raises(ssl.SSLCertVerificationError):
        await ends.tls.handshake
    ends.tls.connection_lost(None)
    assert ends.inner.heard == []
    assert ends.below.ended == ["close"]


@on_a_loop
async def test_once_nobody_waits_for_the_handshake_nothing_is_made_of_it() -> None:
    ends = Ends()
    ends.tls.handshake.cancel()
    ends.shake()
    ends.tls.pause_writing()
    ends.tls.connection_lost(None)
    assert ends.inner.heard == []


@on_a_loop
async def test_what_came_before_a_false_record_is_given_on_and_then_the_connection_is_lost_for_it() -> None:
    ends = Ends()
    ends.shake()
    ends.server.write(b"good")
    ends.server.write(b"bad")
    data = bytearray(ends.outgoing.read())
    data[-1] ^= 1
    ends.tls.data_received(bytes(data))
    assert ends.inner.received == b"good"
    assert ends.below.ended == ["abort"]
    ends.tls.connection_lost(None)
    told = ends.inner.heard[-1]
    assert isinstance(told, tuple)
    assert isinstance(told[1], ssl.SSLError)


@on_a_loop
async def test_a_connection_is_lost_for_a_false_record_that_comes_alone() -> None:
    ends = Ends()
    ends.shake()
    ends.server.write(b"bad")
    data = bytearray(ends.outgoing.read())
    data[-1] ^= 1
    ends.tls.data_received(bytes(data))
    assert ends.inner.heard == ["made"]
    assert ends.inner.received == b""
    assert ends.below.ended == ["abort"]


@on_a_loop
async def test_after_close_nothing_is_sent_or_heard_but_the_end() -> None:
    ends = Ends()
    ends.shake()
    ends.tls.write(b"all of it")
    ends.tls.close()
    ends.tls.close()
    ends.tls.write(b"more")
    assert ends.read() == b"all of it"
    assert ends.server.read(1) == b""  # the goodbye
    ends.server.write(b"too late")
    ends.sent()
    ends.tls.eof_received()
    assert ends.below.ended == ["close"]
    assert ends.inner.heard == ["made"]
    assert ends.inner.received == b""


@on_a_loop
async def test_a_protocol_may_give_up_while_it_is_told() -> None:
    ends = Ends()
    ends.shake()
    ends.inner.on_data = ends.tls.abort
    ends.server.write(b"unasked")
    with pytest.raises(ssl.SSLWantReadError):
        ends.server.unwrap()
    ends.sent()
    assert ends.inner.received == b"unasked"
    assert ends.inner.heard == ["made"]  # not of the end that came with it
    assert ends.below.ended == ["abort"]


@on_a_loop
async def test_how_fast_goes_through_in_both_directions() -> None:
    ends = Ends()
    ends.shake()
    ends.tls.pause_reading()
    assert not ends.below.reading
    ends.tls.resume_reading()
    assert ends.below.reading
    ends.tls.pause_writing()
    ends.tls.resume_writing()
    assert ends.inner.heard == ["made", "pause", "resume"]
    assert ends.tls.get_write_buffer_size() == 7


@on_a_loop
async def test_who_aborts_what_is_gone_already_does_nothing() -> None:
    ends = Ends()
    ends.shake()
    ends.tls.close()
    ends.tls.connection_lost(None)
    ends.tls.abort()
    assert ends.below.ended == ["close"]


@on_a_loop
async def test_a_server_accepts_a_client_and_hears_of_one_that_is_refused() -> None:
    loop = asyncio.get_running_loop()
    accepts = SimpleNamespace(
        wrap_bio=lambda incoming, outgoing, *, server_hostname: SERVER.wrap_bio(incoming, outgoing, server_side=True)
    )
    inner, below = Inner(), Below()
    server = LoopTls(loop, inner, accepts, None)
    server.connection_made(below)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = CLIENT.wrap_bio(incoming, outgoing, server_hostname=NAME)
    for _ in range(2):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        server.data_received(outgoing.read())
        incoming.write(bytes(below.written))
        below.written.clear()
    assert server.handshake.done()
    client.write(b"request")
    server.data_received(outgoing.read())
    server.write(b"response")
    incoming.write(bytes(below.written))
    assert client.read(99) == b"response"
    assert inner.received == b"request"
    refusing = LoopTls(loop, Inner(), accepts, None)
    refusing.connection_made(Below())
    refusing.data_received(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError, match="HTTP_REQUEST"):
        await refusing.handshake


@on_a_loop
async def test_a_connection_that_is_gone_is_not_kept_until_the_garbage_collector_comes() -> None:
    """OpenSSL keeps tens of kilobytes of each, which the collector does not count."""

    def connections() -> int:
        return sum(type(each) is LoopTls for each in gc.get_objects())

    gc.disable()
    try:
        before = connections()
        ends = Ends()
        ends.inner.on_data = ends.tls.resume_reading  # whoever hears has the transport, to write to
        ends.shake()
        await ends.tls.handshake
        ends.tls.connection_lost(None)
        del ends
        await asyncio.sleep(0)
        assert connections() == before
    finally:
        gc.enable()


async def lost_by_a_write(refuses: bool) -> object:
    """What the protocol hears of a connection whose server has said goodbye, or that it wants a certificate, and has gone, when
    the first write fails and nothing was read before."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(NAME).configure_cert(context)
    AUTHORITY.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED if refuses else ssl.CERT_NONE
    context.num_tickets = 0
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    with theirs:
        inner = Inner()
        transport, tls = await loop.create_connection(lambda: LoopTls(loop, inner, CLIENT, NAME), sock=ours)
        incoming.write(await loop.sock_recv(theirs, RECORD))
        with pytest.raises(ssl.SSLWantReadError):
            server.do_handshake()
        await loop.sock_sendall(theirs, outgoing.read())
        await tls.handshake
        note_handshake(tls.get_extra_info("ssl_object"))
        # from here on the loop has no turn: it reads nothing
        incoming.write(theirs.recv(RECORD))
        with contextlib.suppress(ssl.SSLError):
            server.do_handshake()
            server.unwrap()
        theirs.send(outgoing.read())
    tls.write(b"hello")
    async with asyncio.timeout(20):
        while len(inner.heard) < 2 or ours.fileno() >= 0:  # turns of the loop, no time
            await asyncio.sleep(0)
    assert transport.is_closing()
    return inner.heard[-1]


@on_a_loop
async def test_a_refusal_that_was_not_read_before_a_write_failed_is_read_then() -> None:
    told = await lost_by_a_write(True)
    assert isinstance(told, tuple)
    assert refusal_in(told[1]) == "it requires a certificate and was shown none"


@on_a_loop
async def test_a_write_that_fails_without_one_is_told_as_it_failed() -> None:
    told = await lost_by_a_write(False)
    assert isinstance(told, tuple)
    assert isinstance(told[1], ConnectionError)
