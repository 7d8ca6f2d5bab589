"""Who calls and who is called, as Istio's metrics name them."""

from __future__ import annotations

import pytest

from meshlib.policy.peer_metadata import PeerMetadata
from meshlib.registry.service import Endpoint
from meshlib.telemetry.dropped import dropped
from meshlib.telemetry.peer_labels import (
    NOBODY,
    ToldPeers,
    described,
    namespace_of,
    of_endpoint,
    of_workload,
    with_told,
)
from meshlib.workload import Workload


@pytest.mark.parametrize(
    ("labels", "service", "revision"),
    [
        ({}, "reviews-v1", "latest"),
        ({"app": "reviews", "version": "v1"}, "reviews", "v1"),
        ({"app": "a", "app.kubernetes.io/name": "b", "app.kubernetes.io/version": "2", "version": "1"}, "b", "2"),
        (
            {
                "app.kubernetes.io/name": "b",
                "service.istio.io/canonical-name": "c",
                "app.kubernetes.io/version": "2",
                "service.istio.io/canonical-revision": "3",
            },
            "c",
            "3",
        ),
        ({"app": "", "version": ""}, "reviews-v1", "latest"),
    ],
)
def test_the_canonical_service_is_what_the_labels_say_else_the_workload_s_name(labels, service, revision):
    found = described("reviews-v1", "default", labels, "Kubernetes")
    assert (found.canonical_service, found.canonical_revision) == (service, revision)


def test_what_is_not_known_is_unknown_but_the_revision():
    assert described("", "", {}, "") == NOBODY
    assert NOBODY.source("") == ("unknown", "unknown", "latest", *["unknown"] * 5)
    assert of_endpoint(Endpoint("10.0.0.1", 80), "shop", "east").source("")[3] == "shop"


@pytest.mark.parametrize(
    ("principal", "namespace"),
    [
        ("spiffe://cluster.local/ns/shop/sa/cart", "shop"),
        ("spiffe://td/ns/shop", "shop"),
        ("spiffe://td/workload/7", ""),
        ("", ""),
    ],
)
def test_a_principal_has_its_namespace(principal, namespace):
    assert namespace_of(principal) == namespace


def test_what_a_peer_tells_counts_before_what_resources_say_and_fills_what_they_do_not():
    known = described("gateway", "istio-system", {"app": "gateway"}, "west")
    assert with_told(known, PeerMetadata("w", cluster="east", canonical_service="c")) == known._replace(
        workload="w", cluster="east", canonical_service="c"
    )
    full = PeerMetadata("w", "ns", "east", "c", "r", "a", "v")
    assert with_told(NOBODY, full).source("") == ("w", "c", "r", "ns", "unknown", "a", "v", "east")


def test_who_makes_up_a_workload_for_each_request_makes_no_more_than_so_many_labels(monkeypatch):
    monkeypatch.setattr("meshlib.telemetry.peer_labels.MOST_PEERS", 2)
    before, told = dropped.counts().get("peer_metadata", 0), ToldPeers()
    found = [told.labelled(NOBODY, PeerMetadata(name)).workload for name in ("a", "b", "c", "a", "d", "b")]
    assert found == ["a", "b", "unknown", "a", "unknown", "b"]
    assert dropped.counts()["peer_metadata"] - before == 2
    assert told.labelled(NOBODY, None) is NOBODY


def test_a_workload_is_what_it_says_of_itself():
    found = of_workload(Workload("w", "ns", {"app": "a", "version": "v"}, cluster="east"))
    assert found.source("spiffe://p") == ("w", "a", "v", "ns", "spiffe://p", "a", "v", "east")
    assert found.destination("", "s.ns.svc", "s", "ns") == (
        *("w", "ns", "unknown", "a", "v", "s.ns.svc", "a", "v", "s", "ns", "east"),
    )
