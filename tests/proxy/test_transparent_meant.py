"""Connections of clients that know of no proxy, without a kernel that leads them: where one was meant to go is made up."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from meshlib.proxy import transparent
from meshlib.proxy.process import ProxySettings
from meshlib.proxy.slow_clients import Wait
from tests.proxy.test_transparent import REGISTRY_ONLY, cluster, hello, undeclared
from tests.support.event_loops import event_loops
from tests.support.eventually import eventually
from tests.support.fake_clock import FakeClock
from tests.support.h2_client import H2Client
from tests.support.h2_server import H2Server
from tests.support.mesh_config import mesh_config
from tests.support.proxy import Proxy
from tests.support.resources import service_entry, to, virtual_service
from tests.support.servers import EchoServer


def tcp_echo(greets: bytes = b"hi\n") -> Iterator[int]:
    """A server that speaks first, and then says what it hears."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(greets)
            while data := self.request.recv(65536):
                self.request.sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(60)


echo = pytest.fixture(tcp_echo)


@pytest.fixture
def meant(monkeypatch):
    """Where connections were meant to go."""
    place: list[tuple[str, int] | None] = [None]
    monkeypatch.setattr(transparent, "original_destination", lambda sock: place[0])
    return place


def led(resources: list[dict], **options: Any) -> Proxy:
    return Proxy(resources, ProxySettings(drain=2, transparent=True), **options)


def mesh_of(http: int, tcp: int) -> list[dict]:
    found = cluster()
    for each in found:
        if each["kind"] == "Pod":
            port = http if each["metadata"]["labels"]["app"] == "reviews" else tcp
            each["spec"]["containers"][0]["ports"][0]["containerPort"] = port
        elif each["kind"] == "Service":
            each["spec"]["ports"][0]["targetPort"] = "http"
        elif each["metadata"]["name"] == "secure":
            each["spec"]["endpoints"][0]["ports"]["tls"] = tcp
    return found


def test_bytes_go_both_ways_and_ends_are_told(meant, echo):
    meant[0] = ("10.1.0.6", 3306)
    with led(mesh_of(1, echo)) as proxy, proxy.client() as client:
        assert client.until(b"\n") == b"hi\n"
        client.send(b"x" * 300_000)
        assert client.exactly(300_000) == b"x" * 300_000
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
        assert proxy.metric("istio_tcp_connections_opened_total") == 1
        assert eventually(lambda: proxy.metric("istio_tcp_connections_closed_total") == 1)


@pytest.mark.parametrize("loops", event_loops())
def test_a_client_that_says_all_at_once_is_heard_and_hears_the_answer(meant, echo, loops):
    """Before there is an upstream, and whether or not the loop can be told in ``connection_made`` to read nothing yet."""
    meant[0] = ("10.1.0.6", 3306)
    with led(mesh_of(1, echo), loops=loops) as proxy, proxy.client() as client:
        client.send(b"all")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.exactly(6) == b"hi\nall"
        assert client.closed()


def test_a_name_of_the_mesh_is_not_asked_of_a_port_that_has_it_not(meant, echo):
    meant[0] = ("127.0.0.1", echo)
    with led(mesh_of(1, 1)) as proxy, proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
        assert client.until(b"\r\n\r\n").startswith(b"hi\nGET / HTTP/1.1")


def test_under_registry_only_what_the_mesh_does_not_know_is_closed(meant, echo):
    meant[0] = ("127.0.0.1", echo)
    with led([*mesh_of(1, 1), REGISTRY_ONLY]) as proxy, proxy.client() as client:
        assert client.closed()
        meant[0] = ("10.1.0.5", 9080)
        with proxy.client() as other:
            assert other.get("/", "GET", "unknown").status == 502


