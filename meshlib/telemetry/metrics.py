"""Istio's client-side metrics: ``istio_requests_total`` and ``istio_request_duration_milliseconds``, reporter "source".

A series is looked up once per destination, endpoint and result; afterwards a call costs one dictionary look-up and two
additions.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from meshlib.compiler.routes import PASSTHROUGH
from meshlib.policy.grpc_status import NAMES as GRPC_NAMES
from meshlib.policy.grpc_status import http_of_grpc
from meshlib.telemetry.families import families
from meshlib.telemetry.tables import CountSeries, NewCount
from meshlib.workload import Workload

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.engine.call import Call
    from meshlib.engine.explanation import Exchange
    from meshlib.telemetry.tables import Calls

UNKNOWN = "unknown"
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

    __slots__ = ("_failed", "_families", "_series", "_source")

    def __init__(self, registry: CollectorRegistry, workload: Workload) -> None:
        self._failed: dict[str, CountSeries] = {}
        self._families = families(registry)
        self._series: ShortCuts[Calls] = ShortCuts()
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
        series = self._families.calls.labels(*self._labels(call))
        why = _failure(call.record)
        return FailedCalls(series, self._failed.setdefault(why, NewCount())) if why else series

    def forget_short_cuts(self) -> None:
        """The configuration has changed: what was looked up by its parts would keep them. The series themselves stay."""
        self._series.forget()

    def resilience(self, host: str, mechanism: str, mode: str, verdict: str) -> None:
        """Count what a mechanism did."""
        self._families.resilience.labels(host, mechanism, mode, verdict).inc()

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


def revision(labels: Mapping[str, str]) -> str:
    """Istio's canonical revision of a workload with these labels."""
    return (
        labels.get("service.istio.io/canonical-revision")
        or labels.get("app.kubernetes.io/version")
        or labels.get("version", "latest")
    )
