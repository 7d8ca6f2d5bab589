"""Resources for other workloads are named before a request is let through."""

from __future__ import annotations

from meshlib.proxy.scope import about_others, for_others
from meshlib.resources.loader import load_text
from meshlib.workload import Workload

POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ratings, namespace: shop}
spec: {selector: {matchLabels: {app: ratings}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: shop}
spec: {}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: reviews, namespace: shop}
spec: {selector: {matchLabels: {app: reviews, version: v1}}, mtls: {mode: STRICT}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: ratings, namespace: shop}
spec: {workloadSelector: {labels: {app: ratings}}, egress: [{hosts: ["./*"]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: elsewhere, namespace: other}
spec: {selector: {matchLabels: {app: ratings}}}
"""
RESOURCES = load_text(POLICIES, "<yaml>").resources


def test_those_of_our_namespace_that_select_other_labels_are_for_others() -> None:
    ours = Workload("reviews", namespace="shop", labels={"app": "reviews", "version": "v1"})
    assert [each.id for each in for_others(RESOURCES, ours)] == [
        "AuthorizationPolicy/shop/ratings",
        "Sidecar/shop/ratings",
    ]


def test_a_proxy_without_labels_is_told_what_it_may_have_missed() -> None:
    (said,) = about_others(RESOURCES, Workload("reviews", namespace="shop"))
    assert said == (
        "for other workloads, without effect in this proxy, whose labels are none: AuthorizationPolicy/shop/ratings "
        "(app=ratings), PeerAuthentication/shop/reviews (app=reviews,version=v1), Sidecar/shop/ratings (app=ratings): if they "
        "are for this one, give --labels, or MESHLIB_LABELS"
    )


def test_nothing_is_said_where_nothing_is_for_others() -> None:
    assert about_others(RESOURCES, Workload("x", namespace="nowhere")) == []


def test_of_many_some_are_named_and_the_rest_is_counted() -> None:
    (said,) = about_others([RESOURCES[0]] * 7, Workload("x", namespace="shop", labels={"app": "x"}))
    assert said.endswith(" and 2 more")
    assert said.count("AuthorizationPolicy/shop/ratings") == 5
