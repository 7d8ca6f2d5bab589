"""TLS in front of a gRPC server: with a certificate of the client, or without one."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlib.ca.tls_front import TlsFront
from meshlib.clock import SystemClock
from meshlib.identity.credentials import Credentials
from meshlib.problems import MeshError
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles
from meshlib.transport.grpcio.server.spliced import peer_named

NOW = SystemClock.time()
ROOT = Authority.root("cluster.local", NOW)
BUNDLES = TrustBundles({"cluster.local": (ROOT.root_der,)})
OURS = ROOT.issue("spiffe://cluster.local/ns/istio-system/sa/istiod", NOW)
REVIEWS = ROOT.issue("spiffe://cluster.local/ns/default/sa/reviews", NOW)


class Fronted:
    """What stands behind says which peer it sees, and whose certificate the front tells of it."""

    def __init__(self, folder: Path) -> None:
        self.inner = socket.socket(socket.AF_UNIX)
        self.inner.bind(f"{folder}/inner")
        self.inner.listen()
        self.inner.settimeout(30)
        self.front = TlsFront(
            "127.0.0.1:0",
            lambda: Credentials(OURS, BUNDLES).server_context(["h2"], require_peer=False),
            f"{folder}/inner",
        )
        self.front.start()

    def connect(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        sock = socket.create_connection(("127.0.0.1", self.front.port), timeout=30)
        return context.wrap_socket(sock)

    def accepted(self) -> tuple[socket.socket, str]:
        sock, where = self.inner.accept()
        sock.settimeout(30)
        return sock, peer_named(where.decode() if isinstance(where, bytes) else where)


@pytest.fixture
def fronted(tmp_path: Path) -> Iterator[Fronted]:
    made = Fronted(tmp_path)
    yield made
    made.front.close()
    made.inner.close()


def anonymous() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=BUNDLES.pem)
    return context


def test_bytes_go_both_ways_and_the_certificate_is_known(fronted: Fronted) -> None:
    for context, leaf in ((Credentials(REVIEWS, BUNDLES).client_context(["h2"]), REVIEWS.leaf), (anonymous(), None)):
        with fronted.connect(context) as client:
            sock, peer = fronted.accepted()
            with sock:
                assert fronted.front.leaf_of(peer) == leaf
                client.sendall(b"ping")
                assert sock.recv(4) == b"ping"
                sock.sendall(b"pong")
                assert client.recv(4) == b"pong"


def test_a_certificate_of_another_root_is_refused(fronted: Fronted) -> None:
    other = Authority.root("cluster.local", NOW)
    stranger = Credentials(other.issue("spiffe://cluster.local/ns/default/sa/reviews", NOW), BUNDLES)
    with contextlib.suppress(OSError), fronted.connect(stranger.client_context(["h2"])) as client:
        client.sendall(b"ping")
        assert client.recv(1) == b""
    fronted.inner.setblocking(False)
    with pytest.raises(BlockingIOError):
        fronted.inner.accept()


def test_who_did_not_come_through_it_is_nobody(fronted: Fronted) -> None:
    with pytest.raises(KeyError):
        fronted.front.leaf_of("unix:")


def test_what_is_gone_is_forgotten(fronted: Fronted) -> None:
    with fronted.connect(anonymous()):
        sock, peer = fronted.accepted()
        assert fronted.front.leaf_of(peer) is None
    with sock:
        assert sock.recv(1) == b""
    pause = threading.Event()
    for _ in range(3000):
        if not fronted.front._leaves:
            break
        pause.wait(0.01)
    assert not fronted.front._leaves


@pytest.mark.parametrize("address", ["localhost", ":1", "127.0.0.1:x", "127.0.0.1:70000", "192.0.2.1:1"])
def test_an_address_where_nothing_can_listen_is_said(address: str) -> None:
    with pytest.raises(MeshError, match="is not an address|nothing can listen at"):
        TlsFront(address, anonymous, "/nowhere")
