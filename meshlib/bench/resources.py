"""What all that is measured obeys: the same service, rules and policies; in Envoy's words they are in ``envoy_config``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

Resource = dict[str, Any]

ADDRESSES = {"v1": ("127.0.0.1", "127.0.0.2"), "v2": ("127.0.0.3", "127.0.0.4")}
"""Where a backend listens: two endpoints a version, so that balancers have a choice. An address belongs to one pod only."""


def reviews(port: int, protocol: str = "http") -> list[Resource]:
    """A service with everything armed: header match, weighted route, timeout, retries, fault at 0, outlier detection.
    ``protocol`` is what its port speaks, http or http2."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "reviews"},
            "spec": {
                "selector": {"app": "reviews"},
                "ports": [{"name": protocol, "port": 9080, "targetPort": "http"}],
            },
        },
        *(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"reviews-{version}-{n}", "labels": {"app": "reviews", "version": version}},
                "spec": {"containers": [{"ports": [{"name": "http", "containerPort": port}]}]},
                "status": {"podIP": address},
            }
            for version, addresses in ADDRESSES.items()
            for n, address in enumerate(addresses, 1)
        ),
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": "reviews"},
            "spec": {
                "host": "reviews",
                "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 5}},
                "subsets": [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")],
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "reviews"},
            "spec": {
                "hosts": ["reviews"],
                "http": [
                    {
                        "match": [{"headers": {"end-user": {"exact": "jason"}}}],
                        "route": [{"destination": {"host": "reviews", "subset": "v2"}}],
                    },
                    {
                        "route": [
                            {"destination": {"host": "reviews", "subset": "v1"}, "weight": 90},
                            {"destination": {"host": "reviews", "subset": "v2"}, "weight": 10},
                        ],
                        "timeout": "5s",
                        "retries": {"attempts": 2, "retryOn": "5xx"},
                    },
                ],
            },
        },
    ]


def grpc_reviews(port: int) -> list[Resource]:
    """The same for gRPC: retries when unavailable, and a maximum of requests."""
    made = reviews(port)
    made[0]["spec"]["ports"][0].update(name="grpc", targetPort="grpc")
    for pod in made[1:-2]:
        pod["spec"]["containers"][0]["ports"][0]["name"] = "grpc"
    made[-2]["spec"]["trafficPolicy"]["connectionPool"] = {"http": {"http2MaxRequests": 1000}}
    made[-1]["spec"]["http"][1]["retries"]["retryOn"] = "unavailable"
    return made


def rules(count: int, kind: str) -> list[dict[str, Any]]:
    """``count`` http rules that differ in one condition: exact, prefix or regex path ("within": in no whole segment of it), or
    header ("below": below a prefix that all have)."""
    made = []
    for n in range(count):
        match: dict[str, Any]
        if kind in ("header", "below"):
            match = {"headers": {"tenant": {"exact": f"t{n}"}}}
            if kind == "below":
                match["uri"] = {"prefix": "/service-"}
        elif kind == "within":
            match = {"uri": {"regex": f"/(app|service)-{n}/[a-z]+"}}
        else:
            match = {"uri": {kind: f"/service-{n}/x" if kind != "regex" else f"/service-{n}/[a-z]+"}}
        made.append({"match": [match], "route": [{"destination": {"host": "reviews"}}]})
    return made


def measured(port: int, protocol: str = "http", more_rules: int = 0, principal: str = "") -> list[Resource]:
    """``reviews``, or for protocol grpc ``grpc_reviews``, behind so many rules that do not match; ``principal``: a service
    account of the endpoints, to which callers speak mTLS."""
    made = grpc_reviews(port) if protocol == "grpc" else reviews(port)
    if more_rules:
        made[-1]["spec"]["http"][:0] = rules(more_rules, "prefix")
    if principal:
        made[-2]["spec"]["trafficPolicy"]["tls"] = {"mode": "ISTIO_MUTUAL"}
        for each in made:
            if each["kind"] == "Pod":
                each["spec"]["serviceAccountName"] = principal
    return made


def with_one_endpoint(made: Sequence[Resource]) -> list[Resource]:
    """The same service and rules, whose destinations have one endpoint together."""
    first, _ = ADDRESSES["v1"]
    found = [each for each in copy.deepcopy(list(made)) if each["kind"] != "Pod" or each["status"]["podIP"] == first]
    for each in found:
        for rule in each["spec"].get("http", ()) if each["kind"] == "VirtualService" else ():
            for to in rule["route"]:
                if "subset" in to["destination"]:
                    to["destination"]["subset"] = "v1"
    return found


MOST_IN_A_POLICY = 512
"""Rules of an AuthorizationPolicy that the API server takes."""


def admitting(count: int) -> list[Resource]:
    """Of a server: AuthorizationPolicies of ``count`` rules together, of which the last lets in what is asked for."""
    paths = [*(f"/service-{n}/*" for n in range(count - 1)), "/size/*"]
    allowed = [{"to": [{"operation": {"paths": [path], "methods": ["GET"]}}]} for path in paths]
    return [
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": f"allow-{number}", "namespace": "default"},
            "spec": {"action": "ALLOW", "rules": allowed[at : at + MOST_IN_A_POLICY]},
        }
        for number, at in enumerate(range(0, count, MOST_IN_A_POLICY))
    ]
