"""What a handshake tells of a peer, whole or resumed, over every kind of object that Python has for it."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from meshlib.identity.credentials import Credentials
from meshlib.serving import tls_peer
from meshlib.serving.tls_peer import Chains, TlsPeer, peer_of, remember_sni
from tests.support.identities import CLIENT, World


def shaken(world: World, client: ssl.SSLContext, chains: Chains, name: str | None = "reviews") -> TlsPeer | None:
    """The peer of a connection over a pair of sockets."""
    credentials = world.identity.current()
    assert credentials is not None
    context = credentials.server_context(("http/1.1",))
    remember_sni(context)
    here, there = socket.socketpair()
    done = threading.Thread(target=lambda: client.wrap_socket(there, server_hostname=name).close())
    done.start()
    with context.wrap_socket(here, server_side=True) as tls:
        found = peer_of(tls, credentials, chains)
    done.join(20)
    return found


@pytest.fixture
def world() -> World:
    world = World()
    world.rotate()
    return world


def test_it_is_the_leaf_the_intermediates_behind_it_and_the_root_that_vouched(world: World) -> None:
    between = world.root.intermediate(world.now)
    peer = shaken(world, world.client(between), Chains())
    assert peer is not None
    svid_chain = between.chain_pem
    assert [ssl.DER_cert_to_PEM_cert(each).encode() for each in peer.chain] == [svid_chain]
    assert peer.roots == {world.root.root_der}
    assert (peer.sni, peer.version, peer.alpn) == ("reviews", "TLSv1.3", "http/1.1")
    assert peer.cipher in (0x1301, 0x1302, 0x1303)


def test_a_name_that_was_not_asked_for_is_none(world: World) -> None:
    peer = shaken(world, world.client(), Chains(), name=None)
    assert peer is not None
    assert peer.sni == ""


def test_it_counts_until_the_first_of_all_its_certificates_ends_ours_too(world: World) -> None:
    peer = shaken(world, world.client(ttl=500), Chains())
    assert peer is not None
    assert peer.until == pytest.approx(world.now + 500, abs=2)
    peer = shaken(world, world.client(world.root.intermediate(world.now, ttl=300)), Chains())
    assert peer is not None
    assert peer.until == pytest.approx(world.now + 300, abs=2)
    world.rotate(ttl=200)
    peer = shaken(world, world.client(), Chains())
    assert peer is not None
    assert peer.until == pytest.approx(world.now + 200, abs=2)


def test_a_python_that_does_not_tell_the_chain_leaves_every_root_in_doubt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that dropping any of them closes the connection."""
    from meshlib.security.authority import Authority

    other = Authority.root("cluster.local", world.now)
    world.rotate(world.root, other)
    monkeypatch.setattr(tls_peer, "_asked", lambda done: ())
    peer = shaken(world, world.client(), Chains())
    assert peer is not None
    assert peer.chain == ()
    assert peer.roots == {world.root.root_der, other.root_der}
    assert peer.until == pytest.approx(world.now + 86400, abs=2)


def test_what_is_remembered_for_resumed_sessions_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_peer, "MOST_CHAINS", 3)
    chains = Chains()
    for number in range(5):
        chains.keep(b"%d" % number, (b"i",), (b"r",), 1.0)
    assert chains.of(b"4") == ((b"i",), (b"r",), 1.0)
    assert chains.of(b"0") == ((), (), tls_peer.NEVER)


def test_certificates_that_come_again_end_when_they_did_whatever_stands_behind_them_now(world: World) -> None:
    """The same leaf, once under a short intermediate and once more: what is remembered of each is its own end."""
    between = world.root.intermediate(world.now, ttl=300)
    client = world.client(between)
    untils = []
    for _ in range(2):
        peer = shaken(world, client, Chains())
        assert peer is not None
        untils.append(peer.until)
    other = shaken(world, world.client(ttl=500), Chains())
    assert other is not None
    assert untils == [pytest.approx(world.now + 300, abs=2)] * 2
    assert other.until == pytest.approx(world.now + 500, abs=2)


def test_the_root_that_vouched_is_told_by_each_handshake_though_the_leaf_was_met_before(world: World) -> None:
    """No memo says who has vouched."""
    from meshlib.security.authority import Authority

    other = Authority.root("cluster.local", world.now)
    roots = []
    for root in (world.root, other):
        world.rotate(root)
        peer = shaken(world, world.client(root), Chains())
        assert peer is not None
        roots.append(peer.roots)
    assert roots == [{world.root.root_der}, {other.root_der}]


def test_ends_that_are_remembered_have_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_peer, "MOST_ENDS", 4)
    monkeypatch.setattr(tls_peer, "_ends", {})
    for _ in range(6):
        shaken(world, world.client(), Chains())
    assert 0 < len(tls_peer._ends) <= 5


def test_a_peer_shows_no_certificate_in_its_repr(world: World) -> None:
    credentials = world.identity.current()
    assert isinstance(credentials, Credentials)
    peer = TlsPeer(credentials, world.root.issue(CLIENT, world.now).leaf)
    assert repr(peer) == "<TlsPeer  >"


def test_the_dates_of_certificates_that_many_peers_show_are_read_once(world: World, monkeypatch) -> None:
    read: list[str] = []
    real = ssl.cert_time_to_seconds
    monkeypatch.setattr(ssl, "cert_time_to_seconds", lambda text: (read.append(text), real(text))[1])
    tls_peer._seconds.cache_clear()
    tls_peer._ends.clear()
    first, second = (shaken(world, world.client(), Chains()) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.until == second.until < tls_peer.NEVER
    assert read
    assert len(read) == len(set(read))
