"""Tunnels that a client asks a proxy for."""

from __future__ import annotations

import socket
from typing import Any

from tests.support.proxy import Client, Proxy
from tests.support.resources import service_entry


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def outside(host: str, port: int, at: int, protocol: str = "TCP", **spec: Any) -> dict[str, Any]:
    """A ServiceEntry of a host, whose port is at another one of this machine."""
    return service_entry(
        host.partition(".")[0],
        host,
        ports=[{"number": port, "name": protocol.lower(), "protocol": protocol, "targetPort": at}],
        endpoints=[{"address": "127.0.0.1"}],
        **spec,
    )


def asked(client: Client, authority: str, *more: str) -> None:
    client.send("\r\n".join([f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *more, "", ""]).encode())


def tunnelled(client: Client, authority: str) -> None:
    """Ask for a tunnel, and have it."""
    asked(client, authority)
    head = client.head()
    assert (head.status, head.headers) == (200, [])


def says_of(client: Client, word: bytes) -> bytes:
    client.send(word)
    return client.exactly(len(word))


def refusal(proxy: Proxy, authority: str) -> tuple[int, str]:
    with proxy.client() as client:
        asked(client, authority)
        response = client.response()
        assert client.closed()
    return response.status, response.body.decode()
