"""CONNECT through our proxy, CONNECT through a real Envoy, and the TCP proxy of that Envoy, which a sidecar has: the same
bytes come back, whether the upstream is there, dead or full, and whichever side ends first."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from benchmarks.free_ports import free_port
from tests.differential.envoy_process import TYPES, cluster, running
from tests.support.proxy import Client, Proxy
from tests.support.resources import destination_rule, service_entry
from tests.support.tcp_server import TcpServer, echo

HEAD = b"CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n\r\n"
LIMITS = {"thresholds": [{"max_connections": 1}]}


class Ports(NamedTuple):
    """Of two proxies for the same upstream; ``tcp`` is Envoy's TCP proxy."""

    envoy: int
    tcp: int
    ours: int


def listener(port: int, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": f"envoy.filters.network.{name}", "typed_config": settings}]}],
    }


@contextlib.contextmanager
def both(upstream: int) -> Iterator[Ports]:
    listen, tcp, admin = free_port(), free_port(), free_port()
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"connect_matcher": {}},
                            "route": {
                                "cluster": "db",
                                "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
                            },
                        }
                    ],
                }
            ]
        },
    }
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {
            "listeners": [
                listener(listen, "http_connection_manager", manager),
                listener(
                    tcp,
                    "tcp_proxy",
                    {"@type": f"{TYPES}.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tcp", "cluster": "db"},
                ),
            ],
            "clusters": [cluster("db", [upstream], circuit_breakers=LIMITS)],
        },
    }
    entry = service_entry(
        "db",
        "db.test",
        ports=[{"number": 5432, "name": "tcp", "protocol": "TCP", "targetPort": upstream}],
        endpoints=[{"address": "127.0.0.1"}],
    )
    rule = destination_rule("db.test", connectionPool={"tcp": {"maxConnections": 1}})
    rule["metadata"]["name"] = "db"
    with running(config, admin), Proxy([entry, rule]) as proxy:
        yield Ports(listen, tcp, proxy.port)


def refused(client: Client) -> tuple[int, bytes]:
    client.send(HEAD)
    found = client.response()
    return found.status, found.body


def talks(client: Client) -> Any:
    client.send(HEAD)
    status = client.head().status
    client.send(b"one\r\n\r\n\0two")
    return status, client.exactly(11)


def speaks_first(sock: socket.socket) -> None:
    sock.sendall(b"220 ready\r\n")


def hears(client: Client) -> Any:
    client.send(HEAD)
    return client.head().status, client.exactly(11), client.closed()


def sent_ahead(client: Client) -> Any:
    client.send(HEAD + b"ahead")
    return client.head().status, client.exactly(5)


SCENES: dict[str, tuple[Callable[[socket.socket], None], Callable[[Client], Any]]] = {
    "both talk": (echo, talks),
    "the server speaks first and ends": (speaks_first, hears),
    "bytes ahead of the 200": (echo, sent_ahead),
}


@pytest.mark.parametrize("scene", SCENES)
def test_a_tunnel_carries_the_same_bytes(scene: str) -> None:
    behave, ask = SCENES[scene]
    with TcpServer(behave) as server, both(server.port) as ports:
        found = []
        for port in (ports.envoy, ports.ours):
            with Client(port) as client:
                found.append(ask(client))
    assert found[0] == found[1]
    assert found[1][0] == 200


def test_a_dead_upstream_is_the_same_response() -> None:
    with both(free_port()) as ports:
        found = []
        for port in (ports.envoy, ports.ours):
            with Client(port) as client:
                found.append(refused(client))
    (their_status, theirs), (status, ours) = found
    assert (status, their_status) == (503, 503)
    assert theirs.startswith(ours)  # Envoy says more of the system's reason, which our line of the log has


def test_one_connection_more_than_there_may_be_is_turned_away_at_once_as_by_the_tcp_proxy() -> None:
    with TcpServer() as server, both(server.port) as ports:
        with Client(ports.tcp) as first, Client(ports.tcp) as second:
            first.send(b"one")
            assert first.exactly(3) == b"one"
            assert second.closed()
        with Client(ports.ours) as first, Client(ports.ours) as second:
            assert talks(first)[0] == 200
            status, body = refused(second)
    assert (status, body.rpartition(b" ")[2]) == (503, b"overflow")


def test_a_side_that_has_said_all_still_hears_as_through_the_tcp_proxy() -> None:
    def counts(sock: socket.socket) -> None:
        size = 0
        while data := sock.recv(65536):
            size += len(data)
        sock.sendall(b"%d" % size)

    with TcpServer(counts) as server, both(server.port) as ports:
        found = []
        for port in (ports.tcp, ports.ours):
            with Client(port) as client:
                if port == ports.ours:
                    client.send(HEAD)
                    assert client.head().status == 200
                client.send(b"x" * 1000)
                client.sock.shutdown(socket.SHUT_WR)
                found.append((client.exactly(4), client.closed()))
    assert found == [(b"1000", True), (b"1000", True)]
