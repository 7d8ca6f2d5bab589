"""Resources in bulk: those of ``meshlib.bench.resources``, and services in numbers."""

from __future__ import annotations

from meshlib.bench.resources import ADDRESSES as ADDRESSES
from meshlib.bench.resources import Resource as Resource
from meshlib.bench.resources import grpc_reviews as grpc_reviews
from meshlib.bench.resources import reviews as reviews
from meshlib.bench.resources import rules as rules


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
