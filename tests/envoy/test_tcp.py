"""Connections whose bytes nobody reads, as Envoy's TCP proxy."""

from __future__ import annotations

import json
import re
import socket
import ssl
from pathlib import Path
from typing import Any

from meshlib.engine.route import route_connection
from meshlib.envoy.tcp import STATE, TCP, tcp_filters
from tests.proxy.test_inbound_command import authority as authority  # a fixture
from tests.proxy.test_inbound_command import options_of
from tests.support.envoy_engine import require_envoy, snapshot_of
from tests.support.proxy_command import ProxyCommand
from tests.support.resources import destination_rule, pod, service, service_entry, to, virtual_service


def database() -> list[dict[str, Any]]:
    made = service("database", ports=[{"name": "tcp-db", "port": 3306, "targetPort": 3306}])
    made["spec"]["clusterIP"] = "10.1.0.6"
    return [made, pod("database", "v1", 3306), pod("database", "v2", 3306)]


def filters_of(*resources: dict[str, Any]) -> list[dict[str, Any]]:
    snapshot = snapshot_of(*resources)
    rule = route_connection(snapshot, "10.1.0.6:3306").rule_object
    return tcp_filters(rule, snapshot.clusters, "outbound_3306")


def proxy_of(filters: list[dict[str, Any]]) -> dict[str, Any]:
    assert filters[-1]["name"] == TCP
    found: dict[str, Any] = filters[-1]["typed_config"]
    return found


def test_the_service_is_where_they_go() -> None:
    proxy = proxy_of(filters_of(*database()))
    assert proxy["cluster"] == "outbound|3306||database.default.svc.cluster.local"
    assert proxy["idle_timeout"] == "3600s"


def test_a_connection_may_be_idle_and_last_as_long_as_its_connection_pool_says() -> None:
    pool = {"tcp": {"idleTimeout": "5s", "maxConnectionDuration": "60s"}}
    rule = destination_rule("database", connectionPool=pool)
    proxy = proxy_of(filters_of(*database(), rule))
    assert proxy["idle_timeout"] == "5s"
    assert proxy["max_downstream_connection_duration"] == "60s"


def test_weights_of_tcp_rules_decide_and_none_goes_to_weight_0() -> None:
    split = [to("database", "v1", 80), to("database", "v2", 20), to("database", "v3", 0)]
    rules = virtual_service("database", tcp=[{"route": split}])
    proxy = proxy_of(filters_of(*database(), destination_rule("database", "v1", "v2", "v3"), rules))
    assert [(each["name"].split("|")[2], each["weight"]) for each in proxy["weighted_clusters"]["clusters"]] == [
        ("v1", 80),
        ("v2", 20),
    ]


def test_mtls_of_the_mesh_does_not_offer_http_where_bytes_are_forwarded() -> None:
    rule = destination_rule("database", tls={"mode": "ISTIO_MUTUAL"})
    offered, _ = filters_of(*database(), rule)
    (state,) = offered["typed_config"]["on_new_connection"]
    assert offered["name"] == STATE
    assert state["format_string"] == {"text_format_source": {"inline_string": "istio"}}
    simple = destination_rule("database", tls={"mode": "SIMPLE"})
    assert len(filters_of(*database(), simple)) == 1


def test_what_has_no_rule_is_closed() -> None:
    assert proxy_of(tcp_filters(None, {}, "outbound"))["cluster"] == "missing"


def test_a_real_envoy_offers_who_serves_bytes_nothing_of_http(tmp_path: Path, authority: Path) -> None:
    require_envoy()
    issued = authority / "issued" / "ns+default+sa+reviews"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(issued / "bundle.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(issued / "cert.pem", issued / "key.pem")
    context.set_alpn_protocols(["h2", "http/1.1", "istio-http/1.1", "istio"])  # the first of them that is offered
    tcp = {"route": [to("raw.test", port=5432)]}
    with socket.create_server(("127.0.0.1", 0)) as backend:
        backend.settimeout(60)
        made = [
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "Gateway",
                "metadata": {"name": "public", "namespace": "default"},
                "spec": {"servers": [{"port": {"number": 5432, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]}]},
            },
            service_entry(
                "raw",
                "raw.test",
                ports=[{"number": 5432, "name": "tcp", "protocol": "TCP"}],
                endpoints=[{"address": "127.0.0.1", "ports": {"tcp": backend.getsockname()[1]}}],
            ),
            destination_rule("raw.test", tls={"mode": "ISTIO_MUTUAL"}),
            virtual_service("raw", hosts=["raw.test"], gateways=["public"], tcp=[tcp]),
        ]
        (tmp_path / "mesh").mkdir()
        (tmp_path / "mesh" / "more.yaml").write_text("\n---\n".join(map(json.dumps, made)))
        arguments = ("--engine", "envoy", "--gateway", "default/public", "--gateway-port", "5432=127.0.0.1:0")
        who = options_of(authority, "productpage")
        with ProxyCommand(tmp_path, 1, *arguments, *who, outbound=False) as proxy:
            found = re.search(r"127\.0\.0\.1:(\d+)", proxy.says("serving Gateway"))
            assert found is not None
            with socket.create_connection(("127.0.0.1", int(found[1])), 30) as there:
                plain, _ = backend.accept()
                plain.settimeout(60)
                with context.wrap_socket(plain, server_side=True) as secured:
                    assert secured.selected_alpn_protocol() == "istio"
                    secured.sendall(b"hello")
                    assert there.recv(5) == b"hello"
