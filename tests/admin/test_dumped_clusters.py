"""Clusters in Envoy's JSON: Envoy's own messages take them."""

from __future__ import annotations

from typing import Any

import pytest

import meshlib
from meshlib.admin.dumped_clusters import cluster, duration, endpoints, istio_config
from tests.support.ads_server import CLUSTER, ENDPOINTS, parse
from tests.support.resources import destination_rule, pod, service

NAME = "outbound|9080||reviews.default.svc.cluster.local"

SERVICE_ENTRIES = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named}
spec:
  hosts: [api.example]
  ports: [{number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: local}
spec:
  hosts: [local.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: "unix:///run/app.sock"}, {address: "2001:db8::1", locality: eu/a/b, weight: 3}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api}
spec:
  host: api.example
  trafficPolicy:
    tls: {mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem, sni: api.example,
          subjectAltNames: [api.example, "spiffe://cluster.local/ns/a/sa/b"]}
"""


def clusters(mesh: meshlib.Mesh) -> dict[str, dict[str, Any]]:
    return {key: cluster(spec) for key, spec in mesh._core.live.snapshot.clusters.items()}


def checked(mesh: meshlib.Mesh) -> dict[str, dict[str, Any]]:
    """After Envoy's messages have taken them. (Those of TLS sockets are not in our descriptors.)"""
    found = clusters(mesh)
    for spec in mesh._core.live.snapshot.clusters.values():
        fields = {name: value for name, value in cluster(spec).items() if name != "transport_socket"}
        parse({"@type": CLUSTER, **fields})
        parse({"@type": ENDPOINTS, **endpoints(spec)})
    return found


def test_a_destination_rule_is_seen_in_its_cluster():
    policy = {
        "connectionPool": {
            "tcp": {"maxConnections": 7, "connectTimeout": "25ms"},
            "http": {
                "http1MaxPendingRequests": 5,
                "http2MaxRequests": 9,
                "maxRetries": 2,
                "maxRequestsPerConnection": 4,
            },
        },
        "outlierDetection": {"consecutive5xxErrors": 3, "interval": "5s", "baseEjectionTime": "90s"},
        "loadBalancer": {"consistentHash": {"httpHeaderName": "x-user", "maglev": {"tableSize": 1009}}},
    }
    resources = [service("reviews"), pod("reviews", "v1", 9081), destination_rule("reviews", **policy)]
    with meshlib.Mesh.from_resources(resources) as mesh:
        found = checked(mesh)[NAME]
    (thresholds,) = found["circuit_breakers"]["thresholds"]
    assert (thresholds["max_connections"], thresholds["max_pending_requests"]) == (7, 5)
    assert (thresholds["max_requests"], thresholds["max_retries"]) == (9, 2)
    assert (found["connect_timeout"], found["max_requests_per_connection"]) == ("0.025s", 4)
    assert (found["outlier_detection"]["consecutive_5xx"], found["outlier_detection"]["base_ejection_time"]) == (
        3,
        "90s",
    )
    assert (found["lb_policy"], found["type"]) == ("MAGLEV", "EDS")
    assert found["metadata"]["filter_metadata"]["istio"]["config"] == (
        "/apis/networking.istio.io/v1/namespaces/default/destination-rule/reviews"
    )


def test_every_kind_of_resolution_and_address():
    with meshlib.Mesh.from_yaml(SERVICE_ENTRIES) as mesh:
        found = checked(mesh)
        assignment = endpoints(mesh._core.live.snapshot.clusters["outbound|80||local.example"])
    assert found["outbound|443||api.example"]["type"] in ("STRICT_DNS", "LOGICAL_DNS")
    assert found["PassthroughCluster"]["type"] == "ORIGINAL_DST"
    assert found["PassthroughCluster"]["lb_policy"] == "CLUSTER_PROVIDED"
    by_place = {group["locality"].get("region", ""): group["lb_endpoints"][0] for group in assignment["endpoints"]}
    assert by_place[""]["endpoint"]["address"] == {"pipe": {"path": "/run/app.sock"}}
    assert by_place["eu"]["load_balancing_weight"] == 3
    context = found["outbound|443||api.example"]["transport_socket"]["typed_config"]
    assert context["sni"] == "api.example"
    tls = context["common_tls_context"]
    assert tls["tls_certificates"][0]["private_key"] == {"filename": "/k.pem"}
    assert [each["san_type"] for each in tls["validation_context"]["match_typed_subject_alt_names"]] == ["DNS", "URI"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (0.025, "0.025s"), (3600, "3600s"), (1e7, "10000000s")])
def test_durations_are_as_protobuf_writes_them(seconds, text):
    assert duration(seconds) == text


def test_resources_have_istios_names():
    assert istio_config("") == {}
    assert istio_config("VirtualService/shop/a") == {
        "istio": {"config": "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/a"}
    }
