"""One port accepts TLS and plain text as its mode says, each connection with the certificate of that moment; nobody who is
slow, silent or numerous keeps others out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import socket
import ssl
from collections import Counter
from typing import Any

import pytest

from meshlib.policy.mtls_mode import MtlsMode
from meshlib.security.authority import Authority
from meshlib.transport.upstream.loop_tls import LoopTls
from tests.support.acceptor import accepting, until
from tests.support.identities import CLIENT, World

STRICT, PERMISSIVE, DISABLE = MtlsMode.STRICT, MtlsMode.PERMISSIVE, MtlsMode.DISABLE


@pytest.fixture
def world() -> World:
    world = World()
    world.rotate()
    return world


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed: the acceptor is not tried on it")
        policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
        return policy
    return asyncio.DefaultEventLoopPolicy()


WHO = f"{CLIENT} hello"


async def test_strict_serves_tls_and_resets_plain_text(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with accepting(world, STRICT) as port:
        assert await port.ask(world.client()) == WHO
        with caplog.at_level(logging.WARNING):
            assert await port.ask() == "ConnectionResetError"
            assert await port.ask() == "ConnectionResetError"
    assert [r.getMessage() for r in caplog.records if "STRICT" in r.getMessage()][1:] == []
    assert f"plain text to port {port.port}" in caplog.text


async def test_permissive_serves_both_on_one_port(world: World) -> None:
    async with accepting(world, PERMISSIVE) as port:
        assert await port.ask(world.client()) == WHO
        assert await port.ask() == "plain hello"


async def test_disable_serves_plain_text_alone(world: World) -> None:
    async with accepting(world, DISABLE) as port:
        assert await port.ask() == "plain hello"
        assert await port.ask(world.client()) in ("SSLError", "ConnectionResetError")


async def test_the_mode_is_that_of_the_moment(world: World) -> None:
    async with accepting(world, PERMISSIVE) as port:
        assert await port.ask() == "plain hello"
        port.mode = STRICT
        assert await port.ask() == "ConnectionResetError"
        port.mode = PERMISSIVE
        assert await port.ask() == "plain hello"


async def test_a_peer_without_certificate_or_of_another_root_is_refused_in_permissive_too(world: World) -> None:
    other = Authority.root("cluster.local", world.now)
    async with accepting(world, PERMISSIVE) as port:
        for context in (world.stranger(), world.client(other)):
            said = await port.ask(context)
            assert WHO not in said
            assert "hello" not in said
        assert port.serves.peers == []


async def test_the_log_says_what_is_wrong_with_a_certificate_that_is_refused(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with accepting(world, STRICT) as port:
        with caplog.at_level(logging.WARNING):
            await port.ask(world.client(Authority.root("cluster.local", world.now)))
            await until(lambda: port.acceptor.counts["handshake_failed"] == 1)
    assert (
        "a TLS handshake has failed: CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate (" in caplog.text
    )


async def test_who_is_refused_in_the_handshake_hears_why(world: World) -> None:
    def heard(port: int) -> str:
        with blocking(port, world.stranger()) as tls:
            try:
                tls.recv(1)
            except ssl.SSLError as error:
                return str(error.reason)
            return "nothing"

    async with accepting(world, STRICT) as port:
        assert await asyncio.to_thread(heard, port.port) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        await until(lambda: port.acceptor.counts["handshake_failed"] == 1)
        assert port.acceptor.waiting == 0


def blocking(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20), server_hostname="reviews")


async def test_a_client_that_reads_slowly_gets_all_that_was_written_before_the_end(world: World) -> None:
    async with accepting(world, STRICT) as port:
        with await asyncio.to_thread(blocking, port.port, world.client()) as tls:
            await until(lambda: len(port.serves.made) == 1)
            transport = port.serves.made[0].transport
            transport.write(bytes(20_000_000))
            transport.close()
            assert transport.is_closing()
            left = 20_000_000
            while piece := await asyncio.to_thread(tls.recv, 1 << 20):
                left -= len(piece)
            assert left == 0


async def test_what_greets_a_peer_may_fail_and_nobody_waits_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with accepting(world, STRICT) as port:
        monkeypatch.setattr(port.acceptor, "greeted", lambda transport, credentials: 1 / 0)
        assert "hello" not in await port.ask(world.client())
        await until(lambda: port.acceptor.waiting == 0)


async def test_strict_without_a_certificate_serves_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    empty = World()  # no certificate has come yet
    async with accepting(empty, STRICT) as port:
        with caplog.at_level(logging.WARNING):
            assert await port.ask(empty.client()) == "ConnectionResetError"
            assert await port.ask() == "ConnectionResetError"
        assert "we have no certificate" in caplog.text
        empty.rotate()
        assert await port.ask(empty.client()) == WHO


async def test_without_identity_permissive_serves_plain_text() -> None:
    async with accepting(None, PERMISSIVE) as port:
        assert await port.ask() == "plain hello"
        assert await port.ask(World().client()) == "ConnectionResetError"


async def test_an_expired_certificate_of_ours_is_shown_to_nobody(world: World) -> None:
    world.rotate(ttl=100)
    async with accepting(world, STRICT) as port:
        assert await port.ask(world.client()) == WHO
        port.clock.advance(200)
        assert await port.ask(world.client()) == "ConnectionResetError"


async def test_each_connection_takes_the_certificate_that_is_current(world: World) -> None:
    async with accepting(world, STRICT) as port:
        shown = []
        for _ in range(3):
            svid = world.rotate()
            conversation = await port.connect(world.client(), "reviews")
            shown.append(conversation.writer.get_extra_info("ssl_object").getpeercert(True) == svid.leaf)
            conversation.close()
        assert shown == [True] * 3


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_resumes_until_its_root_is_dropped(world: World, version: ssl.TLSVersion) -> None:
    """Both ways in one test, that the refusal is not one of resumption as such."""
    other = Authority.root("cluster.local", world.now)
    world.rotate(world.root, other)
    context = world.client(world.root, world.root, other)
    context.minimum_version = context.maximum_version = version

    async def served() -> None:
        async with accepting(world, STRICT) as port:

            def ask(session: ssl.SSLSession | None) -> tuple[str, bool, ssl.SSLSession | None]:
                with socket.create_connection(("127.0.0.1", port.port), timeout=20) as plain:
                    try:
                        with context.wrap_socket(plain, server_hostname="reviews", session=session) as tls:
                            tls.sendall(b"hello")
                            return tls.recv(1000).decode() or "closed", bool(tls.session_reused), tls.session
                    except OSError as error:
                        return type(error).__name__, False, None

            said, resumed, session = await asyncio.to_thread(ask, None)
            assert (said, resumed) == (WHO, False)
            said, resumed, _ = await asyncio.to_thread(ask, session)
            assert (said, resumed) == (WHO, True)
            first, again = port.serves.peers
            assert (again.leaf, again.chain, again.roots, again.until) == (
                first.leaf,
                first.chain,
                first.roots,
                first.until,
            )
            world.rotate(other)  # our own certificate is still of the old root; clients of it count no more
            said, _, _ = await asyncio.to_thread(ask, session)
            assert "hello" not in said

    asyncio.run(served())


async def test_the_first_byte_stays_for_who_serves_it_however_slowly_it_comes(world: World) -> None:
    async with accepting(world, PERMISSIVE) as port:
        conversation = await port.connect()
        await until(lambda: port.acceptor.waiting == 1)
        assert await conversation.say("G") == "plain G"
        assert await conversation.say("ET") == "plain ET"
        conversation.close()


@pytest.mark.parametrize("over", ["TLS", "plain text"])
async def test_small_writes_are_sent_at_once(world: World, over: str) -> None:
    """asyncio itself asks for that where a socket says that it is TCP's, as those that are accepted here do not."""
    async with accepting(world, PERMISSIVE) as port:
        conversation = await port.connect(world.client() if over == "TLS" else None, "reviews")
        assert (await conversation.say("hello")).endswith(" hello")
        sock = port.serves.made[0].transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        conversation.close()


