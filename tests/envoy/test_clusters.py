"""Clusters and endpoints for Envoy."""

from __future__ import annotations

from typing import Any

from meshlib.workload import Workload
from tests.support import mesh_tls
from tests.support.envoy_engine import compiled
from tests.support.identities import World
from tests.support.resources import destination_rule, pod, service, service_entry

PODS = [service("reviews"), pod("reviews", "v1", 1), pod("reviews", "v2", 2)]
KEY = "outbound|9080||reviews.default.svc.cluster.local"
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(**policy: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict(compiled(*PODS, destination_rule("reviews", **policy)).clusters[KEY])
    return found


def test_endpoints_are_told_apart_from_their_cluster() -> None:
    made = compiled(*PODS)
    assert made.clusters[KEY]["type"] == "EDS"
    assert "load_assignment" not in made.clusters[KEY]
    (place,) = made.endpoints[KEY]["endpoints"]
    ports = [each["endpoint"]["address"]["socket_address"]["port_value"] for each in place["lb_endpoints"]]
    assert ports == [1, 2]


def test_istios_defaults_are_said_where_envoys_are_others() -> None:
    made = cluster()
    (limits,) = made["circuit_breakers"]["thresholds"]
    assert {limits[f"max_{of}"] for of in ("connections", "pending_requests", "requests", "retries")} == {2**32 - 1}
    assert made["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}
    assert (made["connect_timeout"], made["lb_policy"]) == ("10s", "LEAST_REQUEST")


def test_connection_pools() -> None:
    made = cluster(
        connectionPool={
            "tcp": {
                "maxConnections": 7,
                "connectTimeout": "2s",
                "maxConnectionDuration": "60s",
                "tcpKeepalive": {"probes": 3, "time": "10s", "interval": "5s"},
            },
            "http": {
                "http1MaxPendingRequests": 8,
                "http2MaxRequests": 9,
                "maxRetries": 1,
                "idleTimeout": "30s",
                "maxRequestsPerConnection": 5,
                "h2UpgradePolicy": "UPGRADE",
                "maxConcurrentStreams": 6,
            },
        }
    )
    (limits,) = made["circuit_breakers"]["thresholds"]
    assert [limits[f"max_{of}"] for of in ("connections", "pending_requests", "requests", "retries")] == [7, 8, 9, 1]
    assert made["connect_timeout"] == "2s"
    keepalive = {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 5}
    assert made["upstream_connection_options"] == {"tcp_keepalive": keepalive}
    options = made["typed_extension_protocol_options"][OPTIONS]
    assert options["common_http_protocol_options"] == {
        "idle_timeout": "30s",
        "max_connection_duration": "60s",
        "max_requests_per_connection": 5,
    }
    assert options["explicit_http_config"] == {"http2_protocol_options": {"max_concurrent_streams": 6}}


def test_balancers_and_their_tables() -> None:
    assert cluster(loadBalancer={"simple": "ROUND_ROBIN"})["lb_policy"] == "ROUND_ROBIN"
    ring = cluster(loadBalancer={"consistentHash": {"httpHeaderName": "x", "ringHash": {"minimumRingSize": 64}}})
    assert (ring["lb_policy"], ring["ring_hash_lb_config"]) == ("RING_HASH", {"minimum_ring_size": 64})
    maglev = cluster(loadBalancer={"consistentHash": {"httpHeaderName": "x", "maglev": {"tableSize": 251}}})
    assert (maglev["lb_policy"], maglev["maglev_lb_config"]) == ("MAGLEV", {"table_size": 251})
    warm = cluster(loadBalancer={"simple": "ROUND_ROBIN", "warmup": {"duration": "30s", "minimumPercent": 5}})
    assert warm["round_robin_lb_config"]["slow_start_config"]["slow_start_window"] == "30s"


def test_outlier_detection_with_istios_defaults_and_its_own_statuses() -> None:
    made = cluster(outlierDetection={"consecutive5xxErrors": 3, "minHealthPercent": 40, "baseEjectionTime": "600s"})
    found = made["outlier_detection"]
    assert (found["consecutive_5xx"], found["enforcing_success_rate"], found["max_ejection_time"]) == (3, 0, "600s")
    assert found["enforcing_consecutive_gateway_failure"] == 0
    assert made["common_lb_config"]["healthy_panic_threshold"] == {"value": 40}
    made = cluster(outlierDetection={"outlierDetectionHttpErrorCodes": [429, 500]})
    matcher = made["typed_extension_protocol_options"][OPTIONS]["outlier_detection"]["error_matcher"]
    assert len(matcher["or_match"]["rules"]) == 2


def test_localities_are_priorities_and_weights() -> None:
    def at(name: str, port: int, locality: str) -> dict[str, Any]:
        return {"address": f"127.0.0.{port}", "locality": locality, "labels": {"app": name}}

    entry = service_entry("a", "a.test", endpoints=[at("a", 1, "r1/z1"), at("a", 2, "r2/z1")])
    rule = destination_rule("a.test", outlierDetection={"consecutive5xxErrors": 1})
    made = compiled(entry, rule, workload=Workload(locality="r2/z1"))
    key = "outbound|80||a.test"
    places = made.endpoints[key]["endpoints"]
    assert [(each.get("priority", 0), each["locality"]["region"]) for each in places] == [(0, "r2"), (1, "r1")]
    assert made.clusters[key]["common_lb_config"]["locality_weighted_lb_config"] == {}
    share = {"distribute": [{"from": "r2/*", "to": {"r1/*": 25, "r2/*": 75}}]}
    made = compiled(
        entry,
        destination_rule("a.test", loadBalancer={"localityLbSetting": share}),
        workload=Workload(locality="r2/z1"),
    )
    weights = {e["locality"]["region"]: e["load_balancing_weight"] for e in made.endpoints[key]["endpoints"]}
    assert weights["r2"] == 3 * weights["r1"]


def test_names_are_resolved_by_envoy_and_dialled_addresses_too() -> None:
    entry = service_entry("a", "a.test", resolution="DNS", endpoints=[{"address": "there.example"}])
    anywhere = service_entry("b", "*.b.test", resolution="NONE")
    made = compiled(entry, anywhere)
    found = made.clusters["outbound|80||a.test"]
    assert found["type"] == "STRICT_DNS"
    (place,) = found["load_assignment"]["endpoints"]
    assert place["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"] == "there.example"
    assert made.clusters["outbound|80||*.b.test"]["cluster_type"]["name"] == "envoy.clusters.dynamic_forward_proxy"
    assert "outbound|80||a.test" not in made.endpoints


def test_dialled_addresses_of_which_some_take_mtls_of_the_mesh_are_not_called_in_plain_text() -> None:
    takes = pod("reviews", "v1", 9080)
    takes["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
    dialled = [service("reviews"), takes, destination_rule("reviews", loadBalancer={"simple": "PASSTHROUGH"})]
    made = compiled(*dialled, credentials=mesh_tls.credentials())
    assert made.clusters[KEY]["load_assignment"] == {"cluster_name": KEY}
    assert "it depends on the address whether mTLS of the mesh is spoken" in made.unreachable[KEY]
    assert compiled(*dialled).unreachable == {}  # without a certificate it is plain text with either engine


def test_a_cluster_whose_tls_cannot_be_had_has_no_endpoint_and_says_why() -> None:
    made = compiled(*PODS, destination_rule("reviews", tls={"mode": "ISTIO_MUTUAL"}))
    assert made.clusters[KEY]["load_assignment"] == {"cluster_name": KEY}
    assert "no certificate" in made.unreachable[KEY]
    assert KEY not in made.endpoints


def test_connections_begin_with_the_header_of_the_proxy_protocol_before_tls() -> None:
    made = cluster(proxyProtocol={"version": "V2"}, tls={"mode": "SIMPLE", "insecureSkipVerify": True})
    socket = made["transport_socket"]
    assert socket["name"] == "envoy.transport_sockets.upstream_proxy_protocol"
    assert socket["typed_config"]["config"] == {"version": "V2"}
    assert socket["typed_config"]["transport_socket"]["name"] == "envoy.transport_sockets.tls"
    plain = cluster(proxyProtocol={})["transport_socket"]["typed_config"]
    assert plain["config"] == {"version": "V1"}
    assert plain["transport_socket"]["name"] == "envoy.transport_sockets.raw_buffer"


def test_both_ways_to_an_endpoint_begin_with_the_header_where_tls_depends_on_it() -> None:
    world = World()
    world.rotate()
    entry = service_entry(
        "a",
        "a.test",
        location="MESH_INTERNAL",
        endpoints=[
            {"address": "127.0.0.1", "labels": {"security.istio.io/tlsMode": "istio"}, "serviceAccount": "a"},
            {"address": "127.0.0.2"},
        ],
    )
    rule = destination_rule("a.test", proxyProtocol={"version": "V1"})
    ways = compiled(entry, rule, credentials=world.identity.latest).clusters["outbound|80||a.test"]
    names = [each["transport_socket"]["name"] for each in ways["transport_socket_matches"]]
    assert names == ["envoy.transport_sockets.upstream_proxy_protocol"] * 2
