"""Which clusters speak HTTP/2: what the port declares, h2UpgradePolicy and useClientProtocol, as istiod decides it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compiler.test_compile import snapshot
from tests.support.resources import destination_rule, pod, service

UPGRADE = {"h2UpgradePolicy": "UPGRADE"}


@pytest.mark.parametrize(
    ("port", "http", "http2"),
    [
        ("http", {}, False),
        ("http", UPGRADE, True),
        ("http", {"h2UpgradePolicy": "DO_NOT_UPGRADE"}, False),
        ("grpc", {}, True),
        ("http2", {"h2UpgradePolicy": "DO_NOT_UPGRADE"}, True),
        # a port that declares nothing: Istio speaks what the caller speaks
        ("", UPGRADE, False),
        ("custom", UPGRADE, False),
        ("tcp", UPGRADE, True),
        ("http", {"useClientProtocol": True}, False),
        ("grpc", {"useClientProtocol": True}, False),
    ],
)
def test_who_speaks_http2(port, http, http2):
    pool: dict[str, Any] = {"connectionPool": {"http": http}} if http else {}
    rules = [destination_rule("reviews", **pool)] if pool else []
    made = service("reviews", ports=[{"name": port, "port": 9080, "targetPort": 1}])
    snap = snapshot(made, pod("reviews", "v1", 1), *rules)
    assert snap.clusters["outbound|9080||reviews.default.svc.cluster.local"].http2 is http2


@pytest.mark.parametrize(
    ("port", "http", "as_client"),
    [
        ("http", {}, False),
        ("http", UPGRADE, False),
        ("grpc", {}, False),
        ("tcp", {}, False),
        ("", {}, True),
        ("custom", UPGRADE, True),
        ("http", {"useClientProtocol": True}, True),
        ("grpc", {"useClientProtocol": True}, True),
    ],
)
def test_where_a_sidecar_speaks_what_its_client_speaks(port, http, as_client):
    pool: dict[str, Any] = {"connectionPool": {"http": http}} if http else {}
    rules = [destination_rule("reviews", **pool)] if pool else []
    made = service("reviews", ports=[{"name": port, "port": 9080, "targetPort": 1}])
    snap = snapshot(made, pod("reviews", "v1", 1), *rules)
    assert snap.clusters["outbound|9080||reviews.default.svc.cluster.local"].as_client is as_client
    assert snap.clusters["PassthroughCluster"].as_client is True
