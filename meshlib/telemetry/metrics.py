"""Istio's client-side metrics: ``istio_requests_total`` and ``istio_request_duration_milliseconds``, reporter "source".

Names, labels and buckets are Istio's, so its dashboards work. A child is looked up once per destination, endpoint and
result; afterwards a call costs one dictionary look-up, an increment and an observation.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from meshlib.compiler.routes import PASSTHROUGH
from meshlib.workload import Workload

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.engine.call import Call

LABELS = (
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
)
BUCKETS = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
           3_600_000)  # fmt: skip
UNKNOWN = "unknown"
MAX_CHILDREN = 10_000
DELAY = 0.1
"""Seconds after which a noted call is counted, if nobody has looked before."""
MOST_PENDING = 1000

Later = Callable[[float, Callable[[], None]], Any]

_made: weakref.WeakKeyDictionary[Any, tuple[Any, ...]] = weakref.WeakKeyDictionary()


def families(registry: CollectorRegistry) -> tuple[Any, ...]:
    """The families of a registry, registered once however many meshes share it."""
    found = _made.get(registry)
    if found is None:
        from prometheus_client import Counter, Histogram

        found = _made[registry] = (
            Counter("istio_requests_total", "Requests through the mesh.", LABELS, registry=registry),
            Histogram(
                "istio_request_duration_milliseconds",
                "Duration of requests, in milliseconds, to the last byte of the answer.",
                LABELS,
                registry=registry,
                buckets=BUCKETS,
            ),
            Counter(
                "meshlib_resilience",
                "What mechanisms of ResiliencePolicies did or, in shadow mode, would have done.",
                ("service", "mechanism", "mode", "verdict"),
                registry=registry,
            ),
            Counter(
                "meshlib_route_requests",
                "Requests by the statPrefix of the VirtualService match they took.",
                ("virtual_service", "stat_prefix", "response_code"),
                registry=registry,
            ),
        )
    return found


class Metrics:
    """Counts the calls of one client."""

    __slots__ = ("_children", "_families", "_later", "_pending", "_scheduled", "_source")

    def __init__(self, registry: CollectorRegistry, workload: Workload, later: Later | None = None) -> None:
        self._families = families(registry)
        # prometheus_client's counters cost a call more than the whole retry policy, and between two calls they fall out of
        # the processor's caches: `make bench` shows it. So calls are noted, and counted some at a time beside them, or when
        # somebody looks.
        self._pending: deque[tuple[tuple[Any, Any], float]] = deque()
        self._later = later
        self._scheduled = False
        self._children: dict[Any, tuple[Any, Any]] = {}
        labels = workload.labels
        app = labels.get("app", UNKNOWN)
        self._source = (
            "source",
            workload.name,
            labels.get("service.istio.io/canonical-name") or labels.get("app.kubernetes.io/name") or app,
            revision(labels),
            workload.namespace,
            UNKNOWN,
            app,
            labels.get("version", UNKNOWN),
            workload.cluster,
        )

    def finished(self, call: Call, now: float) -> None:
        """A call is over since ``now``, whichever way."""
        record = call.record
        destination = record.destination
        key = (destination, record.endpoint, record.status, record.flags, record.grpc_status)
        found = self._children.get(key)
        if found is None:
            if len(self._children) >= MAX_CHILDREN:
                self.forget_short_cuts()
            labels = self._labels(call)
            found = self._children[key] = (self._families[0].labels(*labels), self._families[1].labels(*labels))
        pending = self._pending
        pending.append((found, (now - record.started) * 1000.0))
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
        rule = record.rule_object
        if rule is not None and rule.has_stat_prefix:
            taken = next((match.settings.stat_prefix for match in rule.matches if match(call.request)), "")
            if taken:
                self._families[3].labels(record.resource, taken, str(record.status)).inc()

    def count(self) -> None:
        """Count the calls that were noted."""
        self._scheduled = False
        pending = self._pending
        while pending:
            try:
                (calls, durations), milliseconds = pending.popleft()
            except IndexError:  # another thread took the last one
                return
            calls.inc()
            durations.observe(milliseconds)

    def forget_short_cuts(self) -> None:
        """The configuration has changed: what was looked up by its parts would keep them. The series themselves stay."""
        self._children.clear()

    def forget_pending(self) -> None:
        """In a forked child: they are the parent's to count."""
        self._pending.clear()
        self._scheduled = False

    def resilience(self, host: str, mechanism: str, mode: str, verdict: str) -> None:
        """Count what a mechanism did."""
        self._families[2].labels(host, mechanism, mode, verdict).inc()

    def _labels(self, call: Call) -> tuple[str, ...]:
        record = call.record
        host = record.host
        endpoint = None
        destination = record.destination
        if destination is not None and destination.cluster and destination.cluster in call.live.bound:
            state = call.live.bound[destination.cluster].state.endpoints.get(record.endpoint)
            endpoint = state.endpoint if state is not None else None
        if host == PASSTHROUGH or record.virtual_host is call.live.snapshot.blocked:
            # never the Host that the caller sent: a crawler would make a series of each
            name = PASSTHROUGH if host == PASSTHROUGH else "BlackHoleCluster"
            host, namespace = UNKNOWN, UNKNOWN
        else:
            parts = host.split(".")
            in_cluster = len(parts) > 2 and parts[2] == "svc"
            name, namespace = (parts[0], parts[1]) if in_cluster else (host, UNKNOWN)
        labels = endpoint.labels if endpoint is not None else {}
        app = labels.get("app", UNKNOWN)
        workload = (endpoint.workload if endpoint is not None else "") or UNKNOWN
        canonical = labels.get("service.istio.io/canonical-name") or labels.get("app.kubernetes.io/name") or app
        return (
            *self._source,
            workload,
            namespace,
            UNKNOWN,
            app,
            labels.get("version", UNKNOWN),
            host,
            canonical if canonical != UNKNOWN else name,
            revision(labels),
            name,
            namespace,
            UNKNOWN,
            call.request.protocol,
            str(record.status),
            "" if record.grpc_status is None else str(record.grpc_status),
            record.flags or "-",
            UNKNOWN,
        )


def revision(labels: Mapping[str, str]) -> str:
    return (
        labels.get("service.istio.io/canonical-revision")
        or labels.get("app.kubernetes.io/version")
        or labels.get("version", "latest")
    )
