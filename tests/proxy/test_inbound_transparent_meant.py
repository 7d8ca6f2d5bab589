"""Connections to ports of a pod, without a kernel that leads them: which port one was meant for is made up."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import select

import pytest

from meshlib.proxy import inbound_transparent
from meshlib.proxy.inbound_transparent import MeantFor, TransparentInbound
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.proxy.test_transparent import hello
from tests.support.eventually import eventually
from tests.support.fake_clock import FakeClock
from tests.support.h2_client import H2Client
from tests.support.identities import TodaysClock, World
from tests.support.inbound_proxy import InboundProxy
from tests.support.mesh_config import mesh_config
from tests.support.peer_authentication import peer_authentication
from tests.support.proxy import Client
from tests.support.resources import pod, service
from tests.support.servers import EchoServer
from tests.support.shortcuts import NEEDS_SHORTCUTS
from tests.support.tcp_server import TcpServer, echo


@pytest.fixture
def meant(monkeypatch):
    """Where connections were meant to go."""
    place: list[tuple[str, int] | None] = [None]
    monkeypatch.setattr(inbound_transparent, "original_destination", lambda sock: place[0])
    return place


@pytest.fixture
def app():
    with EchoServer("app") as made:
        yield made


@pytest.fixture
def tcp():
    with TcpServer() as made:
        yield made


def declaring(port: int, name: str, **more: object) -> list[dict]:
    """The workload's Service, with a targetPort that is a name."""
    return [
        service("reviews", ports=[{"name": name, "port": 80, "targetPort": "http"}], **more),
        pod("reviews", "v1", port),
    ]


def world() -> World:
    made = World(of_a_mesh=True)
    made.rotate()
    return made


def over_tls(made: World, *alpn: str):
    context = made.client(alpn=alpn)
    context.check_hostname = False
    return lambda sock: context.wrap_socket(sock, server_hostname="reviews")


def headers(response):
    return json.loads(response.body)["headers"]


def test_a_port_of_http_is_served_as_requests(meant, app):
    meant[0] = ("127.0.0.1", app.port)
    with InboundProxy(None, own=declaring(app.port, "http")) as proxy, proxy.client() as client:
        assert [client.get(f"/{n}").status for n in range(3)] == [200] * 3
        client.send(b"\x00\r\n\r\n")
        assert client.head().status == 400
        assert proxy.metric("istio_requests_total", reporter="destination", response_code="200") == 3


def test_a_port_of_tcp_is_bytes_whoever_speaks_first(meant):
    def greets(sock):
        sock.sendall(b"hi\n")
        echo(sock)

    disabled = peer_authentication("default", "DISABLE")
    with TcpServer(greets) as server:
        meant[0] = ("127.0.0.1", server.port)
        with InboundProxy(None, disabled, own=declaring(server.port, "tcp")) as proxy:
            with proxy.client() as client:
                assert client.until(b"\n") == b"hi\n"
                client.send(b"GET / HTTP/1.1\r\n\r\n")
                assert client.until(b"\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
            labels = {"reporter": "destination", "request_protocol": "tcp", "destination_service_name": "reviews"}
            assert eventually(lambda: proxy.metric("istio_tcp_connections_closed_total", **labels) == 1)
            assert proxy.metric("istio_tcp_sent_bytes_total", **labels) == 21
            assert proxy.metric("istio_tcp_received_bytes_total", **labels) == 18


@pytest.mark.parametrize("own", [[], "sniffed"])
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\x00\x01binary", b"\x00\x01binary"),
        (hello("x.example.com"), hello("x.example.com")[:6]),
    ],
)
def test_bytes_that_are_no_http_are_passed_through_where_nothing_is_declared(meant, tcp, own, sent, said):
    meant[0] = ("127.0.0.1", tcp.port)
    found = declaring(tcp.port, "what") if own else [service("other")]
    with InboundProxy(None, own=found, identity=world().identity) as proxy, proxy.client() as client:
        client.send(sent)
        assert client.exactly(len(said))[:6] == said[:6]


