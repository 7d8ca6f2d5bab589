"""Connections over TLS before their handshake has ended: they end, and are counted, whatever clients do."""

from __future__ import annotations

import contextlib
import socket
import struct

from tests.support.eventually import eventually
from tests.support.gateway_certificates import client, leaf, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.hellos import BOTH
from tests.support.resources import virtual_service

DIRECT = {"directResponse": {"status": 200}}
RESOURCES = [
    tls_secret("shop", leaf("shop.test")),
    gateway(
        server("shop.test", port=443, protocol="HTTPS", tls={"mode": "SIMPLE", "credentialName": "shop"}),
    ),
    virtual_service("shop", DIRECT, hosts=["shop.test"], gateways=["gw"]),
]
RESET = struct.pack("ii", 1, 0)


def test_a_client_may_leave_before_and_amid_its_hello():
    with Gateway(*RESOURCES) as gw:
        listener = gw.process.listener
        for first in (b"", BOTH[:1], BOTH[:50]):
            with gw.client(443) as made:
                made.send(first)
                made.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        assert eventually(lambda: listener.accepted == 3 and listener.connections == 0)


def test_a_client_may_leave_amid_its_handshake():
    import ssl

    with Gateway(*RESOURCES) as gw:
        listener = gw.process.listener
        outgoing = ssl.MemoryBIO()
        begun = client().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="shop.test")
        with contextlib.suppress(ssl.SSLWantReadError):
            begun.do_handshake()
        with gw.client(443) as made:
            made.send(outgoing.read())
            assert made.sock.recv(1), "the server's part of it"
        assert eventually(lambda: listener.counts["handshake_failed"] == 1 and listener.connections == 0)


def test_a_client_that_does_not_believe_the_certificate_is_counted():
    import ssl

    with Gateway(*RESOURCES) as gw:
        listener = gw.process.listener
        with contextlib.suppress(ssl.SSLError):
            client(trusts="another").wrap_socket(gw.client(443).sock, server_hostname="shop.test")
        assert eventually(lambda: listener.counts["handshake_failed"] + listener.counts["tls"] == 1)
        assert eventually(lambda: listener.connections == 0)


def test_a_connection_counts_once_before_and_after_its_handshake():
    with Gateway(*RESOURCES) as gw:
        listener = gw.process.listener
        with client().wrap_socket(gw.client(443).sock, server_hostname="shop.test") as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
            assert (listener.accepted, listener.connections) == (1, 1)
        assert eventually(lambda: listener.connections == 0)
