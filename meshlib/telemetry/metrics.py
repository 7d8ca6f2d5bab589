"""Istio's client-side metrics: ``istio_requests_total`` and ``istio_request_duration_milliseconds``, reporter "source".

A series is looked up once per destination, endpoint and result; afterwards a call costs one dictionary look-up and two
additions.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

from meshlib.compiler.routes import PASSTHROUGH
from meshlib.policy.endpoint import UNREGISTERED
from meshlib.policy.grpc_status import NAMES as GRPC_NAMES
from meshlib.policy.grpc_status import http_of_grpc
from meshlib.telemetry.families import families
from meshlib.telemetry.peer_labels import NOBODY, UNKNOWN, namespace_of, of_endpoint, of_workload
from meshlib.telemetry.tables import CountSeries, NewCount
from meshlib.workload import Workload

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.explanation import Exchange
    from meshlib.policy.endpoint import EndpointState
    from meshlib.telemetry.cluster_codes import ClusterCodes
    from meshlib.telemetry.tables import Calls

MAX_SHORT_CUTS = 10_000

Found = TypeVar("Found")


class ShortCuts(Generic[Found]):
    """Series by what they were looked up with last time: strings are made of that once, and not at every call."""

    __slots__ = ("_short_cuts", "of")

    def __init__(self) -> None:
        self._short_cuts: dict[Hashable, Found] = {}
        self.of = self._short_cuts.get

    def learn(self, key: Hashable, found: Found) -> Found:
        """Know it from now on. There may be any number of keys, and the series themselves stay."""
        if len(self._short_cuts) >= MAX_SHORT_CUTS:
            self.forget()
        self._short_cuts[key] = found
        return found

    def forget(self) -> None:
        """All of them."""
        self._short_cuts.clear()


class FailedCalls:
    """A series of calls that failed: these are counted for ``mesh.status()`` too. Calls that succeed do not come here."""

    __slots__ = ("_count", "_series")

    def __init__(self, series: Calls, count: CountSeries) -> None:
        self._series = series
        self._count = count

    def observe(self, milliseconds: float, /) -> None:
        """One call has ended."""
        self._count.inc()
        self._series.observe(milliseconds)


class Metrics:
    """Counts the calls of one client."""

    __slots__ = ("_cluster", "_failed", "_families", "_labelled", "_series", "_source", "codes")

    def __init__(self, registry: CollectorRegistry, workload: Workload) -> None:
        self._failed: dict[str, CountSeries] = {}
        self.codes: ClusterCodes | None = None
        self._families = families(registry)
        self._series: ShortCuts[Calls] = ShortCuts()
        self._source = of_workload(workload)
        self._cluster = workload.cluster
        self._labelled: set[str] = set()

    def finished(self, call: Call, now: float) -> None:
        """A call is over since ``now``, whichever way."""
        record = call.record
        key = (record.destination, record.endpoint, record.status, record.flags, record.grpc_status)
        found = self._series.of(key)
        if found is None:
            found = self._series.learn(key, self._observer(call))
        found.observe((now - record.started) * 1000.0)
        rule = record.rule_object
        if rule is not None and rule.has_stat_prefix:
            taken = next((match.settings.stat_prefix for match in rule.matches if match(call.request)), "")
            if taken:
                self._families.routes.labels(record.resource, taken, str(record.status)).inc()

    @property
    def failed(self) -> dict[str, int]:
        """How many calls have failed, by what happened: Envoy's flags, the status of a response that is an error of the
        server, or that of gRPC."""
        return {why: int(count.value) for why, count in sorted(self._failed.items())}

    def _observer(self, call: Call) -> Calls:
        series: Calls = self._families.calls.labels(*self._labels(call))
        if self.codes is not None:
            series = self.codes.around(series, call.record)
        why = _failure(call.record)
        return FailedCalls(series, self._failed.setdefault(why, NewCount())) if why else series

    def forget_short_cuts(self) -> None:
        """The configuration has changed: what was looked up by its parts would keep them. The series themselves stay."""
        self._series.forget()
        self._labelled.clear()

    def vouched(self, endpoint: str) -> None:
        """Who is at an endpoint (its key) is known now, or somebody else than before: calls to it may be another series'."""
        if endpoint in self._labelled:
            self.forget_short_cuts()

    def resilience(self, host: str, mechanism: str, mode: str, verdict: str) -> None:
        """Count what a mechanism did."""
        self._families.resilience.labels(host, mechanism, mode, verdict).inc()

    def _labels(self, call: Call) -> tuple[str, ...]:
        record, request = call.record, call.request
        destination, host = record.destination, record.host
        bound = None if destination is None else call.live.bound.get(destination.cluster)
        state = None if bound is None else bound.state.endpoints.get(record.endpoint)
        if host == PASSTHROUGH or record.virtual_host is call.live.snapshot.blocked:
            # never the Host that the caller sent: a crawler would make a series of each
            service, name = UNKNOWN, PASSTHROUGH if host == PASSTHROUGH else BLACK_HOLE
            namespace = UNKNOWN
        else:
            service, parts = host, host.split(".")
            in_cluster = len(parts) > 2 and parts[2] == "svc"
            name = parts[0] if in_cluster else host
            namespace = bound.spec.namespace if bound is not None else parts[1] if in_cluster else ""
        peer, ours, theirs = NOBODY, "", ""
        if state is not None and state.endpoint is not UNREGISTERED and service is not UNKNOWN:
            peer = of_endpoint(state.endpoint, namespace, self._cluster)
        if state is not None and "UF" not in record.flags.split(","):
            self._labelled.add(record.endpoint)
            if state.principals is not None and bound is not None and _is_mutual(bound, state, request.scheme):
                ours, theirs = state.principals
                peer = peer._replace(namespace=namespace_of(theirs) or peer.namespace)
        return (
            "source",
            *self._source.source(ours),
            *peer.destination(theirs, service, name, namespace or peer.namespace),
            request.protocol,
            str(record.status),
            "" if record.grpc_status is None else str(record.grpc_status),
            record.flags or "-",
            UNKNOWN,
        )


def _is_mutual(bound: BoundCluster, state: EndpointState, scheme: str) -> bool:
    """Whether calls to an endpoint are over mTLS of the mesh: the cluster's, or auto mTLS to those that take it."""
    if bound.tls is None or bound.tls.mode != "ISTIO_MUTUAL":
        return False
    return bound.tls is bound.spec.tls or (state.key in bound.mutual and scheme != "https")


BLACK_HOLE = "BlackHoleCluster"
NO_FAILURE = frozenset(("DI", "FB"))
"""Flags of calls that succeed: a delay was injected, or a fallback has stood in."""


def _failure(record: Exchange) -> str:
    """Why a call has failed; "" when it has not."""
    flags = ",".join(flag for flag in record.flags.split(",") if flag and flag not in NO_FAILURE)
    if flags:
        return flags
    if record.grpc_status and http_of_grpc(record.grpc_status) >= 500:
        return GRPC_NAMES[record.grpc_status]
    return str(record.status) if record.status >= 500 else ""
