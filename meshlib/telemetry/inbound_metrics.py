"""Istio's server-side metrics: what ``metrics.py`` counts of calls made, of calls served, reporter "destination".

The peer is known by its certificate only (Istio's exchange of workload metadata in headers is not spoken), so the other
``source_*`` labels are "unknown", as they are in Istio for a client without a sidecar.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from meshlib.telemetry.message_counters import message_counters
from meshlib.telemetry.metrics import DELAY, MAX_CHILDREN, MOST_PENDING, UNKNOWN, Later, families, revision
from meshlib.workload import Workload

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.engine.inbound import InboundCall


class InboundMetrics:
    """Counts the calls that one workload serves."""

    __slots__ = ("_canonical", "_children", "_families", "_later", "_messages", "_pending", "_scheduled", "_workload")

    def __init__(self, registry: CollectorRegistry, workload: Workload, later: Later | None = None) -> None:
        # noted, and counted some at a time beside the calls, for the reason that ``Metrics`` gives
        self._pending: deque[tuple[tuple[Any, Any, Any, Any], float, int, int]] = deque()
        self._later = later
        self._scheduled = False
        self._families = families(registry)
        self._messages = message_counters(registry)
        self._children: dict[Any, tuple[Any, Any, Any, Any]] = {}
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
        )
        found = self._children.get(key)
        if found is None:
            if len(self._children) >= MAX_CHILDREN:
                self._children.clear()  # only the short cut: the series themselves stay
            found = self._children[key] = self._make(call)
        grpc = request.protocol == "grpc"
        pending = self._pending
        pending.append(
            (
                found,
                (now - call.started) * 1000.0,
                call.request_messages if grpc else 0,
                call.response_messages if grpc else 0,
            )
        )
        if not self._scheduled:
            if self._later is None:
                self.count()
            else:
                self._scheduled = True
                try:
                    self._later(DELAY, self.count)
                except RuntimeError:  # the system has no thread for that (any more)
                    self.count()
        elif len(pending) >= MOST_PENDING:
            self.count()

    def count(self) -> None:
        """Count the calls that were noted."""
        self._scheduled = False
        pending = self._pending
        while pending:
            try:
                found, milliseconds, requests, responses = pending.popleft()
            except IndexError:  # another thread took the last one
                return
            found[0].inc()
            found[1].observe(milliseconds)
            if requests:
                found[2].inc(requests)
            if responses:
                found[3].inc(responses)

    def forget_pending(self) -> None:
        """In a forked child: they are the parent's to count."""
        self._pending.clear()
        self._scheduled = False

    def _make(self, call: InboundCall) -> tuple[Any, Any, Any, Any]:
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
            workload.principal if request.mutual else UNKNOWN,
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
        answer = (
            request.protocol,
            str(call.status),
            "" if call.grpc_status is None else str(call.grpc_status),
            call.flags or "-",
            "mutual_tls" if request.mutual else "none",
        )
        requests, duration = self._families[0], self._families[1]
        return (
            requests.labels(*peers, *answer),
            duration.labels(*peers, *answer),
            self._messages[0].labels(*peers),
            self._messages[1].labels(*peers),
        )
