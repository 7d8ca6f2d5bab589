"""Connections from an address of our choice."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from meshlib.compiler.routes import Source
from meshlib.transport.upstream import from_source
from meshlib.transport.upstream.from_source import reach_from


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(20)
        yield made


def reached(source: Source, port: int) -> socket.socket:
    async def reach() -> socket.socket:
        return await reach_from(asyncio.get_running_loop(), source, "127.0.0.1", port)

    return asyncio.run(reach())


def test_a_connection_comes_from_there(server):
    with reached(Source("127.0.0.6"), server.getsockname()[1]) as sock:
        accepted, peer = server.accept()
        accepted.close()
        assert peer == sock.getsockname()
        assert peer[0] == "127.0.0.6"


def test_ports_of_the_source_are_not_used_up_by_connections_to_elsewhere(server):
    with socket.create_server(("127.0.0.1", 0)) as other:
        with reached(Source("127.0.0.6"), server.getsockname()[1]) as one:
            assert one.getsockopt(socket.IPPROTO_IP, from_source.IP_BIND_ADDRESS_NO_PORT) == 1
            with reached(Source("127.0.0.6"), other.getsockname()[1]):
                pass


def test_an_address_that_is_not_there_is_an_error_that_says_what_to_do():
    with pytest.raises(
        OSError, match=r"192\.0\.2\.1 is no address of this machine.*ip addr add 192\.0\.2\.1 dev lo"
    ) as caught:
        reached(Source("192.0.2.1"), 1)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_nobody_there_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        reached(Source("127.0.0.6"), port)


def test_who_may_not_have_addresses_of_others_is_told(monkeypatch):
    def refused(sock: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(from_source, "allow_any_address", refused)
    with pytest.raises(PermissionError):
        reached(Source("192.0.2.1", True), 1)
