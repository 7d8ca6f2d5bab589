"""The sockets of ``--dns-capture``."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from meshlib.problems import MeshError
from meshlib.proxy import dns_sockets
from meshlib.proxy.dns_sockets import dns_listening
from meshlib.registry import automatic


def test_each_worker_has_the_same_port_of_loopback_over_udp_and_tcp():
    made = dns_listening(0, 3)
    try:
        places = {sock.getsockname()[:2] for each in made for sock in (*each.udp, *each.tcp)}
        assert {host for host, _ in places} <= {"127.0.0.1", "::1"}
        assert {port for _, port in places} == {made[0].address[1]}
        assert all(len(each.udp) == len(each.tcp) == len(made[0].udp) for each in made)
    finally:
        for each in made:
            each.close()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_is_named_with_the_remedy(kind, workers):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MeshError, match=f"--dns-port {port}: port {port} is in use.*give --dns-port"):
            dns_listening(port, workers)


@pytest.mark.parametrize(
    ("routed", "left_out"),
    [
        ({4, 6}, None),
        ({4}, automatic.IPV6),
        ({6}, automatic.IPV4),
        (set(), automatic.IPV6),
    ],
)
def test_automatic_addresses_are_told_where_there_is_a_route_to_them(routed, left_out, monkeypatch):
    monkeypatch.setattr(dns_sockets, "_is_routed", lambda network: network.version in routed)
    assert dns_sockets.unreachable() == left_out


def test_a_route_is_asked_of_the_kernel():
    assert dns_sockets._is_routed(ipaddress.ip_network("127.0.0.0/8"))
    assert not dns_sockets._is_routed(ipaddress.ip_network("fe80::/10"))  # without an interface


def test_a_second_proxy_does_not_share_them_unnoticed():
    (made,) = dns_listening(0)
    try:
        with pytest.raises(MeshError, match="is in use"):
            dns_listening(made.address[1], 2)
    finally:
        made.close()
