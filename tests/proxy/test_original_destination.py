"""What the kernel says of where a connection was meant to go, read. (Real ones: ``test_transparent.py``.)"""

from __future__ import annotations

import socket
import struct

import pytest

from meshlib.proxy.original_destination import is_at, original_destination


class Sock:
    """A socket whose kernel says this."""

    def __init__(self, family: int, name: tuple, told: dict[int, bytes]) -> None:
        self.family, self._name, self._told = family, name, told

    def getsockname(self) -> tuple:
        return self._name

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert option == 80
        if level not in self._told:
            raise FileNotFoundError(2, "No such file or directory")
        assert len(self._told[level]) == size
        return self._told[level]


def ipv4(address: str, port: int) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(address) + b"\0" * 8


def ipv6(address: str, port: int) -> bytes:
    return (
        struct.pack("=H", socket.AF_INET6)
        + struct.pack("!HI", port, 7)
        + socket.inet_pton(socket.AF_INET6, address)
        + struct.pack("=I", 0)
    )


HERE4, HERE6 = ("127.0.0.1", 15001), ("::1", 15001, 0, 0)


@pytest.mark.parametrize(
    ("sock", "meant"),
    [
        (Sock(socket.AF_INET, HERE4, {socket.IPPROTO_IP: ipv4("10.1.0.5", 9080)}), ("10.1.0.5", 9080)),
        (Sock(socket.AF_INET6, HERE6, {socket.IPPROTO_IPV6: ipv6("fd00::5", 9080)}), ("fd00::5", 9080)),
        (Sock(socket.AF_INET6, HERE6, {socket.IPPROTO_IPV6: ipv6("::ffff:10.1.0.5", 80)}), ("10.1.0.5", 80)),
        (
            Sock(socket.AF_INET6, ("::ffff:127.0.0.1", 15001, 0, 0), {socket.IPPROTO_IP: ipv4("10.1.0.5", 9080)}),
            ("10.1.0.5", 9080),
        ),
        (Sock(socket.AF_INET, HERE4, {}), None),
        (Sock(socket.AF_INET, HERE4, {socket.IPPROTO_IP: ipv4("127.0.0.1", 15001)}), None),
        (
            Sock(socket.AF_INET6, ("::ffff:127.0.0.1", 15001, 0, 0), {socket.IPPROTO_IP: ipv4("127.0.0.1", 15001)}),
            None,
        ),
        (Sock(socket.AF_INET6, HERE6, {socket.IPPROTO_IPV6: ipv6("::1", 15001)}), None),
    ],
)
def test_it_is_the_address_and_port_before_the_kernel_led_it_here(sock, meant):
    assert original_destination(sock) == meant


def test_a_connection_that_nothing_has_led_here_was_meant_for_here():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            assert original_destination(accepted) is None
        assert client


@pytest.mark.parametrize(
    ("name", "at"),
    [
        (("10.1.0.5", 9080), ("10.1.0.5", 9080)),
        (("::ffff:10.1.0.5", 9080, 0, 0), ("10.1.0.5", 9080)),
        (("fd00::5", 9080, 0, 0), ("fd00::5", 9080)),
    ],
)
def test_where_a_connection_is_that_kept_its_addresses(name, at):
    assert is_at(Sock(socket.AF_INET, name, {})) == at