@pytest.mark.parametrize("said", [b"bytes of TCP\n", b"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n"])
def test_what_is_meant_for_the_proxy_itself_goes_round_in_no_circle(monkeypatch, said):
    """As a client's connection to one of the machine's addresses is, where rules lead it here all the same; the proxy's own is
    led by none."""
    with led(mesh_of(1, 1)) as proxy:
        places = iter([("127.0.0.1", proxy.port)])
        monkeypatch.setattr(transparent, "original_destination", lambda sock: next(places, None))
        with proxy.client() as client, contextlib.suppress(ConnectionResetError):
            client.send(said)
            assert client.closed()
        assert eventually(lambda: not proxy.process.listener._connections)


def test_a_request_that_is_told_in_pieces_is_one_of_http(meant):
    with EchoServer("v1") as server:
        meant[0] = ("10.1.0.5", 9080)
        with led(mesh_of(server.port, 1)) as proxy, proxy.client() as client:
            for each in (b"G", b"ET", b" / HTTP/1.1\r\nHost: rev", b"iews\r\n\r\n"):
                client.send(each)
            assert client.response().status == 200
            assert client.get("/again", "GET", "reviews").status == 200  # on the same connection


def test_http2_is_led_like_any_other(meant):
    with EchoServer("v1") as server:
        meant[0] = ("10.1.0.5", 9080)
        with led(mesh_of(server.port, 1)) as proxy, H2Client(proxy.port) as client:
            assert client.get(host="reviews").status == 200


