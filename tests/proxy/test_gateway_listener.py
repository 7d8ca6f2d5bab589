"""A port of a gateway: what it takes, and how long it waits for a handshake."""

from __future__ import annotations

import pytest

from meshlib.proxy import gateway_listener
from tests.support.eventually import eventually
from tests.support.gateway_certificates import leaf, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.resources import virtual_service

TLS = {"mode": "SIMPLE", "credentialName": "shop"}
DIRECT = {"directResponse": {"status": 200, "body": {"string": "hi"}}}
SHOP = virtual_service("shop", DIRECT, hosts=["shop.test"], gateways=["gw"])


def closed(client):
    try:
        return client.sock.recv(1) == b""
    except ConnectionError:
        return True


def test_a_client_that_does_not_say_hello_is_cut_off(monkeypatch):
    monkeypatch.setattr(gateway_listener, "PATIENCE", 0.05)
    with (
        Gateway(
            tls_secret("shop", leaf("shop.test")),
            gateway(server("shop.test", port=443, protocol="HTTPS", tls=TLS)),
            SHOP,
        ) as gw,
        gw.client(443) as silent,
    ):
        assert closed(silent)
        listener = gw.process.listener
        assert listener.counts["timed_out"] == 1
        assert eventually(lambda: listener.connections == 0)


def test_of_too_many_that_have_not_the_one_that_has_waited_longest_is_cut_off(monkeypatch):
    monkeypatch.setattr(gateway_listener, "MOST_GREETING", 2)
    with Gateway(
        tls_secret("shop", leaf("shop.test")),
        gateway(server("shop.test", port=443, protocol="HTTPS", tls=TLS)),
        SHOP,
    ) as gw:
        listener = gw.process.listener
        first = gw.client(443)
        assert eventually(lambda: listener.connections == 1)
        with first, gw.client(443), gw.client(443):
            assert closed(first)
            assert listener.counts["cut"] == 1


def test_a_port_is_ready_until_the_mesh_is_closed():
    with Gateway(gateway(server("shop.test")), SHOP) as gw:
        assert gw.process.listener.why_not_ready() == ""
        gw.mesh.close()
        assert gw.process.listener.why_not_ready() == "the mesh is closed"


def test_what_a_gateway_responds_itself_needs_no_upstream():
    with Gateway(gateway(server("shop.test")), SHOP) as gw:
        assert gw.get("shop.test").body == b"hi"


@pytest.mark.parametrize("method", ["CONNECT"])
def test_tunnels_are_for_outbound_ports(method):
    with Gateway(gateway(server("*")), SHOP) as gw, gw.client() as client:
        assert client.get("shop.test:443", method, "shop.test:443").status == 501
