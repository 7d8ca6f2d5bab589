"""A gateway behind a load balancer that speaks the PROXY protocol (gatewayTopology.proxyProtocol): who its clients are."""

from __future__ import annotations

import json
import ssl

import pytest

import meshlib
from meshlib.transport.protocol.proxy_protocol import ProxyHeader, Version, header_for, header_of
from tests.proxy.test_gateway_connection import backend, bound
from tests.support.eventually import eventually
from tests.support.gateway_certificates import client, leaf, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.inbound import envoy_filter
from tests.support.inbound_policies import authorization_policy
from tests.support.mesh_config import mesh_config
from tests.support.proxy import Proxy
from tests.support.resources import destination_rule, service_entry, to, virtual_service
from tests.support.servers import EchoServer
from tests.support.tcp_server import TcpServer

BEHIND = mesh_config(defaultConfig={"gatewayTopology": {"proxyProtocol": {}}})
PROXIED = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
CLIENT, HERE = ("203.0.113.7", 4711), ("198.51.100.1", 443)


@pytest.fixture
def app():
    with EchoServer("app") as made:
        yield made


def only(kind: str, ip: str) -> dict:
    policy = authorization_policy("only", "ALLOW", {"from": [{"source": {kind: [ip]}}]})
    policy["spec"]["selector"] = {"matchLabels": {"istio": "ingress"}}
    return policy


def seen(response) -> dict[str, str]:
    assert response.status == 200, response.status
    return json.loads(response.body)["headers"]


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("pieces", [1, 1000])
def test_the_client_is_who_the_header_says(app, version, pieces):
    header = header_for(version, CLIENT, HERE)
    with Gateway(BEHIND, backend(app), gateway(server("*")), bound("shop.test")) as gw, gw.client() as sock:
        sock.send(header[:-1]) if pieces > 1 else None
        sock.send(header[-1:] if pieces > 1 else header)
        told = seen(sock.get("/", "GET", "shop.test", "x-forwarded-for: 6.6.6.6"))
        assert told["x-forwarded-for"] == "6.6.6.6,203.0.113.7"
        assert told["x-envoy-external-address"] == "203.0.113.7"
        assert seen(sock.get("/", "GET", "shop.test"))["x-forwarded-for"] == "203.0.113.7"  # and so for its connection


def test_the_patch_of_an_envoy_filter_that_people_wrote_before_does_the_same(app):
    patch = {
        "applyTo": "LISTENER_FILTER",
        "match": {"context": "GATEWAY"},
        "patch": {
            "operation": "INSERT_FIRST",
            "value": {"name": "envoy.filters.listener.proxy_protocol", "typed_config": {"@type": PROXIED}},
        },
    }
    patched = envoy_filter("proxied", patch, labels={"istio": "ingress"})
    with Gateway(patched, backend(app), gateway(server("*")), bound("shop.test")) as gw, gw.client() as sock:
        sock.send(header_for(Version.V1, CLIENT, HERE))
        assert seen(sock.get("/", "GET", "shop.test"))["x-forwarded-for"] == "203.0.113.7"


@pytest.mark.parametrize(
    ("kind", "ip", "status"),
    [
        ("remoteIpBlocks", "203.0.113.7", 200),
        ("remoteIpBlocks", "127.0.0.1", 403),
        ("ipBlocks", "127.0.0.1", 200),  # the load balancer's, as in Istio
        ("ipBlocks", "203.0.113.7", 403),
    ],
)
def test_policies_tell_the_client_from_the_load_balancer(app, kind, ip, status):
    resources = BEHIND, only(kind, ip), backend(app), gateway(server("*")), bound("shop.test")
    with Gateway(*resources) as gw, gw.client() as sock:
        sock.send(header_for(Version.V2, CLIENT, HERE))
        assert sock.get("/", "GET", "shop.test").status == status


@pytest.mark.parametrize(
    ("kind", "ip", "let_in"), [("remoteIpBlocks", "203.0.113.7", True), ("ipBlocks", "203.0.113.7", False)]
)
def test_so_do_policies_of_connections(kind, ip, let_in):
    with TcpServer() as behind:
        entry = service_entry(
            "db",
            "db.test",
            ports=[{"number": 5432, "name": "tcp", "protocol": "TCP"}],
            endpoints=[{"address": "127.0.0.1", "ports": {"tcp": behind.port}}],
        )
        routed = virtual_service("db", hosts=["db.test"], gateways=["gw"], tcp=[{"route": [to("db.test", port=5432)]}])
        del routed["spec"]["http"]
        port = server("*", port=5432, protocol="TCP")
        with Gateway(BEHIND, only(kind, ip), entry, routed, gateway(port)) as gw, gw.client(5432) as sock:
            sock.send(header_for(Version.V1, CLIENT, HERE) + b"hello\n")
            if let_in:
                assert sock.exactly(6) == b"hello\n"
            else:
                assert sock.closed()


def test_it_comes_before_tls(app):
    pair = leaf("shop.test")
    resources = (
        BEHIND,
        tls_secret("cert", pair),
        backend(app),
        gateway(server("shop.test", port=443, protocol="HTTPS", tls={"mode": "SIMPLE", "credentialName": "cert"})),
        bound("shop.test"),
    )

    def wrap(sock):
        sock.sendall(header_for(Version.V2, CLIENT, HERE))
        return client().wrap_socket(sock, server_hostname="shop.test")

    with Gateway(*resources) as gw, gw.client(443, wrap) as sock:
        assert isinstance(sock.sock, ssl.SSLSocket)
        assert seen(sock.get("/", "GET", "shop.test"))["x-forwarded-for"] == "203.0.113.7"