def test_a_clients_own_tls_that_comes_in_pieces_is_passed_through(meant, tcp):
    meant[0] = ("127.0.0.1", tcp.port)
    whole = hello("x.example.com")
    with InboundProxy(None, own=[service("other")], identity=world().identity) as proxy, proxy.client() as client:
        listener = proxy.listener
        assert isinstance(listener, TransparentInbound)
        client.send(whole[:1])
        assert eventually(lambda: listener.acceptor.waiting == 1)
        client.send(whole[1:50])
        client.send(whole[50:])
        assert client.exactly(len(whole)) == whole


def test_a_client_that_leaves_amid_its_hello_is_forgotten(meant, tcp):
    meant[0] = ("127.0.0.1", tcp.port)
    with InboundProxy(None, own=[service("other")], identity=world().identity) as proxy:
        listener = proxy.listener
        assert isinstance(listener, TransparentInbound)
        with proxy.client() as client:
            client.send(hello("x.example.com")[:40])
            assert eventually(lambda: listener.acceptor.waiting == 1)
        assert eventually(lambda: listener.acceptor.waiting == 0)
        assert tcp.accepted == []


@pytest.mark.parametrize(
    ("alpn", "name"),
    [(("istio-http/1.1", "istio", "http/1.1"), "what"), (("istio-http/1.1", "istio", "http/1.1"), "http")],
)
def test_requests_over_mtls_are_told_by_what_the_client_offers(meant, app, alpn, name):
    made = world()
    meant[0] = ("127.0.0.1", app.port)
    strict = peer_authentication("default", "STRICT")
    with InboundProxy(None, strict, own=declaring(app.port, name), identity=made.identity) as proxy:
        with proxy.client(over_tls(made, *alpn)) as client:
            response = client.get()
            assert response.status == 200
            assert "x-forwarded-client-cert" in headers(response)


def test_plain_text_is_reset_at_a_port_that_is_strict_and_at_no_other(meant, tcp, caplog):
    policy = peer_authentication("default", "PERMISSIVE", app="reviews")
    policy["spec"]["portLevelMtls"] = {str(tcp.port): {"mode": "STRICT"}}
    meant[0] = ("127.0.0.1", tcp.port)
    with TcpServer() as other, InboundProxy(None, policy, own=[service("reviews")], identity=world().identity) as proxy:
        with proxy.client() as client:
            client.send(b"hello\n")
            assert client.closed()
        meant[0] = ("127.0.0.1", other.port)
        with proxy.client() as client:
            client.send(b"hello\n")
            assert client.exactly(6) == b"hello\n"


def test_http2_is_served_as_http1_is(meant, app):
    meant[0] = ("127.0.0.1", app.port)
    with InboundProxy(None, own=declaring(app.port, "http")) as proxy, H2Client(proxy.port) as client:
        assert client.get(host="reviews").status == 200


@pytest.mark.parametrize("destination", [None, "own"])
def test_what_is_meant_for_the_proxy_itself_is_reset_with_a_message(meant, caplog, destination):
    with InboundProxy(None) as proxy:
        meant[0] = None if destination is None else ("10.1.0.1", proxy.port)
        with caplog.at_level(logging.WARNING, "meshlib.proxy"):
            for _ in range(2):
                with contextlib.suppress(ConnectionResetError), proxy.client() as client:  # as it connects, perhaps
                    assert client.closed()
            assert eventually(lambda: proxy.listener.counts["meant_for_the_proxy"] == 2)
    (said,) = [record.getMessage() for record in caplog.records if "proxy's own" in record.getMessage()]
    assert re.search(rf"was meant for port {proxy.port}, which is the proxy's own, and was reset", said)