async def test_a_client_hello_that_comes_byte_by_byte_is_shaken_hands_with(world: World) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = world.client().wrap_bio(incoming, outgoing, server_hostname="reviews")
    async with accepting(world, STRICT) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        for byte in outgoing.read():
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            while True:
                incoming.write(await reader.read(65536))
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    pass
            tls.write(b"hello")
            writer.write(outgoing.read())
            await until(lambda: len(port.serves.peers) == 1)
        writer.transport.abort()


# -- those who are slow -------------------------------------------------------------------------------------------------


async def test_a_silent_client_and_one_that_does_not_end_its_handshake_are_cut_off_in_time(world: World) -> None:
    async with accepting(world, STRICT) as port:
        silent, begun = await port.connect(), await port.connect()
        begun.writer.write(b"\x16\x03\x01\x02\x00")
        await until(lambda: port.acceptor.waiting == 2)
        port.clock.advance(9.9)
        assert await port.ask(world.client()) == WHO
        assert port.acceptor.waiting == 2
        port.clock.advance(0.2)
        assert {await silent.ended(), await begun.ended()} <= {"ConnectionResetError", "closed"}
        assert port.acceptor.counts["timed_out"] == 2
        assert port.acceptor.waiting == 0


def hello_of(context: ssl.SSLContext) -> bytes:
    """The first message of a handshake."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="reviews").do_handshake()
    return outgoing.read()


async def test_a_handshake_takes_no_task(world: World) -> None:
    async with accepting(world, STRICT) as port:
        before = asyncio.all_tasks()
        with socket.create_connection(("127.0.0.1", port.port)) as client:
            client.sendall(hello_of(world.client()))
            await until(lambda: port.acceptor.waiting == 1)
            client.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(client, 1 << 16)  # the server's part of it
            assert asyncio.all_tasks() == before


async def test_a_connection_may_be_cut_off_in_the_turn_in_which_it_is_accepted(world: World) -> None:
    """Its connection has no transport then."""
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    async with accepting(world, STRICT) as port:
        with socket.create_connection(("127.0.0.1", port.port)) as client:
            client.sendall(hello_of(world.client()))
            while not select.select([port.sock], [], [], 20)[0]:
                pass
            port.acceptor._accept()
            assert port.acceptor.waiting == 1
            port.acceptor.abort()
            await port.acceptor.settled()
            assert port.acceptor.waiting == 0
            client.setblocking(False)
            with pytest.raises(ConnectionResetError):
                async with asyncio.timeout(20):
                    await asyncio.get_running_loop().sock_recv(client, 1)
    assert port.acceptor.counts["tls"] == port.acceptor.counts["handshake_failed"] == 0
    assert not problems


async def test_to_settle_takes_turns_of_the_loop_where_gather_takes_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since Python 3.12 ``gather`` has ended at once where all that it waits for has: what follows their ends had no turn, and
    a server that was told to stop never did."""
    gather, asked = asyncio.gather, Counter[str]()

    def eager(*waiting: asyncio.Future[None], return_exceptions: bool) -> asyncio.Future[Any]:
        asked["times"] += 1
        assert asked["times"] < 50, "nobody else has a turn"
        if not all(each.done() for each in waiting):
            return gather(*waiting, return_exceptions=return_exceptions)
        ended = asyncio.get_running_loop().create_future()
        ended.set_result([None] * len(waiting))
        return ended

    monkeypatch.setattr(asyncio, "gather", eager)
    async with accepting(world, STRICT) as port:
        with socket.create_connection(("127.0.0.1", port.port)) as client:
            client.sendall(hello_of(world.client()))
            while not select.select([port.sock], [], [], 20)[0]:
                pass
            port.acceptor._accept()
            client.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(client, 1)  # it has begun
            port.acceptor.abort()
            await port.acceptor.settled()
    assert asked["times"]


