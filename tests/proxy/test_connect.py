"""CONNECT: where a tunnel leads, what the client hears when it leads nowhere, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from typing import Any

import pytest
import trustme

from meshlib.proxy.process import ProxySettings
from tests.support.eventually import eventually
from tests.support.fake_clock import FakeClock
from tests.support.inbound_proxy import InboundProxy
from tests.support.mesh_config import mesh_config
from tests.support.proxy import Proxy
from tests.support.resources import destination_rule, pod, service, service_entry, to, virtual_service
from tests.support.tcp_server import TcpServer, echo
from tests.support.tunnels import asked, closed_port, outside, refusal, says_of, tunnelled

REFUSED = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
LATE = "upstream connect error or disconnect/reset before headers. reset reason: connection timeout"
OVERFLOW = "upstream connect error or disconnect/reset before headers. reset reason: overflow"


@pytest.fixture(scope="module")
def server():
    with TcpServer() as made:
        yield made


# -- where it leads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["TCP", "TLS", "HTTPS", "MySQL", "Mongo"])
def test_a_tunnel_leads_to_the_endpoint_of_a_service_whose_port_is_not_http(server, protocol):
    with Proxy([outside("db.test", 5432, server.port, protocol)]) as proxy, proxy.client() as client:
        tunnelled(client, "db.test:5432")
        assert says_of(client, b"anything\r\n\r\n") == b"anything\r\n\r\n"


@pytest.mark.parametrize("name", ["db", "DB.default", "db.default.svc.cluster.local"])
def test_a_service_of_the_cluster_has_all_its_names(server, name):
    resources = [
        service("db", ports=[{"name": "tcp", "port": 5432, "targetPort": "http"}]),
        pod("db", "v1", server.port),
    ]
    with Proxy(resources) as proxy, proxy.client() as client:
        tunnelled(client, f"{name}:5432")
        assert says_of(client, b"hello") == b"hello"


def named(name: bytes) -> Any:
    def behave(sock: socket.socket) -> None:
        sock.sendall(name)

    return behave


def test_tcp_rules_decide_by_port_and_weight():
    with TcpServer(named(b"one")) as one, TcpServer(named(b"two")) as two:
        rules = virtual_service(
            "db.test",
            tcp=[
                {"match": [{"port": 5432}], "route": [to("two.test", weight=100, port=5432), to("db.test", weight=0)]}
            ],
        )
        rules["spec"].pop("http")
        rules["metadata"]["name"] = "db"
        resources = [outside("db.test", 5432, one.port), outside("two.test", 5432, two.port), rules]
        with Proxy(resources) as proxy, proxy.client() as client:
            tunnelled(client, "db.test:5432")
            assert client.exactly(3) == b"two"


def test_tls_rules_decide_by_the_name_that_is_asked_for():
    with TcpServer(named(b"one")) as one, TcpServer(named(b"two")) as two:
        rules = virtual_service(
            "db", hosts=["*.test"], tls=[{"match": [{"sniHosts": ["a.test"]}], "route": [to("two.other", port=443)]}]
        )
        rules["spec"].pop("http")
        resources = [
            service_entry(
                "all",
                "*.test",
                ports=[{"number": 443, "name": "tls", "protocol": "TLS", "targetPort": one.port}],
                endpoints=[{"address": "127.0.0.1"}],
            ),
            outside("two.other", 443, two.port, "TLS"),
            rules,
        ]
        with Proxy(resources) as proxy, proxy.client() as client:
            tunnelled(client, "a.test:443")
            assert client.exactly(3) == b"two"


def test_a_host_outside_the_mesh_is_passed_through(server):
    with Proxy([]) as proxy, proxy.client() as client:
        tunnelled(client, f"127.0.0.1:{server.port}")
        assert says_of(client, b"hello") == b"hello"
        assert proxy.metric(
            "istio_tcp_connections_opened_total", destination_service_name="PassthroughCluster", response_flags="-"
        )


def test_a_host_outside_the_mesh_is_refused_where_only_the_registry_is_allowed(server):
    with Proxy([mesh_config(outboundTrafficPolicy={"mode": "REGISTRY_ONLY"})]) as proxy:
        assert refusal(proxy, f"127.0.0.1:{server.port}") == (502, "")
        assert proxy.metric("istio_tcp_connections_opened_total", destination_service_name="BlackHoleCluster") == 1


def test_a_port_of_http_knows_no_tunnels_so_its_rules_cannot_be_gone_around(server):
    resources = [
        mesh_config(outboundTrafficPolicy={"mode": "REGISTRY_ONLY"}),
        service("reviews"),
        pod("reviews", "v1", server.port),
    ]
    with Proxy(resources) as proxy:
        assert refusal(proxy, "reviews:9080") == (502, "")


# -- when it leads nowhere ----------------------------------------------------------------------------------------------


def test_an_upstream_that_is_dead_is_503_and_a_failed_connection():
    with Proxy([outside("db.test", 5432, closed_port())]) as proxy:
        assert refusal(proxy, "db.test:5432") == (503, REFUSED)
        for name in ("opened", "closed"):
            found = proxy.metric(
                f"istio_tcp_connections_{name}_total",
                response_flags="UF",
                reporter="source",
                request_protocol="tcp",
                destination_service="db.test",
                connection_security_policy="unknown",
            )
            assert found == 1


def test_connect_failures_eject_an_endpoint():
    ejects = destination_rule(
        "db.test", outlierDetection={"consecutive5xxErrors": 1, "maxEjectionPercent": 100, "baseEjectionTime": "1h"}
    )
    ejects["metadata"]["name"] = "db"
    with Proxy([outside("db.test", 5432, closed_port()), ejects]) as proxy:
        assert refusal(proxy, "db.test:5432") == (503, REFUSED)
        assert refusal(proxy, "db.test:5432") == (503, "no healthy upstream")


def test_a_rule_that_leads_to_nothing_is_503():
    rules = virtual_service("db.test", tcp=[{"route": [to("gone.test", port=1)]}])
    rules["spec"].pop("http")
    rules["metadata"]["name"] = "db"
    with Proxy([outside("db.test", 5432, 1), rules]) as proxy:
        assert refusal(proxy, "db.test:5432") == (503, "")


def test_an_upstream_that_is_slow_to_connect_is_given_up_after_the_connect_timeout():
    with Proxy([outside("db.test", 5432, 1)]) as proxy:
        tried = []

        async def never(_protocol: object, target: Any, _offer: object) -> None:
            tried.append(target.connect_timeout)
            raise TimeoutError

        upstream = proxy.process.listener.forwarder.upstream
        upstream.dial = never
        assert refusal(proxy, "db.test:5432") == (503, LATE)
        assert tried == [10.0]


def test_a_client_that_goes_while_its_upstream_connects_leaves_nothing():
    with Proxy([outside("db.test", 5432, 1)]) as proxy:
        begun, given_up = [], []

        async def hangs(*_: object) -> None:
            begun.append(True)
            try:
                await asyncio.Event().wait()
            finally:
                given_up.append(True)

        proxy.process.listener.forwarder.upstream.dial = hangs
        with proxy.client() as client:
            asked(client, "db.test:5432")
            assert eventually(lambda: begun)
        assert eventually(lambda: given_up and not proxy.process.connections)
        assert eventually(lambda: proxy.metric("istio_tcp_connections_closed_total", response_flags="DC") == 1)
        (state,) = [b.state for b in proxy.mesh._core.live.bound.values() if b.state.requests]
        assert state.active == 0


def test_connections_of_a_cluster_are_limited_and_one_more_is_turned_away(server):
    limited = destination_rule("db.test", connectionPool={"tcp": {"maxConnections": 1}})
    limited["metadata"]["name"] = "db"
    with Proxy([outside("db.test", 5432, server.port), limited]) as proxy:
        with proxy.client() as client:
            tunnelled(client, "db.test:5432")
            assert refusal(proxy, "db.test:5432") == (503, OVERFLOW)
        assert eventually(lambda: not proxy.process.connections)
        with proxy.client() as client:
            tunnelled(client, "db.test:5432")


# -- bytes --------------------------------------------------------------------------------------------------------------


def test_the_tls_of_a_client_is_with_the_upstream_itself():
    authority = trustme.CA()
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("api.test").configure_cert(serving)
    authority.configure_trust(trusting)

    def serve(sock: socket.socket) -> None:
        with serving.wrap_socket(sock, server_side=True) as secured:
            echo(secured)

    with TcpServer(serve) as server, Proxy([outside("api.test", 443, server.port, "TLS")]) as proxy:
        with proxy.client() as client:
            tunnelled(client, "api.test:443")
            with trusting.wrap_socket(client.sock, server_hostname="api.test") as secured:
                secured.sendall(b"secret")
                assert secured.recv(100) == b"secret"


def test_a_server_that_speaks_first_is_heard():
    with TcpServer(named(b"220 ready\r\n")) as server, Proxy([outside("mail.test", 25, server.port)]) as proxy:
        with proxy.client() as client:
            tunnelled(client, "mail.test:25")
            assert client.until(b"\r\n") == b"220 ready\r\n"
            assert client.closed()


def test_what_a_client_sends_ahead_of_the_200_arrives(server):
    with Proxy([outside("db.test", 5432, server.port)]) as proxy, proxy.client() as client:
        client.send(b"CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n\r\nahead")
        assert client.head().status == 200
        assert client.exactly(5) == b"ahead"


def test_what_a_client_sends_ahead_of_a_refusal_is_no_request():
    with Proxy([outside("db.test", 5432, closed_port())]) as proxy, proxy.client() as client:
        client.send(
            b"CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n\r\nGET / HTTP/1.1\r\nHost: db.test\r\n\r\n"
        )
        response = client.response()
        assert (response.status, response.header("connection")) == (503, "close")
        assert client.closed()


def test_a_side_that_has_said_all_still_hears():
    def sums(sock: socket.socket) -> None:
        size = 0
        while data := sock.recv(65536):
            size += len(data)
        sock.sendall(b"%d bytes" % size)

    with TcpServer(sums) as server, Proxy([outside("db.test", 5432, server.port)]) as proxy, proxy.client() as client:
        tunnelled(client, "db.test:5432")
        client.send(b"x" * 100_000)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.exactly(12) == b"100000 bytes"
        assert client.closed()
        assert eventually(lambda: not proxy.process.connections)


def test_a_side_that_does_not_read_is_waited_for_with_bounded_memory():
    size, reads, taken = 32 * 1024 * 1024, threading.Event(), []

    def reads_when_told(sock: socket.socket) -> None:
        reads.wait(20)
        while data := sock.recv(65536):
            taken.append(len(data))

    with TcpServer(reads_when_told) as server, Proxy([outside("db.test", 5432, server.port)]) as proxy:
        with proxy.client() as client:
            tunnelled(client, "db.test:5432")
            (downstream,) = proxy.process.listener._connections
            sending = threading.Thread(target=client.send, args=(b"x" * size,), daemon=True)
            sending.start()
            assert eventually(lambda: not downstream.transport.is_reading())
            assert downstream._tunnel.upstream.get_write_buffer_size() < 1024 * 1024
            reads.set()
            sending.join(20)
            assert eventually(lambda: sum(taken) == size)
        assert eventually(lambda: proxy.metric("istio_tcp_received_bytes_total", response_flags="-") == size)


def test_a_client_that_does_not_read_has_its_upstream_wait():
    size = 32 * 1024 * 1024

    def pours(sock: socket.socket) -> None:
        sock.sendall(b"x" * size)

    with TcpServer(pours) as server, Proxy([outside("db.test", 5432, server.port)]) as proxy:
        with proxy.client() as client:
            tunnelled(client, "db.test:5432")
            (downstream,) = proxy.process.listener._connections
            assert eventually(lambda: downstream._tunnel and not downstream._tunnel.upstream.is_reading())
            assert downstream.transport.get_write_buffer_size() < 1024 * 1024
            client.sock.settimeout(20)
            got = len(client._rest)  # what came with the head
            while more := client.sock.recv(1024 * 1024):
                got += len(more)
            assert got == size
        assert eventually(lambda: proxy.metric("istio_tcp_sent_bytes_total", response_flags="-") == size)


def test_the_end_of_the_upstream_is_the_end_of_the_tunnel_when_the_client_ends_too(server):
    with Proxy([outside("db.test", 5432, server.port)]) as proxy, proxy.client() as client:
        tunnelled(client, "db.test:5432")
        assert says_of(client, b"there") == b"there"
        server.accepted[-1].shutdown(socket.SHUT_RDWR)
        assert client.closed()
    assert eventually(lambda: not proxy.process.connections)


# -- what is told of it -------------------------------------------------------------------------------------------------


def test_a_tunnel_has_a_line_in_the_access_log_when_it_has_ended(server, caplog):
    log = logging.getLogger("tests.connect")
    caplog.set_level(logging.INFO, log.name)
    form = "%REQ(:METHOD)% %REQ(:AUTHORITY)% %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER%"
    with Proxy([outside("db.test", 5432, server.port)], access_log=log, access_log_format=form) as proxy:
        with proxy.client() as client:
            tunnelled(client, "db.test:5432")
            assert says_of(client, b"hello") == b"hello"
            assert not caplog.messages
        assert eventually(lambda: caplog.messages)
    assert caplog.messages == ["CONNECT db.test:5432 200 - 5 5 outbound|5432||db.test"]


def test_a_tunnel_is_none_of_the_requests(server):
    with Proxy([outside("db.test", 5432, server.port)]) as proxy:
        with proxy.client() as client:
            tunnelled(client, "db.test:5432")
        assert eventually(lambda: proxy.metric("istio_tcp_connections_closed_total") == 1)
        assert proxy.metric("istio_requests_total") == 0


# -- time ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pool", "seconds"), [({}, 3600), ({"idleTimeout": "10s"}, 10)])
def test_a_tunnel_without_a_byte_ends_after_the_idle_timeout(server, pool, seconds):
    clock = FakeClock()
    rule = destination_rule("db.test", connectionPool={"tcp": {"maxConnections": 5, **pool}})
    rule["metadata"]["name"] = "db"
    with Proxy([outside("db.test", 5432, server.port), rule], clock=clock) as proxy, proxy.client() as client:
        tunnelled(client, "db.test:5432")
        clock.advance(seconds - 1)
        assert says_of(client, b"still here") == b"still here"
        clock.advance(seconds - 1)
        assert says_of(client, b"and here") == b"and here"
        clock.advance(seconds + 1)
        assert client.closed()
        assert eventually(lambda: not proxy.process.connections)


def test_a_tunnel_that_is_too_old_ends(server):
    clock = FakeClock()
    rule = destination_rule("db.test", connectionPool={"tcp": {"maxConnectionDuration": "60s"}})
    rule["metadata"]["name"] = "db"
    with Proxy([outside("db.test", 5432, server.port), rule], clock=clock) as proxy, proxy.client() as client:
        tunnelled(client, "db.test:5432")
        clock.advance(59)
        assert says_of(client, b"still here") == b"still here"
        clock.advance(2)
        assert client.closed()


def test_a_proxy_that_stops_lets_tunnels_go_on_until_the_drain_is_over(server):
    with Proxy([outside("db.test", 5432, server.port)], ProxySettings(drain=0.05)) as proxy, proxy.client() as client:
        tunnelled(client, "db.test:5432")
        proxy.stop()
        assert client.closed()
        assert proxy.join()


def test_the_circuit_breaker_of_a_resilience_policy_acts_and_the_rest_of_it_is_said_not_to(caplog):
    policy = {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {
            "host": "db.test",
            "circuitBreaker": {"failureThreshold": 2, "resetTimeout": "600s"},
            "bulkhead": {"maxConcurrent": 5},
        },
    }
    with Proxy([outside("db.test", 5432, closed_port()), policy]) as proxy:
        assert [refusal(proxy, "db.test:5432") for _ in range(3)] == [
            (503, REFUSED),
            (503, REFUSED),
            (503, "circuit breaker open"),
        ]
    said = [
        record.getMessage()
        for record in caplog.records
        if "do not act" in record.getMessage() or "does not act" in record.getMessage()
    ]
    assert said == [
        "ResiliencePolicy/default/db: bulkhead does not act on connections that are forwarded unread "
        "(CONNECT to db.test:5432); its circuitBreaker does"
    ]


# -- who may ask --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT db.test HTTP/1.1\r\nHost: db.test\r\n\r\n", 400),
        (b"CONNECT db.test:5432 HTTP/1.1\r\nHost: other.test:5432\r\n\r\n", 400),
        (b"CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\nContent-Length: 1\r\n\r\n", 400),
        (b"CONNECT db.test:5432 HTTP/1.0\r\nHost: db.test:5432\r\n\r\n", 426),
    ],
)
def test_a_connect_that_can_be_read_in_two_ways_is_refused(server, head, status):
    with Proxy([outside("db.test", 5432, server.port)]) as proxy, proxy.client() as client:
        client.send(head)
        assert client.response().status == status
        assert client.closed()


def test_an_inbound_port_takes_no_connect_whatever_is_behind_it(server):
    with InboundProxy(server.port) as proxy, proxy.client() as client:
        asked(client, f"127.0.0.1:{server.port}")
        assert client.response().status == 501
        assert client.closed()


def test_a_tunnel_is_turned_away_while_there_is_too_much_to_do(server):
    with Proxy([outside("db.test", 5432, server.port)], ProxySettings(drain=2, most_memory=1)) as proxy:
        assert refusal(proxy, "db.test:5432") == (503, "envoy overloaded")


def test_a_tunnel_outlives_a_reload_that_takes_its_service_away(server):
    with Proxy([outside("db.test", 5432, server.port)]) as proxy, proxy.client() as client:
        tunnelled(client, "db.test:5432")
        proxy.mesh.apply([])
        assert says_of(client, b"still here") == b"still here"
