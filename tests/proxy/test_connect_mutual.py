"""CONNECT: tunnels, and websockets, over the mTLS of the mesh."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from meshlib.security.authority import Authority
from meshlib.transport.core.trust_watch import LOOK
from tests.support.eventually import eventually
from tests.support.identities import World
from tests.support.inbound_proxy import InboundProxy
from tests.support.mesh_tls import (
    CLIENT,
    OTHER_ROOT,
    REVIEWS,
    ROOT,
    Gate,
    WallClock,
    bundles,
    credentials,
    identity,
    svid,
)
from tests.support.proxy import Client, Proxy
from tests.support.resources import destination_rule, pod, service
from tests.support.tcp_server import TcpServer, echo
from tests.support.tunnels import outside, says_of, tunnelled


def test_a_service_of_the_mesh_is_reached_over_its_mtls_as_bytes_not_as_http():
    gate = Gate(credentials(REVIEWS), ("istio-http/1.1", "istio"))

    def serve(sock: socket.socket) -> None:
        with gate.wrap_socket(sock) as secured:
            echo(secured)

    mine, _ = identity(svid(CLIENT), start=False)

    rule = destination_rule("db.test", tls={"mode": "ISTIO_MUTUAL"})
    rule["metadata"]["name"] = "db"
    with TcpServer(serve) as server:
        with Proxy([outside("db.test", 5432, server.port), rule], identity=mine) as proxy:
            with proxy.client() as client:
                tunnelled(client, "db.test:5432")
                assert says_of(client, b"secret") == b"secret"
                labels = {"source_principal": CLIENT, "destination_principal": REVIEWS}
                assert proxy.metric("istio_tcp_connections_opened_total", **labels) == 1
    assert gate.selected == ["istio"]


@pytest.fixture
def mutual():
    """A server of the mesh that echoes."""
    gate = Gate(credentials(REVIEWS, trusts=BOTH), ("istio-http/1.1", "istio"))

    def serve(sock: socket.socket) -> None:
        with gate.wrap_socket(sock) as secured:
            echo(secured)

    with TcpServer(serve) as server:
        yield server


BOTH = bundles(ROOT, OTHER_ROOT)
LIMIT = 60.0


def time_until(proxy: Proxy, clock: WallClock, over: Callable[[], bool]) -> float:
    """How many seconds of the mesh's clock pass until so it is; the network gets a moment of its own each time."""
    began = clock.now
    while not over() and clock.now - began < 10 * LIMIT:
        clock.advance(LOOK)
        proxy.mesh._core.trust_watch.ring()
        _ = eventually(over, 0.2 if clock.now - began < LIMIT else 20)  # the loop looks
    return clock.now - began


def gone(client: Client) -> bool:
    """Whether its connection has ended."""
    client.sock.setblocking(False)
    try:
        return client.sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        client.sock.settimeout(20)


def test_a_tunnel_over_mtls_is_cut_within_a_minute_when_the_root_it_stands_on_is_dropped(mutual):
    mine, source = identity(svid(CLIENT), BOTH, start=False)
    rule = destination_rule("db.test", tls={"mode": "ISTIO_MUTUAL"})
    rule["metadata"]["name"] = "db"
    clock = WallClock()
    with Proxy([outside("db.test", 5432, mutual.port), rule], identity=mine, clock=clock) as proxy:
        with proxy.client() as client:
            tunnelled(client, "db.test:5432")
            assert says_of(client, b"secret") == b"secret"
            source.publish(svid(CLIENT), BOTH)  # a new certificate by a root that counts still
            proxy.mesh._core.trust_watch.ring()
            assert says_of(client, b"more") == b"more"
            source.publish(svid(CLIENT, OTHER_ROOT), bundles(OTHER_ROOT))
            assert time_until(proxy, clock, lambda: gone(client)) <= LIMIT
        assert eventually(lambda: proxy.metric("istio_tcp_connections_closed_total") == 1)
        assert proxy.process.listener.forwarder.upstream.tunnels == set()


@pytest.mark.parametrize("name", ["tcp", "other"])
def test_a_pod_of_a_headless_service_is_reached_over_mtls_by_its_address_too(mutual, name):
    there = pod("db", "v1", mutual.port)
    there["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
    there["spec"]["serviceAccountName"] = "reviews"
    ports = [{"name": name, "port": mutual.port, "targetPort": mutual.port}]
    resources = [service("db", clusterIP="None", ports=ports), there]
    mine, _ = identity(svid(CLIENT), BOTH, start=False)
    with Proxy(resources, identity=mine) as proxy, proxy.client() as client:
        tunnelled(client, f"127.0.0.1:{mutual.port}")
        assert says_of(client, b"secret") == b"secret"
        labels = {"destination_principal": REVIEWS, "destination_service": "db.default.svc.cluster.local"}
        assert proxy.metric("istio_tcp_connections_opened_total", **labels) == 1


def test_a_tunnel_over_mtls_that_ends_is_not_kept(mutual):
    mine, _ = identity(svid(CLIENT), BOTH, start=False)
    rule = destination_rule("db.test", tls={"mode": "ISTIO_MUTUAL"})
    rule["metadata"]["name"] = "db"
    with Proxy([outside("db.test", 5432, mutual.port), rule], identity=mine) as proxy:
        upstream = proxy.process.listener.forwarder.upstream
        with proxy.client() as client:
            tunnelled(client, "db.test:5432")
            assert len(upstream.tunnels) == 1
        assert eventually(lambda: upstream.tunnels == set())


SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: reviews:9080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_a_websocket_over_mtls_is_cut_likewise():
    gate = Gate(credentials(REVIEWS, trusts=BOTH), ("istio-http/1.1", "istio"))

    def serve(sock: socket.socket) -> None:
        with gate.wrap_socket(sock) as secured:
            secured.recv(65536)
            secured.sendall(SWITCHED)
            echo(secured)

    mine, source = identity(svid(CLIENT), BOTH, start=False)
    clock = WallClock()
    with TcpServer(serve) as server:
        pods = pod("reviews", "v1", server.port)
        pods["spec"]["serviceAccountName"] = "reviews"
        resources = [
            service("reviews"),
            pods,
            destination_rule("reviews", tls={"mode": "ISTIO_MUTUAL"}),
        ]
        with Proxy(resources, identity=mine, clock=clock) as proxy, proxy.client() as client:
            client.send(UPGRADE)
            assert client.head().status == 101
            assert says_of(client, b"word") == b"word"
            source.publish(svid(CLIENT, OTHER_ROOT), bundles(OTHER_ROOT))
            assert time_until(proxy, clock, lambda: gone(client)) <= LIMIT


def test_a_websocket_of_a_client_whose_root_is_dropped_is_cut_too(monkeypatch):
    monkeypatch.setattr("meshlib.serving.tls_connections.GRACE", 0.0)
    world = World(of_a_mesh=True)
    world.rotate()

    def app(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(SWITCHED)
        echo(sock)

    context = world.client()
    context.check_hostname = False
    with TcpServer(app) as server, InboundProxy(server.port, identity=world.identity) as proxy:
        with proxy.client(lambda sock: context.wrap_socket(sock, server_hostname="reviews")) as client:
            client.send(UPGRADE)
            assert client.head().status == 101
            assert says_of(client, b"word") == b"word"
            world.root = Authority.root("cluster.local", world.now)
            world.rotate(world.root)
            assert client.closed()
