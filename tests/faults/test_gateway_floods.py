"""A gateway under floods: connections that never say who they are for, and beginnings of connections that never come to be. Who
speaks is served meanwhile."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys

import pytest

from meshlib.proxy import gateway_listener
from tests.support.eventually import eventually
from tests.support.gateway_certificates import client, leaf, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.namespace import namespaces, why_none
from tests.support.resources import virtual_service

DIRECT = {"directResponse": {"status": 200, "body": {"string": "hi"}}}
SHOP = virtual_service("shop", DIRECT, hosts=["shop.test"], gateways=["gw"])
TLS = {"mode": "SIMPLE", "credentialName": "shop"}
MOST = 40
FLOOD = 200


def hello() -> bytes:
    out = ssl.MemoryBIO()
    tls = client().wrap_bio(ssl.MemoryBIO(), out, server_hostname="shop.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def served(gw: Gateway) -> int:
    with gw.client(443, lambda sock: client().wrap_socket(sock, server_hostname="shop.test")) as caller:
        return int(caller.get("/", "GET", "shop.test").status)


@pytest.mark.parametrize("says", [b"", b"\x16\x03\x01", "hello"], ids=["nothing", "a beginning", "a hello and no more"])
def test_slow_handshakes_are_bounded_and_others_are_served(monkeypatch, says) -> None:
    monkeypatch.setattr(gateway_listener, "MOST_GREETING", MOST)
    first = hello() if says == "hello" else says
    resources = [
        tls_secret("shop", leaf("shop.test")),
        gateway(server("shop.test", port=443, protocol="HTTPS", tls=TLS)),
    ]
    with Gateway(*resources, SHOP) as gw:
        port, listener = gw.port(443), gw.process.listener
        silent = []
        try:
            for number in range(FLOOD):
                made = socket.create_connection(("127.0.0.1", port), 20)
                silent.append(made)
                made.sendall(first)
                if number % 50 == 49:
                    assert served(gw) == 200
            assert eventually(lambda: listener.connections <= MOST)
            assert listener.counts["cut"] + listener.counts["timed_out"] >= FLOOD - MOST
            assert served(gw) == 200
        finally:
            for each in silent:
                each.close()
        assert eventually(lambda: listener.connections == 0)


FLOODER = """
import random, socket, struct, sys
random.seed(7)
def total(data):
    found = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while found >> 16:
        found = (found & 0xffff) + (found >> 16)
    return ~found & 0xffff
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
to, port, count = socket.inet_aton(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for number in range(count):
    source = bytes((10, 1, 200 + number % 50, 1 + number // 50 % 250))  # nobody is there
    tcp = struct.pack("!HHIIBBHHH", random.randrange(1024, 65536), port, random.getrandbits(32), 0, 5 << 4, 2, 65535, 0, 0)
    check = total(source + to + struct.pack("!BBH", 0, 6, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", check) + tcp[18:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, number & 0xffff, 0, 64, 6, 0, source, to)
    raw.sendto(ip + tcp, (sys.argv[1], 0))
print("sent", count)
"""
GATEWAY = """
import threading
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.resources import virtual_service
from meshlib.proxy.gateway_listeners import GatewayPlaces
from meshlib.proxy.places import TcpPlace

direct = {"directResponse": {"status": 200, "body": {"string": "hi"}}}
made = Gateway(gateway(server("*")), virtual_service("shop", direct, hosts=["shop.test"], gateways=["gw"]))
made._places = GatewayPlaces({80: TcpPlace("0.0.0.0", 8080)})
with made as gw:
    print("up", flush=True)
    threading.Event().wait()
"""
BEGUN = """
lines = open("/proc/net/tcp").read().splitlines()[1:]
print(sum(line.split()[3] == "03" for line in lines))  # SYN_RECV
"""
CALLER = """
import http.client, sys
for _ in range(20):
    connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=60)
    connection.request("GET", "/", headers={"Host": "shop.test"})
    assert connection.getresponse().read() == b"hi"
    connection.close()
print("served")
"""


@pytest.mark.skipif(bool(why_none()), reason=why_none().replace("interception is", "SYN floods are"))
def test_beginnings_of_connections_that_nobody_ends_keep_no_one_out() -> None:
    with namespaces() as (here, world):
        gw = here.start([sys.executable, "-c", GATEWAY])
        try:
            assert gw.stdout is not None
            assert gw.stdout.readline() == "up\n"
            assert world.python(FLOODER, "10.1.0.1", "8080", "20000") == "sent 20000\n"
            assert int(here.python(BEGUN)) > 0
            assert world.python(CALLER, "10.1.0.1", "8080") == "served\n"
        finally:
            gw.terminate()
            gw.communicate(timeout=20)
