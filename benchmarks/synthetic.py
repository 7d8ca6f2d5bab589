"""Resources in bulk."""

from __future__ import annotations

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
    """``count`` http rules that differ in one condition: exact, prefix or regex path, or header."""
    made = []
    for n in range(count):
        match: dict[str, Any]
        if kind == "header":
            match = {"headers": {"tenant": {"exact": f"t{n}"}}}
        else:
            match = {"uri": {kind: f"/service-{n}/x" if kind != "regex" else f"/service-{n}/[a-z]+"}}
        made.append({"match": [match], "route": [{"destination": {"host": "reviews"}}]})
    return made


def services(count: int, rules_each: int, endpoints_each: int) -> list[Resource]:
    """``count`` services, each with a VirtualService, a DestinationRule and an EndpointSlice."""
    made: list[Resource] = []
    for n in range(count):
        name = f"service-{n}"
        made += [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"ports": [{"name": "http", "port": 8080}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080}],
                "endpoints": [{"addresses": [f"10.{n // 250}.{n % 250}.{i + 1}"]} for i in range(endpoints_each)],
            },
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "DestinationRule",
                "metadata": {"name": name},
                "spec": {"host": name, "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 5}}},
            },
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "VirtualService",
                "metadata": {"name": name},
                "spec": {
                    "hosts": [name],
                    "http": [
                        {
                            "match": [{"uri": {"prefix": f"/api/{r}"}}],
                            "route": [{"destination": {"host": name}}],
                            "timeout": "3s",
                        }
                        for r in range(rules_each)
                    ],
                },
            },
        ]
    return made
