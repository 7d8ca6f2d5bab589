"""New connections of a loop: addresses, names, paths; and with a trace the same in two steps."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
import trustme

from meshlib.policy.circuit_limits import TcpKeepalive
from meshlib.transport.upstream import loop_dial
from meshlib.transport.upstream.loop_dial import READING_TURNS, dial, hear_refusal, leads_to
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.tls import HTTP1_ONLY, PeerNameMismatch
from tests.support.fake_clock import FakeClock


class Trace:
    """What the dial tells of, in its order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def connecting(self, target, limit) -> None:
        self.told.append("connecting")

    async def starting_tls(self, target, context, limit) -> None:
        self.told.append("starting TLS")

    async def complete(self, stream) -> None:
        self.told.append("complete")

    async def failed(self, error) -> None:
        self.told.append(type(error).__name__)


@pytest.fixture
def listening():
    """The kernel answers for whoever listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()


@pytest.fixture
def names():
    made = Names(FakeClock(), lambda name: ("127.0.0.2", "127.0.0.1"))  # nobody listens at the first
    yield made
    made.close()


async def dialled(names: Names, target: Target, trace: Trace | None = None) -> asyncio.Transport:
    return await dial(asyncio.get_running_loop(), names, asyncio.Protocol(), target, HTTP1_ONLY, trace)


traced = pytest.mark.parametrize("trace", [None, Trace], ids=["plain", "traced"])


@traced
@pytest.mark.parametrize("host", ["127.0.0.1", "a.test"])
async def test_to_an_address_or_the_first_of_a_name_that_answers(names, listening, host, trace):
    keepalive = TcpKeepalive(probes=3, time=60, interval=5)
    told = trace and trace()
    transport = await dialled(names, Target(host, listening[1], keepalive=keepalive), told)
    sock = transport.get_extra_info("socket")
    assert transport.get_extra_info("peername") == listening
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert told is None or told.told == ["connecting", "complete"]
    transport.abort()
    await asyncio.sleep(0)


@traced
async def test_to_a_path(names, tmp_path, trace):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        transport = await dialled(names, Target(f"unix://{path}", 0), trace and trace())
        assert transport.get_extra_info("peername") == path
        transport.abort()
        await asyncio.sleep(0)


@traced
@pytest.mark.parametrize("host", ["127.0.0.1", "a.test"])
async def test_nobody_there_raises_what_the_system_said(names, host, trace):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    told = trace and trace()
    with pytest.raises(ConnectionRefusedError):
        await dialled(names, Target(host, port), told)
    assert told is None or told.told == ["connecting", "ConnectionRefusedError"]


@traced
async def test_a_peer_without_the_name_that_is_wanted_is_refused_and_let_go(names, trace):
    authority = trustme.CA()
    context, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("reviews.test").configure_cert(context)
    authority.configure_trust(trusted)
    ended = asyncio.Event()

    async def serve(reader, writer) -> None:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    target = Target("127.0.0.1", port, trusted, "reviews.test", subject_alt_names=("other.test",))
    told = trace and trace()
    with pytest.raises(PeerNameMismatch, match=r"wants one of other\.test"):
        await dialled(names, target, told)
    await asyncio.wait_for(ended.wait(), 30)
    assert told is None or told.told == ["connecting", "complete", "starting TLS", "complete"]
    server.close()
    await server.wait_closed()


@traced
@pytest.mark.parametrize("host", ["a.test", "169.254.169.254"])
async def test_a_guarded_target_is_never_connected_to_link_local_addresses(host, trace, monkeypatch):
    names = Names(FakeClock(), lambda name: ("169.254.169.254", "fe80::1"))
    loop = asyncio.get_running_loop()
    for connect in ("create_connection", "sock_connect"):
        monkeypatch.setattr(loop, connect, None)  # what calls it fails otherwise
    with pytest.raises(OSError, match="link-local or metadata address"):
        await dialled(names, Target(host, 80, guarded=True), trace and trace())
    names.close()


@traced
async def test_a_guarded_target_is_connected_to_its_other_addresses(listening, trace):
    names = Names(FakeClock(), lambda name: ("169.254.169.254", "127.0.0.1"))
    transport = await dialled(names, Target("a.test", listening[1], guarded=True), trace and trace())
    transport.abort()
    names.close()


class Connected:
    """The transport of a connection with these ends."""

    def __init__(self, **names) -> None:
        self.names = names

    def get_extra_info(self, name):
        return self.names.get(name)


@pytest.mark.parametrize(
    ("own", "there", "here", "ourselves"),
    [
        ("127.0.0.1", ("127.0.0.1", 15001), "127.0.0.1", True),
        ("127.0.0.1", ("::ffff:127.0.0.1", 15001, 0, 0), "::ffff:127.0.0.1", True),
        ("127.0.0.1", ("127.0.0.1", 15002), "127.0.0.1", False),
        ("127.0.0.1", ("127.0.0.2", 15001), "127.0.0.1", False),
        ("0.0.0.0", ("127.0.0.2", 15001), "127.0.0.1", True),
        ("0.0.0.0", ("10.0.0.1", 15001), "10.0.0.1", True),
        ("0.0.0.0", ("10.0.0.2", 15001), "10.0.0.1", False),
        ("::", ("fe80::1%eth0", 15001, 0, 2), "fe80::1%eth0", True),
        ("::1", ("::1", 15001, 0, 0), "::1", True),
        ("127.0.0.1", "/run/app.sock", "", False),
    ],
)
def test_a_connection_to_where_we_listen_is_known(own, there, here, ourselves):
    made = Connected(peername=there, sockname=(here, 40000) if here else "")
    assert leads_to({(own, 15001)}, made) is ourselves


@pytest.mark.parametrize(
    ("come", "closes", "turns"),
    [
        ([False], False, 0),
        ([True, False], False, 1),
        ([True, True, False], False, 2),
        ([True, False], True, READING_TURNS),
    ],
    ids=["nothing", "tickets", "more of them", "a refusal"],
)
async def test_what_has_come_behind_a_handshake_is_read_and_waited_for_only_as_long_as_it_may_be_a_refusal(
    monkeypatch, come, closes, turns
):
    taken = 0

    async def turn(_seconds):
        nonlocal taken
        taken += 1

    left = iter(come)
    monkeypatch.setattr(loop_dial, "may_refuse_late", lambda _tls: True)
    monkeypatch.setattr(loop_dial, "readable", lambda _number: next(left))
    monkeypatch.setattr(loop_dial.asyncio, "sleep", turn)
    with socket.socket() as sock:
        made = Connected(socket=sock)
        made.is_closing = lambda: closes
        await hear_refusal(made)
    assert taken == turns
