"""Istio's server-side metrics: what ``metrics.py`` counts of calls made, of calls served, reporter "destination".

The peer is known by its certificate, which has its namespace, and by what it tells of itself where workloads exchange metadata
in headers; else the other ``source_*`` labels are "unknown", as they are in Istio for a client without a sidecar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from meshlib.telemetry.families import PEER_LABELS, families, message_families, size_families
from meshlib.telemetry.metrics import ShortCuts
from meshlib.telemetry.peer_labels import NOBODY, ToldPeers, namespace_of, of_workload
from meshlib.telemetry.served import Served, served_by
from meshlib.telemetry.tables import durations_of
from meshlib.telemetry.tag_overrides import AS_THEY_ARE
from meshlib.telemetry.tcp_series import tcp_series
from meshlib.workload import Workload

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.engine.inbound import InboundCall
    from meshlib.telemetry.access_log.entry import Traced
    from meshlib.telemetry.tables import Calls, Count
    from meshlib.telemetry.tag_overrides import AsTheyAre, TagOverrides
    from meshlib.telemetry.tcp_series import TcpSeries


class _Series(NamedTuple):
    calls: Calls
    request_messages: Count | None
    response_messages: Count | None
    request_bytes: Calls
    response_bytes: Calls
    served: Served | None
    """Durations and both sizes of HTTP, where they are plain numbers of this process."""


class InboundMetrics:
    """Counts the calls that one workload serves."""

    __slots__ = ("_calls", "_destination", "_evaluated", "_registry", "_series", "_tags", "_told", "_workload")

    def __init__(self, registry: CollectorRegistry, workload: Workload) -> None:
        self._calls = families(registry).calls
        self._registry = registry
        self._series: ShortCuts[_Series] = ShortCuts()
        self._workload = workload
        self._destination = of_workload(workload)
        self._told = ToldPeers()
        self._tags: TagOverrides[InboundCall] | AsTheyAre = AS_THEY_ARE
        self._evaluated: TagOverrides[InboundCall] | None = None

    def finished(self, call: InboundCall, now: float) -> None:
        """A served call is over since ``now``, whichever way."""
        request, series = call.request, self._series  # first: what is made by other tags goes nowhere else
        key = _key(call)
        values: tuple[str, ...] = ()
        if self._evaluated is not None:
            values = self._evaluated.values(call, now, self._labels)
            key = (*key, values)
        found = series.of(key)
        if found is None:
            found = series.learn(key, self._make(call, values))
        milliseconds = (now - call.started) * 1000.0
        served = found.served
        if served is not None:
            served.note(milliseconds, call.request_bytes, call.response_bytes)
            return
        found.calls.observe(milliseconds)
        found.response_bytes.observe(call.response_bytes)
        if found.request_messages is None or found.response_messages is None:
            found.request_bytes.observe(call.request_bytes)
            return
        head = 0 if call.request_head_bytes else request.header_bytes()  # a proxy has counted it already
        found.request_bytes.observe(call.request_bytes + head)
        found.request_messages.inc(call.request_messages)
        found.response_messages.inc(call.response_messages)

    def connection(self, call: InboundCall, now: float) -> TcpSeries:
        """Where a connection is counted whose bytes nobody reads."""
        values = () if self._evaluated is None else self._evaluated.values(call, now, self._labels)
        return tcp_series(self._registry, self._tags, self._labels(call), values)

    def traced(self, call: InboundCall, now: float, traced: Traced) -> None:
        """A call that was ``finished`` is one of a trace: the example of calls that take so long."""
        key = _key(call)
        if self._evaluated is not None:
            key = (*key, self._evaluated.values(call, now, self._labels, counts=False))
        found = self._series.of(key)
        durations = None if found is None else durations_of(found.calls)
        if durations is not None:
            durations.exemplify((now - call.started) * 1000.0, traced.trace_id, traced.span_id)

    def noting(self, call: InboundCall) -> Served | None:
        """Where calls like ``call``, which has been counted, are noted; None: they are counted one by one."""
        found = self._series.of(_key(call))  # never there while expressions are a part of what series are found by
        return None if found is None else found.served

    def override(self, tags: TagOverrides[InboundCall] | None) -> None:
        """What Telemetries change about the metrics of calls from here on; None: nothing."""
        self._tags = AS_THEY_ARE if tags is None else tags
        self._evaluated = tags if tags is not None and tags.evaluates else None
        self._series = ShortCuts()  # last: who makes one by the old tags meanwhile has the old ones

    def _labels(self, call: InboundCall) -> tuple[str, ...]:
        request, here = call.request, self._destination
        service = call.inbound.service
        principal = ""
        if request.mutual:
            principal = self._workload.in_trust_domain(call.inbound.mesh.trust_domain).principal
        caller = self._told.labelled(NOBODY, request.peer_metadata)
        verified = namespace_of(request.principal)
        if verified:
            caller = caller._replace(namespace=verified)
        # never the authority that the caller sent: a crawler would make a series of each
        name = service.partition(".")[0] or here.canonical_service
        peers = (
            "destination",
            *caller.source(request.principal),
            *here.destination(principal, service or here.canonical_service, name, here.namespace),
        )
        response = (
            request.protocol,
            str(call.status),
            "" if call.grpc_status is None else str(call.grpc_status),
            call.flags or "-",
            "mutual_tls" if request.mutual else "none",
        )
        return (*peers, *response)

    def _make(self, call: InboundCall, values: tuple[str, ...]) -> _Series:
        labels, tags, protocol = self._labels(call), self._tags, call.request.protocol
        calls = tags.calls(self._calls, labels, values)
        messages: tuple[Count | None, Count | None] = None, None
        if protocol == "grpc":
            found, peers = message_families(self._registry), labels[: len(PEER_LABELS)]
            messages = (
                tags.messages("request_messages_total", found.requests, peers, values),
                tags.messages("response_messages_total", found.responses, peers, values),
            )
        families = size_families(self._registry)
        requests = tags.sizes("request_bytes", families.requests, labels, values)
        responses = tags.sizes("response_bytes", families.responses, labels, values)
        served = None if protocol == "grpc" else served_by(calls, requests, responses)
        return _Series(calls, *messages, requests, responses, served)


def _key(call: InboundCall) -> tuple[object, ...]:
    request, inbound = call.request, call.inbound
    return (
        request.principal,
        request.mutual,
        request.peer_metadata,
        call.status,
        call.grpc_status,
        call.flags,
        inbound.service,
        request.protocol,
        inbound.mesh.trust_domain,
    )
