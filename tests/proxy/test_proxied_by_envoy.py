"""The PROXY protocol between a gateway and a real Envoy: one before it, which says who its client is, and one behind it,
which is told."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from benchmarks.free_ports import free_port
from meshlib.envoy.values import address, typed
from tests.differential.envoy_process import cluster, require_envoy, running
from tests.proxy.test_gateway_connection import bound
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.mesh_config import mesh_config
from tests.support.proxy import Client
from tests.support.resources import destination_rule, service_entry
from tests.support.servers import EchoServer

ELSEWHERE = "127.0.0.9"
"""Where the client is: no proxy calls from there."""


def before(port: int, gateway_port: int, version: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A listener whose connections go on behind a header, and its cluster."""
    proxy = typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="before", cluster="gateway")
    header = typed(
        "transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        config={"version": version},
        transport_socket={
            "name": "envoy.transport_sockets.raw_buffer",
            "typed_config": typed("transport_sockets.raw_buffer.v3.RawBuffer"),
        },
    )
    socket_of = {"name": "envoy.transport_sockets.upstream_proxy_protocol", "typed_config": header}
    filters = [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]
    listener = {"address": address("127.0.0.1", port), "filter_chains": [{"filters": filters}]}
    return listener, cluster("gateway", [gateway_port], transport_socket=socket_of)


def behind(port: int, app_port: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A listener that asks for a header and appends who it names to X-Forwarded-For, and its cluster."""
    router = {"name": "envoy.filters.http.router", "typed_config": typed("filters.http.router.v3.Router")}
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]
    manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="behind",
        use_remote_address=True,
        http_filters=[router],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    )
    proxied = typed("filters.listener.proxy_protocol.v3.ProxyProtocol")
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {
        "address": address("127.0.0.1", port),
        "listener_filters": [{"name": "envoy.filters.listener.proxy_protocol", "typed_config": proxied}],
        "filter_chains": [{"filters": filters}],
    }
    return listener, cluster("app", [app_port])


@pytest.mark.parametrize(("to_us", "from_us"), [("V1", "V2"), ("V2", "V1")])
def test_who_the_client_is_goes_from_envoy_through_a_gateway_to_envoy(to_us: str, from_us: str) -> None:
    require_envoy()
    front, back, admin = free_port(), free_port(), free_port()
    mesh = mesh_config(defaultConfig={"gatewayTopology": {"proxyProtocol": {}}})
    entry = service_entry(
        "app",
        "app.internal.test",
        ports=[{"number": 8000, "name": "http", "protocol": "HTTP"}],
        endpoints=[{"address": "127.0.0.1", "ports": {"http": back}}],
    )
    rule = destination_rule("app.internal.test", proxyProtocol={"version": from_us})
    with EchoServer("app") as app, Gateway(mesh, entry, rule, gateway(server("*")), bound("shop.test")) as gw:
        listeners, clusters = zip(before(front, gw.port(), to_us), behind(back, app.port), strict=True)
        config = {
            "admin": {"address": address("127.0.0.1", admin)},
            "static_resources": {"listeners": list(listeners), "clusters": list(clusters)},
        }
        with running(config, admin), Client(front) as client:
            client.sock.close()
            client.sock = socket.create_connection(("127.0.0.1", front), 20, (ELSEWHERE, 0))
            for _ in range(2):
                response = client.get("/", "GET", "shop.test")
                assert response.status == 200, response.status
                told = json.loads(response.body)["headers"]
                assert told["x-forwarded-for"] == f"{ELSEWHERE},{ELSEWHERE}"