def test_connect_is_for_a_proxy_that_the_client_knows_of(meant):
    meant[0] = ("10.1.0.5", 9080)
    with led(mesh_of(1, 1)) as proxy, proxy.client() as client:
        client.send(b"CONNECT reviews:9080 HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
        assert client.head().status == 501


@pytest.mark.parametrize("first", [b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x16nonsense"])
def test_what_begins_like_tls_and_is_none_goes_where_it_was_meant_to(meant, echo, first):
    meant[0] = ("127.0.0.1", echo)
    found = mesh_of(1, 1)
    found[-1]["spec"]["ports"][0]["number"] = echo  # a port of TLS
    with led(found) as proxy, proxy.client() as client:
        client.send(first)
        assert client.exactly(3 + len(first)) == b"hi\n" + first


def test_a_client_that_says_nothing_or_leaves_is_let_go(meant):
    meant[0] = ("10.1.0.5", 9080)
    with led(mesh_of(1, 1)) as proxy:
        with proxy.client() as client:
            client.send(b"G")
            assert eventually(lambda: proxy.process.connections == 1)
        assert eventually(lambda: proxy.process.connections == 0)
        with proxy.client() as client:
            assert eventually(lambda: proxy.process.connections == 1)
            (led_one,) = proxy.process.listener._connections
            assert led_one.waits() == (Wait.NEXT, 0)
            client.send(b"G")
            assert eventually(lambda: led_one.waits() == (Wait.HEAD, 0))
            proxy.loop.call_soon_threadsafe(led_one.give_up, Wait.HEAD)
            assert client.closed()


def test_a_connection_that_has_said_nothing_is_closed_by_a_drain(meant):
    meant[0] = ("10.1.0.5", 9080)
    with led(mesh_of(1, 1)) as proxy, proxy.client() as client:
        assert eventually(lambda: proxy.process.connections == 1)
        proxy.stop()
        assert client.closed()
        assert proxy.join()


def test_an_endpoint_that_does_not_take_connections_closes_them(meant):
    meant[0] = ("10.1.0.6", 3306)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    with led(mesh_of(1, nobody)) as proxy, proxy.client() as client:
        assert client.closed()


def test_requests_at_the_address_of_an_undeclared_port_go_by_its_services_rules_whatever_their_host(meant):
    rules = virtual_service("web", {"rewrite": {"uri": "/by-its-rules/"}, "route": [to("web")]})
    meant[0] = ("10.1.0.7", 9000)
    with EchoServer("web") as server, led([*undeclared("web", "10.1.0.7", server.port), rules]) as proxy:
        with proxy.client() as client:
            for host in ("web:9000", "anything.example.com", "web.default:1"):
                assert client.get("/x", "GET", host).status == 200
        assert [(seen["path"], seen["headers"]["host"]) for seen in server.seen] == [
            ("/by-its-rules/x", "web:9000"),
            ("/by-its-rules/x", "anything.example.com"),
            ("/by-its-rules/x", "web.default:1"),
        ]
        assert proxy.metric("istio_requests_total", destination_service_name="web", response_code="200") == 3


@pytest.mark.parametrize("first", [b"\x00\x01\x02", b"get key\r\n", b"GET key\r\n", hello("other.example.com")])
def test_bytes_at_the_address_of_an_undeclared_port_are_for_its_service(meant, echo, first):
    meant[0] = ("10.1.0.7", 9000)
    resources = [*undeclared("raw", "10.1.0.7", echo), *mesh_of(1, 1)]
    with led(resources) as proxy, proxy.client() as client:
        client.send(first)
        assert client.exactly(3 + len(first)) == b"hi\n" + first
        assert proxy.metric("istio_tcp_connections_opened_total", destination_service_name="raw") == 1


def test_requests_over_http2_at_an_undeclared_port_go_on_over_http2(meant):
    def respond(peer, request):
        peer.respond(request, b"over two")

    meant[0] = ("10.1.0.7", 9000)
    with H2Server(respond) as server, led(undeclared("web", "10.1.0.7", server.port)) as proxy:
        with H2Client(proxy.port) as client:
            found = client.get(host="web")
            assert (found.status, bytes(found.body)) == (200, b"over two")


def test_a_server_that_speaks_first_at_an_undeclared_port_waits_for_its_client_without_a_timeout(meant, echo):
    meant[0] = ("10.1.0.7", 9000)
    with led(undeclared("raw", "10.1.0.7", echo)) as proxy, proxy.client() as client:
        assert eventually(lambda: proxy.process.connections == 1)
        (waiting,) = proxy.process.listener._connections
        assert waiting.alarm is None
        assert proxy.metric("istio_tcp_connections_opened_total") == 0
        client.send(b"hello\n")
        assert client.exactly(9) == b"hi\nhello\n"


@pytest.mark.parametrize(("first", "port"), [(b"", 9000), (b"GET", 9000), (b"", 9080)])
def test_a_client_that_says_too_little_within_the_detection_timeout_is_one_of_tcp(meant, echo, first, port):
    """At the service's own address, and at a port of HTTP, where it goes to the address that was meant."""
    meant[0] = ("10.1.0.7", 9000) if port == 9000 else ("127.0.0.1", echo)
    http = service_entry("http", "http.test", ports=[{"number": echo, "name": "http", "protocol": "HTTP"}])
    clock = FakeClock()
    found = [*undeclared("raw", "10.1.0.7", echo), http, mesh_config(protocolDetectionTimeout="5s")]
    with led(found, clock=clock) as proxy, proxy.client() as client:
        client.send(first)
        assert eventually(lambda: any(c.alarm is not None for c in list(proxy.process.listener._connections)))
        (waiting,) = proxy.process.listener._connections
        clock.advance(4.9)
        assert eventually(lambda: waiting._first == first)
        assert waiting in proxy.process.listener._connections

        def heard() -> bool:
            clock.advance(0.2)
            return bool(select.select([client.sock], [], [], 0.05)[0])

        assert eventually(heard)
        assert client.exactly(3 + len(first)) == b"hi\n" + first


def test_a_request_within_the_detection_timeout_is_one(meant):
    meant[0] = ("10.1.0.7", 9000)
    clock = FakeClock()
    with EchoServer("web") as server:
        found = [*undeclared("web", "10.1.0.7", server.port), mesh_config(protocolDetectionTimeout="5s")]
        with led(found, clock=clock) as proxy, proxy.client() as client:
            assert client.get("/", "GET", "web").status == 200
            clock.advance(60)
            assert client.get("/again", "GET", "web").status == 200


def test_at_a_port_whose_services_have_their_own_addresses_others_are_heard_first(meant, echo):
    meant[0] = ("127.0.0.1", echo)
    found = mesh_of(1, 1)
    found[3]["spec"]["ports"][0]["port"] = echo  # the database's
    with led(found) as proxy, proxy.client() as client:
        assert client.until(b"\n") == b"hi\n"