@NEEDS_SHORTCUTS
def test_a_place_keeps_nothing_to_be_used_again_once_nobody_is_connected_to_it(meant, app):
    meant[0] = ("127.0.0.1", app.port)
    with InboundProxy(None, own=[service("reviews")]) as proxy:
        listener = proxy.listener
        assert isinstance(listener, TransparentInbound)
        with proxy.client() as client:
            assert client.get().status == 200
            (place,) = listener._places.values()
            lane = place.place.hop.lane
            assert lane is not None
            assert PLAIN or eventually(lambda: client.get().status == 200 and lane.spares)
        assert eventually(lambda: place.users == 0)
        assert eventually(lambda: place.place.hop.lane is None)
        assert lane.spares == []
        with proxy.client() as client:
            assert client.get("/again").status == 200


def test_places_that_nobody_is_connected_to_are_forgotten_when_there_are_many(meant, app, monkeypatch):
    monkeypatch.setattr(inbound_transparent, "MOST_PLACES", 2)
    with InboundProxy(None, own=[service("reviews")]) as proxy:
        listener = proxy.listener
        assert isinstance(listener, TransparentInbound)
        meant[0] = ("127.0.0.1", app.port)
        with proxy.client() as kept:
            assert kept.get().status == 200
            for last in (2, 3, 4, 5):
                meant[0] = (f"127.0.0.{last}", 1)
                with proxy.client() as client:
                    assert client.get().status == 503
                assert eventually(lambda: sum(each.users for each in listener._places.values()) == 1)
            assert len(listener._places) <= 3
            assert kept.get("/again").status == 200
        assert all(isinstance(each, MeantFor) for each in listener._places.values())


@pytest.mark.parametrize(("mode", "why"), [("STRICT", "the proxy has no certificate"), ("PERMISSIVE", "")])
def test_it_says_when_nobody_can_be_let_in(mode, why):
    with InboundProxy(None, peer_authentication("default", mode)) as proxy:
        assert why in proxy.listener.why_not_ready()
        assert bool(proxy.listener.why_not_ready()) == bool(why)


# -- how long first bytes are waited for


def greets(sock):
    sock.sendall(b"hi\n")
    echo(sock)


def heard(clock: FakeClock, client: Client) -> bool:
    """Whether a second later something has come, if only the end."""
    clock.advance(1.0)
    return bool(select.select([client.sock], [], [], 0.05)[0])


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE"])
@pytest.mark.parametrize("name", ["what", "tcp"])
@pytest.mark.parametrize("first", [b"", b"G", b"\x16\x03\x01\x02"])
def test_who_says_too_little_within_the_detection_timeout_is_one_of_tcp(meant, mode, name, first):
    clock = FakeClock()
    timeout = mesh_config(protocolDetectionTimeout="5s")
    with TcpServer(greets) as server:
        meant[0] = ("127.0.0.1", server.port)
        own = declaring(server.port, name)
        with InboundProxy(None, timeout, peer_authentication("default", mode), own=own, clock=clock) as proxy:
            with proxy.client() as client:
                client.send(first)
                assert eventually(lambda: heard(clock, client))
                assert client.exactly(3 + len(first)) == b"hi\n" + first


def test_who_says_nothing_within_the_detection_timeout_is_reset_where_mtls_is_asked_for(meant, tcp):
    clock = TodaysClock()
    meant[0] = ("127.0.0.1", tcp.port)
    policies = [mesh_config(protocolDetectionTimeout="5s"), peer_authentication("default", "STRICT")]
    with InboundProxy(None, *policies, own=declaring(tcp.port, "tcp"), identity=world().identity, clock=clock) as proxy:
        with proxy.client() as client:
            assert eventually(lambda: heard(clock, client))
            assert client.closed()
    assert tcp.accepted == []


def test_requests_within_the_detection_timeout_are_such_and_may_take_as_long_as_they_like_later(meant, app):
    clock = FakeClock()
    meant[0] = ("127.0.0.1", app.port)
    timeout = mesh_config(protocolDetectionTimeout="5s")
    with InboundProxy(None, timeout, own=declaring(app.port, "what"), clock=clock) as proxy, proxy.client() as client:
        assert client.get().status == 200
        clock.advance(60)
        assert client.get("/again").status == 200