def test_a_check_of_the_load_balancers_own_is_its_own(app):
    with Gateway(BEHIND, backend(app), gateway(server("*")), bound("shop.test")) as gw, gw.client() as sock:
        sock.send(header_for(Version.V1, None, None))
        assert seen(sock.get("/", "GET", "shop.test"))["x-forwarded-for"] == "127.0.0.1"


def test_a_connection_without_a_header_is_closed_and_counted(app):
    with Gateway(BEHIND, backend(app), gateway(server("*")), bound("shop.test")) as gw:
        with gw.client() as sock:
            sock.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            assert sock.closed()
        assert app.seen == []
        assert gw.metric("meshlib_proxy_tls_connections_total", result="not_proxied") == 1


def test_a_client_that_leaves_before_its_header_is_forgotten(app):
    with Gateway(BEHIND, backend(app), gateway(server("*")), bound("shop.test")) as gw:
        with gw.client() as sock:
            sock.send(b"PROX")
            assert eventually(lambda: gw.process.connections == 1)
        assert eventually(lambda: gw.process.connections == 0)


def test_nobody_reads_a_header_where_the_topology_does_not_say_so(app):
    with Gateway(backend(app), gateway(server("*")), bound("shop.test")) as gw, gw.client() as sock:
        sock.send(header_for(Version.V1, CLIENT, HERE))
        assert sock.head().status == 400


# -- and on: what is written before the connections to an upstream -------------------------------------------------------------


class Behind:
    """A server of HTTP or TCP behind a header, which it keeps."""

    def __init__(self) -> None:
        self.headers: list[ProxyHeader] = []
        self.server = TcpServer(self._serve)

    def _serve(self, sock) -> None:
        data = b""
        while (header := header_of(data)) is None:
            more = sock.recv(65536)
            if not more:
                return
            data += more
        self.headers.append(header)
        rest = data[header.size :]
        while True:
            while b"\n\r\n" not in rest and not rest.startswith(b"hello"):
                more = sock.recv(65536)
                if not more:
                    return
                rest += more
            http, rest = not rest.startswith(b"hello"), b""
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" if http else b"heard\n")


@pytest.fixture
def behind():
    made = Behind()
    with made.server:
        yield made


def proxied_rule(version: str, host: str) -> dict:
    return destination_rule(host, proxyProtocol={"version": version})


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_requests_at_a_gateway_go_on_behind_a_header_of_their_clients_connection(behind, version):
    resources = (
        service_entry(
            "app",
            "app.internal.test",
            ports=[{"number": 8000, "name": "http", "protocol": "HTTP"}],
            endpoints=[{"address": "127.0.0.1", "ports": {"http": behind.server.port}}],
        ),
        proxied_rule(version, "app.internal.test"),
        gateway(server("*")),
        bound("shop.test"),
    )
    with Gateway(BEHIND, *resources) as gw:
        for source in (CLIENT, CLIENT, ("203.0.113.8", 1)):
            with gw.client() as sock:
                sock.send(header_for(Version.V2, source, HERE))
                assert [sock.get("/", "GET", "shop.test").status for _ in range(2)] == [200, 200]
    told = [(each.source, each.destination) for each in behind.headers]
    assert told == [
        (CLIENT, HERE),
        (("203.0.113.8", 1), HERE),
    ]  # a connection for each client, and one for all its requests


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_so_do_connections_without_requests(behind, version):
    entry = service_entry(
        "db",
        "db.test",
        ports=[{"number": 5432, "name": "tcp", "protocol": "TCP"}],
        endpoints=[{"address": "127.0.0.1", "ports": {"tcp": behind.server.port}}],
    )
    routed = virtual_service("db", hosts=["db.test"], gateways=["gw"], tcp=[{"route": [to("db.test", port=5432)]}])
    del routed["spec"]["http"]
    port = server("*", port=5432, protocol="TCP")
    with Gateway(proxied_rule(version, "db.test"), entry, routed, gateway(port)) as gw, gw.client(5432) as sock:
        name = sock.sock.getsockname()
        sock.send(b"hello")
        assert sock.until(b"\n") == b"heard\n"
        assert behind.headers[0].source == name
        assert behind.headers[0].destination == ("127.0.0.1", gw.port(5432))


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_a_sidecar_knows_nothing_of_the_connection_and_says_so(behind, version):
    entry = service_entry(
        "app",
        "app.internal.test",
        ports=[{"number": 8000, "name": "http", "protocol": "HTTP"}],
        endpoints=[{"address": "127.0.0.1", "ports": {"http": behind.server.port}}],
    )
    with Proxy([entry, proxied_rule(version, "app.internal.test")]) as proxy, proxy.client() as sock:
        assert sock.get("/", "GET", "app.internal.test:8000").status == 200
    assert [(each.source, each.destination) for each in behind.headers] == [(None, None)]


def test_a_client_of_the_library_sends_none(app):
    entry = service_entry("app", "app.internal.test", endpoints=[{"address": "127.0.0.1", "ports": {"http": app.port}}])
    with meshlib.Mesh.from_resources([entry, proxied_rule("V1", "app.internal.test")]) as mesh, mesh.client() as client:
        assert client.get("http://app.internal.test/").status_code == 200