async def test_a_handshake_may_be_cut_off_in_the_turn_in_which_it_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has heard of its end then."""
    shake = LoopTls._shake

    def cut_when_over(tls: LoopTls) -> bool:
        over = shake(tls)
        if over:
            port.acceptor.abort()
        return over

    monkeypatch.setattr(LoopTls, "_shake", cut_when_over)
    async with accepting(world, STRICT) as port:

        async def conversation() -> None:
            await (await port.connect(world.client(), "reviews")).say("hello")

        with pytest.raises(ConnectionError):
            await conversation()
        await port.acceptor.settled()
        assert port.acceptor.waiting == 0
    assert (port.acceptor.counts["tls"], port.acceptor.counts["handshake_failed"]) == (0, 0)


async def test_silence_is_cut_off_where_tls_is_not_looked_for_as_well(world: World) -> None:
    async with accepting(world, DISABLE) as port:
        silent = await port.connect()
        await until(lambda: port.acceptor.waiting == 1)
        port.clock.advance(10.1)
        assert await silent.ended() in ("ConnectionResetError", "closed")


async def test_three_hundred_stalled_handshakes_keep_nobody_out(world: World) -> None:
    async with accepting(world, STRICT) as port:
        stalled = [await port.connect() for _ in range(300)]
        for each in stalled[::2]:
            each.writer.write(b"\x16\x03\x01")
        await until(lambda: port.acceptor.waiting == 300)
        assert [await port.ask(world.client()) for _ in range(5)] == [WHO] * 5
        assert port.acceptor.waiting == 300
        for each in stalled:
            each.close()


async def test_of_too_many_that_wait_the_oldest_is_cut_off_first(world: World) -> None:
    async with accepting(world, STRICT, most_waiting=3) as port:
        stalled = []
        for _ in range(5):
            stalled.append(await port.connect())
            stalled[-1].writer.write(b"\x16\x03\x01")
            await until(lambda: port.acceptor.counts["accepted"] == len(stalled))
        assert port.acceptor.waiting == 3
        assert {await stalled[0].ended(), await stalled[1].ended()} <= {"ConnectionResetError", "closed"}
        assert await port.ask(world.client()) == WHO
        assert port.acceptor.counts["cut"] == 3
        for each in stalled[3:]:
            each.close()


async def test_those_cut_off_leave_no_descriptor(world: World) -> None:
    async with accepting(world, STRICT) as port:
        left = []
        for _ in range(3):  # a loop opens descriptors of its own at first
            clients = [socket.create_connection(("127.0.0.1", port.port)) for _ in range(20)]
            for number, client in enumerate(clients):
                client.sendall(b"\x16\x03\x01"[: number % 4])
            await until(lambda: port.acceptor.waiting == 20)
            port.clock.advance(11)
            await until(lambda: port.acceptor.waiting == 0)
            await port.acceptor.settled()
            for client in clients:
                client.close()
            for _ in range(5):
                await asyncio.sleep(0)
            left.append(len(os.listdir("/proc/self/fd")))
        assert left[2] < left[1] + 10, "others of this process may open some, but not one for each that was cut off"


async def test_without_descriptors_it_rests_says_so_and_accepts_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with accepting(world, PERMISSIVE) as port:
        real, attempts = port.sock, []

        class Full:
            """The listening socket of a process that has no descriptor left."""

            full = True

            def accept(self) -> object:
                attempts.append(1)
                if self.full:
                    raise OSError(errno.EMFILE, "Too many open files")
                return real.accept()

            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

        port.acceptor._sock = full = Full()  # type: ignore[assignment]
        with caplog.at_level(logging.WARNING):
            conversation = await port.connect()
            await until(lambda: port.acceptor.counts["no_room"] == 1)
            for _ in range(20):
                await asyncio.sleep(0)
        assert len(attempts) == 1, "it spins"
        assert "ulimit -n" in caplog.text
        full.full = False
        port.clock.advance(1.1)
        assert await conversation.say("hello") == "plain hello"
        conversation.close()


async def test_what_the_kernel_has_accepted_when_it_stops_is_served_for_as_long_as_it_is_quick(world: World) -> None:
    async with accepting(world, STRICT) as port:
        late = socket.create_connection(("127.0.0.1", port.port))
        silent = socket.create_connection(("127.0.0.1", port.port))  # the loop has not run: both are the kernel's
        port.acceptor.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port.port))
        assert port.acceptor.waiting == 2

        def ask() -> bytes:
            late.settimeout(20)
            with world.client().wrap_socket(late) as tls:
                tls.sendall(b"hello")
                return tls.recv(1000)

        assert (await asyncio.to_thread(ask)).decode() == WHO
        port.clock.advance(1.1)
        await until(lambda: port.acceptor.waiting == 0)
        silent.settimeout(20)
        with pytest.raises(ConnectionResetError):
            silent.recv(1)
        silent.close()
