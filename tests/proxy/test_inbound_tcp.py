"""Bytes to an application: who may send them, and what is told of it."""

from __future__ import annotations

import logging

import pytest

from tests.proxy.test_inbound_transparent_meant import declaring, meant, over_tls, tcp, world
from tests.support.eventually import eventually
from tests.support.identities import CLIENT
from tests.support.inbound_policies import authorization_policy, on_paths
from tests.support.inbound_proxy import InboundProxy
from tests.support.resources import service
from tests.support.tcp_server import TcpServer

__all__ = ["meant", "tcp"]


@pytest.mark.parametrize(
    ("action", "rule", "let_in"),
    [
        ("DENY", on_paths("/admin"), False),  # of a connection nobody knows the path: as istiod has it, all are refused
        ("ALLOW", on_paths("/"), False),
        ("ALLOW", {"from": [{"source": {"ipBlocks": ["127.0.0.0/8"]}}]}, True),
        ("DENY", {"from": [{"source": {"ipBlocks": ["127.0.0.0/8"]}}]}, False),
    ],
)
def test_policies_of_connections_count(meant, tcp, action, rule, let_in):
    meant[0] = ("127.0.0.1", tcp.port)
    policy = authorization_policy("one", action, rule)
    with InboundProxy(None, policy, own=[service("reviews")]) as proxy, proxy.client() as client:
        client.send(b"\x00hello\n")
        if let_in:
            assert client.exactly(7) == b"\x00hello\n"
        else:
            assert client.closed()


def test_bytes_over_mtls_are_the_applications_when_the_client_offers_nothing_else(meant, tcp):
    made = world()
    meant[0] = ("127.0.0.1", tcp.port)
    with InboundProxy(None, own=declaring(tcp.port, "what"), identity=made.identity) as proxy:
        with proxy.client(over_tls(made, "istio")) as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert client.until(b"\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
        labels = {"reporter": "destination", "connection_security_policy": "mutual_tls"}
        assert proxy.metric("istio_tcp_connections_opened_total", **labels) == 1


def test_an_application_that_is_not_there_is_a_503_or_the_end(meant):
    with TcpServer() as gone:
        meant[0] = ("127.0.0.1", gone.port)
    with InboundProxy(None, own=[service("reviews")]) as proxy:
        with proxy.client() as client:
            assert client.get().status == 503
        with proxy.client() as client:
            client.send(b"\x00")
            assert client.closed()
        assert eventually(lambda: proxy.metric("istio_tcp_connections_closed_total", response_flags="UF") == 1)


def test_the_principal_of_mtls_counts_and_is_told(meant, tcp):
    made = world()
    meant[0] = ("127.0.0.1", tcp.port)
    principal = CLIENT.removeprefix("spiffe://")
    policy = authorization_policy("one", "ALLOW", {"from": [{"source": {"principals": [principal]}}]})
    own = declaring(tcp.port, "tcp")
    with InboundProxy(None, policy, own=own, identity=made.identity) as proxy:
        with proxy.client(over_tls(made, "istio")) as client:
            client.send(b"hello\n")
            assert client.exactly(6) == b"hello\n"
        with proxy.client() as client:
            client.send(b"hello\n")
            assert client.closed()
        opened = proxy.metric("istio_tcp_connections_opened_total", source_principal=f"spiffe://{principal}")
        assert opened == 1


def test_a_line_of_the_access_log_tells_of_a_connection(meant, tcp):
    log = logging.getLogger("tests.inbound.tcp")
    form = "%BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %RESPONSE_CODE%"
    meant[0] = ("127.0.0.1", tcp.port)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    own = declaring(tcp.port, "tcp")
    try:
        with InboundProxy(None, own=own, access_log=log, access_log_format=form) as proxy:
            with proxy.client() as client:
                client.send(b"hello\n")
                assert client.exactly(6) == b"hello\n"
            assert eventually(lambda: len(lines) == 1)
    finally:
        log.removeHandler(handler)
    assert lines == [f"6 6 127.0.0.1:{tcp.port} inbound|{tcp.port}|| 0"]
