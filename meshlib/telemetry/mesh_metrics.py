"""meshlib's own metrics of what Istio has no name for: attempts, ejections, breakers, budgets, pools, configuration,
certificates, and what telemetry itself could not do.

One collector a registry reads the state of its meshes when it is scraped: no call pays for it. Series are those of configured
names (services, subsets, ports, trust domains), never of what a caller sent. ``workload`` and ``namespace`` say whose they
are; where several meshes of one workload share a registry, the second has ``mesh="2"``, and so on.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from meshlib.engine.numbers import BREAKER_STATES
from meshlib.engine.tally import LIMITS
from meshlib.telemetry.families import collectors
from meshlib.telemetry.label_sets import cleaned
from meshlib.telemetry.mesh_numbers import MeshNumbers, Observed

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

    from meshlib.engine.numbers import ClusterNumbers, EndpointNumbers, GuardNumbers
    from meshlib.telemetry.mesh_numbers import CertificateNumbers, ConfigNumbers, Pool
    from meshlib.telemetry.state_family import Rows

log = logging.getLogger("meshlib.telemetry")

OWNER = ("workload", "namespace", "mesh")
CLUSTER = ("service", "subset", "port")


class Family(NamedTuple):
    """One family: a counter (its name ends in ``_total``) or a gauge. ``labels`` come after those of the owner."""

    name: str
    documentation: str
    labels: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        return self.name.endswith("_total")


Sample = tuple[Family, tuple[str, ...], float]
"""A family, the values of its labels (without the owner's), and a number."""

CONFIG_INFO = Family("meshlib_config_info", "The configuration in force, by its version; always 1.", ("version",))
CONFIG_AGE = Family("meshlib_config_age_seconds", "Seconds since the configuration in force took effect.")
CONFIG_SUCCESS = Family(
    "meshlib_config_last_success_timestamp_seconds",
    "When resources were last read, or applied, and every one of them was taken; seconds since the epoch.",
)
CONFIG_RESOURCES = Family("meshlib_config_resources", "Resources of the configuration in force.")
CONFIG_RELOADS = Family(
    "meshlib_config_reloads_total",
    "Reloads and calls of apply(): ok; partly (some resources were refused, their last good version stays); failed.",
    ("result",),
)
CONFIG_PROBLEMS = Family("meshlib_config_problems", "Problems of the last load, by severity.", ("severity",))

ATTEMPTS = Family(
    "meshlib_attempts_total",
    "Attempts that are over, by what came of them: retries, hedges and mirrored copies each count.",
    (*CLUSTER, "result"),
)
ACTIVE = Family("meshlib_attempts_active", "Attempts under way.", CLUSTER)
MAX_ACTIVE = Family("meshlib_attempts_allowed", "http2MaxRequests, where it is set.", CLUSTER)
RETRIES = Family("meshlib_retries_total", "Retries that were made.", CLUSTER)
RETRIES_ACTIVE = Family("meshlib_retries_active", "Retries under way.", CLUSTER)
MAX_RETRIES = Family(
    "meshlib_retries_allowed", "Retries that may be under way: maxRetries, or what retryBudget allows now.", CLUSTER
)
OVERFLOWS = Family(
    "meshlib_overflows_total",
    "Calls (and retries) that a limit of the connection pool refused: requests, pending, retries.",
    (*CLUSTER, "limit"),
)
NO_ENDPOINT = Family("meshlib_no_endpoint_total", "Calls that found no usable endpoint (flag UH).", CLUSTER)
CONNECTIONS = Family(
    "meshlib_connections",
    "Connections of HTTP clients: busy (a call is on it) and idle. grpcio's own are not known.",
    (*CLUSTER, "state"),
)
MAX_CONNECTIONS = Family("meshlib_connections_allowed", "maxConnections, where it is set.", CLUSTER)
PENDING = Family("meshlib_pending", "Calls that stand in line for a connection.", CLUSTER)
MAX_PENDING = Family("meshlib_pending_allowed", "http1MaxPendingRequests, where it is set.", CLUSTER)
ENDPOINTS = Family("meshlib_endpoints", "Endpoints of the cluster.", CLUSTER)
HEALTHY = Family("meshlib_endpoints_healthy", "Endpoints that discovery says are ready.", CLUSTER)
USABLE = Family("meshlib_endpoints_usable", "Endpoints that calls may go to.", CLUSTER)
EJECTED = Family("meshlib_endpoints_ejected", "Endpoints that outlier detection has ejected.", CLUSTER)
EJECTIONS = Family("meshlib_ejections_total", "Ejections by outlier detection, by their reason.", (*CLUSTER, "reason"))

BREAKER = Family(
    "meshlib_circuit_breaker_state", "1 for the state that the circuit breaker is in, else 0.", ("service", "state")
)
CALLS = Family("meshlib_service_calls_active", "Calls under way to a service with a ResiliencePolicy.", ("service",))
BULKHEAD = Family("meshlib_bulkhead_calls", "Calls in the bulkhead, and those that wait for it.", ("service", "state"))
CONCURRENCY = Family("meshlib_concurrency_limit", "The limit that adaptiveConcurrency has found.", ("service",))
BUDGET = Family("meshlib_retry_budget_used", "Retries of the last ten seconds, for a retryBudget.", ("service",))
MAX_BUDGET = Family("meshlib_retry_budget_allowed", "Retries that the retryBudget allows in ten seconds.", ("service",))

EXPIRY = Family(
    "meshlib_certificate_expiration_timestamp_seconds",
    "When the certificate of this workload expires; seconds since the epoch.",
    ("identity",),
)
ROTATIONS = Family("meshlib_certificate_rotations_total", "Certificates that replaced another one.", ("identity",))
READY = Family("meshlib_certificate_ready", "1 if there is a certificate that is valid now, else 0.")
TRUST = Family(
    "meshlib_trust_expiration_timestamp_seconds",
    "When the last root of a trust domain expires, and its peers are trusted no more; seconds since the epoch.",
    ("trust_domain",),
)

FAILURES = Family(
    "meshlib_telemetry_failures_total", "What could not be recorded in metrics, spans or the access log, or read."
)
DROPPED = Family(
    "meshlib_telemetry_dropped_total", "What telemetry had to drop, by kind; no call has waited for it.", ("kind",)
)

FAMILIES = tuple(each for each in list(globals().values()) if isinstance(each, Family))


Extra = Iterable[tuple[tuple[str, ...], float]]
"""Values of the labels that follow a cluster's, and a number."""


def _number(of: Callable[[ClusterNumbers], float | None]) -> Callable[[ClusterNumbers, Pool | None], Extra]:
    def extra(cluster: ClusterNumbers, pool: Pool | None) -> Extra:
        number = of(cluster)
        return () if number is None else (((), number),)

    return extra


def _endpoints(of: Callable[[EndpointNumbers], int]) -> Callable[[ClusterNumbers, Pool | None], Extra]:
    return _number(lambda cluster: None if cluster.endpoints is None else of(cluster.endpoints))


OF_CLUSTER: Mapping[Family, Callable[[ClusterNumbers, Pool | None], Extra]] = {
    ATTEMPTS: lambda cluster, _: [((result,), count) for result, count in cluster.attempts.items()],
    ACTIVE: _number(lambda cluster: cluster.active),
    MAX_ACTIVE: _number(lambda cluster: cluster.max_active),
    RETRIES: _number(lambda cluster: cluster.retries),
    RETRIES_ACTIVE: _number(lambda cluster: cluster.retries_active),
    MAX_RETRIES: _number(lambda cluster: cluster.max_retries),
    OVERFLOWS: lambda cluster, _: [((limit,), cluster.overflows.get(limit, 0)) for limit in LIMITS],
    NO_ENDPOINT: _number(lambda cluster: cluster.no_endpoint),
    CONNECTIONS: lambda _, pool: () if pool is None else ((("busy",), pool.busy), (("idle",), pool.idle)),
    MAX_CONNECTIONS: _number(lambda cluster: cluster.max_connections),
    PENDING: _number(lambda cluster: cluster.pending),
    MAX_PENDING: _number(lambda cluster: cluster.max_pending),
    ENDPOINTS: _endpoints(lambda endpoints: endpoints.known),
    HEALTHY: _endpoints(lambda endpoints: endpoints.healthy),
    USABLE: _endpoints(lambda endpoints: endpoints.usable),
    EJECTED: _endpoints(lambda endpoints: endpoints.ejected),
    EJECTIONS: lambda cluster, _: [((reason,), count) for reason, count in cluster.ejections.items()],
}
"""Families with a series (or some) for each cluster: of these there may be thousands, and they are read one by one."""


def samples(numbers: MeshNumbers) -> Iterator[Sample]:
    """All of one mesh."""
    yield from own_samples(numbers)
    for family in OF_CLUSTER:
        for values, number in cluster_rows(family, numbers):
            yield family, values, number


def cluster_rows(family: Family, numbers: MeshNumbers) -> Iterator[tuple[tuple[str, ...], float]]:
    """Those of one of ``OF_CLUSTER``: labels without the owner's, and a number."""
    extra, pools = OF_CLUSTER[family], numbers.pools
    for cluster in numbers.clusters:
        for values, number in extra(cluster, pools.get(cluster.key)):
            yield (cluster.service, cluster.subset, str(cluster.port), *values), number


def own_samples(numbers: MeshNumbers) -> Iterator[Sample]:
    """Those that are not a cluster's: few."""
    if numbers.config is not None:
        yield from _config(numbers.config)
    for guard in numbers.guards:
        yield from _guard(guard)
    if numbers.certificate is not None:
        yield from _certificate(numbers.certificate)
    yield FAILURES, (), numbers.failures
    for kind, count in numbers.dropped.items():
        yield DROPPED, (kind,), count


def _config(config: ConfigNumbers) -> Iterator[Sample]:
    yield CONFIG_INFO, (config.version,), 1
    yield CONFIG_AGE, (), config.age
    yield CONFIG_SUCCESS, (), config.succeeded
    yield CONFIG_RESOURCES, (), config.resources
    for result, count in config.reloads.items():
        yield CONFIG_RELOADS, (result,), count
    for severity, count in config.problems.items():
        yield CONFIG_PROBLEMS, (severity,), count


def _guard(guard: GuardNumbers) -> Iterator[Sample]:
    service = guard.service
    yield CALLS, (service,), guard.active
    if guard.breaker:
        for state in BREAKER_STATES:
            yield BREAKER, (service, state), float(guard.breaker == state)
    if guard.bulkhead is not None:
        yield BULKHEAD, (service, "in"), guard.bulkhead[0]
        yield BULKHEAD, (service, "waiting"), guard.bulkhead[1]
    if guard.budget is not None:
        yield BUDGET, (service,), guard.budget[0]
        yield MAX_BUDGET, (service,), guard.budget[1]
    if guard.concurrency is not None:
        yield CONCURRENCY, (service,), guard.concurrency


def _certificate(certificate: CertificateNumbers) -> Iterator[Sample]:
    yield READY, (), float(certificate.ready)
    if certificate.identity:
        yield EXPIRY, (certificate.identity,), certificate.not_after
        yield ROTATIONS, (certificate.identity,), certificate.rotations
    for trust_domain, expires in certificate.trust.items():
        yield TRUST, (trust_domain,), expires


# -- in a registry --------------------------------------------------------------------------------------------------------


class StateCollector:
    """Shows the meshes of a registry. If the state of one cannot be read, which is counted and in the log
    once, the others, and the rest of the scrape, are as they would be."""

    def __init__(self, families: Iterable[Family] = FAMILIES) -> None:
        self._families = tuple(families)
        self._meshes: list[weakref.ref[Observed]] = []
        self.writer: object | None = None  # what writes this state to files: ``written_state.writer_of``

    def add(self, mesh: Observed) -> None:
        """Show it as long as it lives."""
        self._meshes = [ref for ref in self._meshes if ref() is not None]
        self._meshes.append(weakref.ref(mesh))

    def remove(self, mesh: Observed) -> None:
        """It is closed: its series end."""
        self._meshes = [ref for ref in self._meshes if ref() is not None and ref() is not mesh]

    def describe(self) -> Iterable[Metric]:
        """The families, without samples."""
        return [_metric(family) for family in self._families]

    def collect(self) -> Iterable[Metric]:
        """As of now: read at once, and rendered series by series. Families without one are left out."""
        from meshlib.telemetry.state_family import StateFamily, chained

        read = [(owner, numbers, list(own_samples(numbers))) for owner, numbers in self._numbers()]
        for family in self._families:
            rows = chained(_rows(family, owner, numbers, own) for owner, numbers, own in read)
            names = (*OWNER, *family.labels)
            made = StateFamily(family.name, family.documentation, "counter" if family.counts else "gauge", names, rows)
            if made.has_rows:
                yield made

    def samples(self) -> Iterator[tuple[tuple[str, ...], Sample]]:
        """All, each with its owner."""
        for owner, numbers in self._numbers():
            for sample in samples(numbers):
                yield owner, sample

    def _numbers(self) -> Iterator[tuple[tuple[str, ...], MeshNumbers]]:
        seen: dict[tuple[str, str], int] = {}
        for ref in list(self._meshes):
            mesh = ref()
            if mesh is None:
                continue
            name = cleaned(mesh.workload.name), cleaned(mesh.workload.namespace)
            number = seen[name] = seen.get(name, 0) + 1
            try:
                numbers = mesh.numbers()
            except Exception:
                mesh.unread += 1
                if mesh.unread == 1:
                    log.exception(
                        "the state of a mesh could not be read for metrics; further failures are only counted"
                    )
                numbers = MeshNumbers(failures=mesh.unread)
            yield (*name, "" if number == 1 else str(number)), numbers


def _rows(family: Family, owner: tuple[str, ...], numbers: MeshNumbers, own: Sequence[Sample]) -> Rows:
    if family in OF_CLUSTER:
        return lambda: (((*owner, *values), number) for values, number in cluster_rows(family, numbers))
    return lambda: (((*owner, *values), number) for each, values, number in own if each is family)


def _metric(family: Family) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    made = CounterMetricFamily if family.counts else GaugeMetricFamily
    return made(family.name, family.documentation, labels=(*OWNER, *family.labels))


_collectors = collectors(StateCollector)


def state_collector(registry: CollectorRegistry | None) -> StateCollector:
    """That of a registry (None: prometheus_client's own), registered with its first mesh. Raises ``MeshError`` when the
    registry refuses it."""
    if registry is None:
        import prometheus_client

        registry = prometheus_client.REGISTRY
    return _collectors(registry)
