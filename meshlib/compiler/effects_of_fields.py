"""Which fields act, so that those that load and do nothing yet are named instead of silently ignored.

A field counts as acting when its path, or that of an object above it, is in the table of its kind. Paths are YAML names
without list positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from meshlib.errors import Problem, Severity

if TYPE_CHECKING:
    from meshlib.resources.base import Resource

_MATCH = ("name", "uri", "ignoreUriCase", "scheme", "method", "authority", "headers", "withoutHeaders", "queryParams",
          "port", "sourceLabels", "sourceNamespace", "gateways")  # fmt: skip
_DESTINATION_POLICY = (
    "loadBalancer.simple",
    "connectionPool.tcp.maxConnections",
    "connectionPool.tcp.connectTimeout",
    "connectionPool.tcp.idleTimeout",
    "connectionPool.tcp.maxConnectionDuration",
    "connectionPool.http.http1MaxPendingRequests",
    "connectionPool.http.http2MaxRequests",
    "connectionPool.http.maxRequestsPerConnection",
    "connectionPool.http.maxRetries",
    "connectionPool.http.idleTimeout",
    "outlierDetection.consecutive5xxErrors",
    "outlierDetection.consecutiveGatewayErrors",
    "outlierDetection.consecutiveErrors",
    "outlierDetection.consecutiveLocalOriginFailures",
    "outlierDetection.splitExternalLocalOriginErrors",
    "outlierDetection.interval",
    "outlierDetection.baseEjectionTime",
    "outlierDetection.maxEjectionPercent",
    "outlierDetection.minHealthPercent",
    "tls",
)

ACTING: dict[str, frozenset[str]] = {
    "VirtualService": frozenset(
        [
            "hosts",
            "gateways",
            "exportTo",
            "http.name",
            *(f"http.match.{field}" for field in _MATCH),
            "http.route.destination",
            "http.route.weight",
            "http.timeout",
            "http.retries.attempts",
            "http.retries.perTryTimeout",
            "http.retries.retryOn",
            "http.retries.backoff",
            "http.retries.retryIgnorePreviousHosts",
            "http.fault",
            "http.redirect",
            "http.directResponse",
            "http.rewrite",
            "http.headers",
            "http.mirror",
            "http.mirrors",
            "http.mirrorPercent",
            "http.mirrorPercentage",
            "http.route.headers",
            "http.delegate",
            "http.corsPolicy",
        ]
    ),
    "DestinationRule": frozenset(
        [
            "host",
            "exportTo",
            "workloadSelector",
            "subsets.name",
            "subsets.labels",
            *(f"trafficPolicy.{field}" for field in _DESTINATION_POLICY),
            *(f"trafficPolicy.portLevelSettings.{field}" for field in ("port", *_DESTINATION_POLICY)),
            *(f"subsets.trafficPolicy.{field}" for field in _DESTINATION_POLICY),
            *(f"subsets.trafficPolicy.portLevelSettings.{field}" for field in ("port", *_DESTINATION_POLICY)),
        ]
    ),
    "ServiceEntry": frozenset(
        ["hosts", "addresses", "ports", "location", "resolution", "exportTo", "workloadSelector"]
        + [f"endpoints.{f}" for f in ("address", "ports", "labels", "weight", "serviceAccount")]
    ),
    "WorkloadEntry": frozenset(("address", "ports", "labels", "weight", "serviceAccount")),
}
"""Fields that act, by kind. ``spec.`` is left out."""

_KUBERNETES = frozenset(
    ("Service", "Endpoints", "EndpointSlice", "Pod", "Deployment", "Namespace", "ServiceAccount", "Secret")
)


def inert_fields(resources: Sequence[Resource]) -> Iterator[Problem]:
    """A notice for each resource that sets fields without effect, naming them."""
    for resource in resources:
        if resource.kind in _KUBERNETES:
            continue
        acting = ACTING.get(resource.kind)
        if acting is None:
            yield _notice(resource, f"{resource.kind} loads, but nothing acts on it in this version")
            continue
        inert = sorted(set(_inert(resource.spec, "", acting)))  # type: ignore[attr-defined]
        if resource.kind == "DestinationRule" and "simple='PASSTHROUGH'" in repr(resource):
            inert.append("loadBalancer.simple: PASSTHROUGH (LEAST_REQUEST is used)")
        if inert:
            yield _notice(resource, f"no effect in this version: {', '.join(inert)}")


def _notice(resource: Resource, message: str) -> Problem:
    origin = resource.origin
    return Problem("no-effect", Severity.NOTICE, origin.file, origin.line, origin.column, resource.id, message, "")


def _inert(node: Any, path: str, acting: frozenset[str]) -> Iterator[str]:
    """The fields set at or below ``node`` that do not act, each named once, at the highest level without effect."""
    if path in acting:
        return
    if path and not any(known.startswith(f"{path}.") for known in acting):
        yield path
        return
    if isinstance(node, BaseModel):
        for name in sorted(node.model_fields_set):
            value = getattr(node, name)
            if value is not None:
                field = type(node).model_fields[name].alias or name
                yield from _inert(value, f"{path}.{field}" if path else field, acting)
    elif isinstance(node, list):
        for item in node:
            yield from _inert(item, path, acting)
