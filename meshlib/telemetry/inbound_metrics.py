"""Istio's server-side metrics: what ``metrics.py`` counts of calls made, of calls served, reporter "destination".

The peer is known by its certificate only (Istio's exchange of workload metadata in headers is not spoken), so the other
``source_*`` labels are "unknown", as they are in Istio for a client without a sidecar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from meshlib.telemetry.families import families, message_families, size_families
from meshlib.telemetry.metrics import UNKNOWN, ShortCuts, revision
from meshlib.workload import Workload

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.engine.inbound import InboundCall
    from meshlib.telemetry.tables import Calls, Count


class _Series(NamedTuple):
    calls: Calls
    request_messages: Count
    response_messages: Count
    request_bytes: Calls | None
    response_bytes: Calls | None


class InboundMetrics:
    """Counts the calls that one workload serves."""

    __slots__ = ("_calls", "_canonical", "_messages", "_registry", "_series", "_workload")

    def __init__(self, registry: CollectorRegistry, workload: Workload) -> None:
        self._calls = families(registry).calls
        self._messages = message_families(registry)
        self._registry = registry
        self._series: ShortCuts[_Series] = ShortCuts()
        self._workload = workload
        labels = workload.labels
        self._canonical = (
            labels.get("service.istio.io/canonical-name")
            or labels.get("app.kubernetes.io/name")
            or labels.get("app")
            or workload.name
        )

    def finished(self, call: InboundCall, now: float) -> None:
        """A served call is over since ``now``, whichever way."""
        request = call.request
        key = (
            request.principal,
            request.mutual,
            call.status,
            call.grpc_status,
            call.flags,
            call.inbound.service,
            request.protocol,
            call.inbound.mesh.trust_domain,
        )
        found = self._series.of(key)
        if found is None:
            found = self._series.learn(key, self._make(call))
        found.calls.observe((now - call.started) * 1000.0)
        if request.protocol == "grpc":
            if call.request_messages:
                found.request_messages.inc(call.request_messages)
            if call.response_messages:
                found.response_messages.inc(call.response_messages)
        elif found.request_bytes is not None and found.response_bytes is not None:
            found.request_bytes.observe(call.request_bytes)
            found.response_bytes.observe(call.response_bytes)

    def _make(self, call: InboundCall) -> _Series:
        request, workload = call.request, self._workload
        labels = workload.labels
        host = call.inbound.service
        name, namespace = host.split(".")[:2] if host else (self._canonical, workload.namespace)
        peers = (
            "destination",
            *(UNKNOWN,) * 4,
            request.principal or UNKNOWN,
            *(UNKNOWN,) * 3,
            workload.name,
            workload.namespace,
            workload.in_trust_domain(call.inbound.mesh.trust_domain).principal if request.mutual else UNKNOWN,
            labels.get("app", UNKNOWN),
            labels.get("version", UNKNOWN),
            # never the authority that the caller sent: a crawler would make a series of each
            host or UNKNOWN,
            self._canonical,
            revision(labels),
            name,
            namespace,
            workload.cluster,
        )
        response = (
            request.protocol,
            str(call.status),
            "" if call.grpc_status is None else str(call.grpc_status),
            call.flags or "-",
            "mutual_tls" if request.mutual else "none",
        )
        sizes = None if request.protocol == "grpc" else size_families(self._registry)
        return _Series(
            self._calls.labels(*peers, *response),
            self._messages.requests.labels(*peers),
            self._messages.responses.labels(*peers),
            None if sizes is None else sizes.requests.labels(*peers, *response),
            None if sizes is None else sizes.responses.labels(*peers, *response),
        )
