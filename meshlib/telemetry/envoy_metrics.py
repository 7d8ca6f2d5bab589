"""The statistics of Envoy's clusters that people have alerts on, by the names and labels that a sidecar's /stats/prometheus has
under Istio. An option, off by default: what they say, ``meshlib_*`` says too, and better.

``cluster_name`` is Envoy's name of a cluster (``outbound|9080|v1|reviews.default.svc.cluster.local``), whole, also of hosts
outside the cluster, where Istio's rule cuts it at the first dot. Meshes that share a registry are added up, as there is no
label to tell them apart. Envoy's counters have no ``_total``, which prometheus_client has no type for: they are untyped, which
no query sees.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from meshlib.engine.tally import CONNECT_FAILED, PENDING, REQUESTS, RETRIES
from meshlib.policy.circuit_limits import UNLIMITED
from meshlib.telemetry.mesh_metrics import Family, Sample, StateCollector

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

    from meshlib.engine.numbers import ClusterNumbers
    from meshlib.telemetry.mesh_numbers import MeshNumbers, Pool

NAME = ("cluster_name",)
GAUGES = frozenset((
    "circuit_breakers_default_cx_open",
    "circuit_breakers_default_remaining_cx",
    "circuit_breakers_default_remaining_pending",
    "circuit_breakers_default_remaining_retries",
    "circuit_breakers_default_remaining_rq",
    "circuit_breakers_default_rq_open",
    "circuit_breakers_default_rq_pending_open",
    "circuit_breakers_default_rq_retry_open",
    "membership_healthy",
    "membership_total",
    "outlier_detection_ejections_active",
    "upstream_cx_active",
    "upstream_rq_active",
    "upstream_rq_pending_active",
))  # fmt: skip
EJECTIONS = {
    "consecutive 5xx": "consecutive_5xx",
    "consecutive gateway errors": "consecutive_gateway_failure",
    "consecutive local-origin failures": "consecutive_local_origin_failure",
    "failure percentage": "failure_percentage",
    "success rate": "success_rate",
}
"""By our words for what has triggered an ejection."""
COUNTERS = frozenset((
    *(f"outlier_detection_ejections_enforced_{reason}" for reason in EJECTIONS.values()),
    "outlier_detection_ejections_enforced_total",
    "upstream_cx_connect_fail",
    "upstream_cx_none_healthy",
    "upstream_rq_pending_overflow",
    "upstream_rq_retry",
    "upstream_rq_retry_overflow",
    "upstream_rq_total",
))  # fmt: skip
BY_CODE = Family("envoy_cluster_upstream_rq", "Calls by the status that they ended with.", ("response_code", *NAME))
BY_CLASS = Family(
    "envoy_cluster_upstream_rq", "Calls by the status that they ended with.", ("response_code_class", *NAME)
)
OF_NAME = {name: Family(f"envoy_cluster_{name}", "As Envoy has it.", NAME) for name in sorted(GAUGES | COUNTERS)}


def envoy_samples(numbers: MeshNumbers) -> Iterator[Sample]:
    """Of one mesh."""
    for cluster in numbers.clusters:
        for name, number in _numbers(cluster, numbers.pools.get(cluster.key)).items():
            yield OF_NAME[name], (cluster.key,), number
    for (key, status), count in numbers.codes.items():
        yield BY_CODE, (str(status), key), count
        yield BY_CLASS, (f"{status // 100}xx", key), count


def _numbers(cluster: ClusterNumbers, pool: Pool | None) -> Mapping[str, float]:
    connections = 0 if pool is None else pool.busy + pool.idle
    found: dict[str, float] = {
        "upstream_rq_total": sum(cluster.attempts.values()) + cluster.active,
        "upstream_rq_active": cluster.active,
        "upstream_rq_pending_active": cluster.pending,
        "upstream_rq_pending_overflow": cluster.overflows.get(REQUESTS, 0) + cluster.overflows.get(PENDING, 0),
        "upstream_rq_retry": cluster.retries,
        "upstream_rq_retry_overflow": cluster.overflows.get(RETRIES, 0),
        "upstream_cx_active": connections,
        "upstream_cx_connect_fail": cluster.attempts.get(CONNECT_FAILED, 0),
        "upstream_cx_none_healthy": cluster.no_endpoint,
        "outlier_detection_ejections_enforced_total": sum(cluster.ejections.values()),
    }
    for words, reason in EJECTIONS.items():
        found[f"outlier_detection_ejections_enforced_{reason}"] = cluster.ejections.get(words, 0)
    for remaining, opened, limit, used in (
        ("cx", "cx", cluster.max_connections, connections),
        ("pending", "rq_pending", cluster.max_pending, cluster.pending),
        ("retries", "rq_retry", cluster.max_retries, cluster.retries_active),
        ("rq", "rq", cluster.max_active, cluster.active),
    ):
        left = max(0, (UNLIMITED if limit is None else limit) - used)
        found[f"circuit_breakers_default_remaining_{remaining}"] = left
        found[f"circuit_breakers_default_{opened}_open"] = float(left == 0)
    if cluster.endpoints is not None:
        found["membership_total"] = cluster.endpoints.known
        found["membership_healthy"] = cluster.endpoints.usable
        found["outlier_detection_ejections_active"] = cluster.endpoints.ejected
    return found


class EnvoyCollector(StateCollector):
    """Shows the meshes of a registry that were asked to. See ``StateCollector``."""

    def __init__(self) -> None:
        super().__init__((BY_CODE, BY_CLASS, *OF_NAME.values()))

    def describe(self) -> Iterable[Metric]:
        """The families, without samples."""
        return [_family(name, {}) for name in dict.fromkeys(family.name for family in self._families)]

    def collect(self) -> Iterable[Metric]:
        """As of now."""
        added: dict[str, dict[tuple[tuple[str, ...], tuple[str, ...]], float]] = {}
        for _, numbers in self._numbers():
            for family, values, number in envoy_samples(numbers):
                series = added.setdefault(family.name, {})
                key = family.labels, values
                series[key] = series.get(key, 0) + number
        return [_family(name, series) for name, series in added.items()]


def _family(name: str, series: Mapping[tuple[tuple[str, ...], tuple[str, ...]], float]) -> Metric:
    from prometheus_client import Metric

    found = Metric(name, "As Envoy has it.", "gauge" if name.removeprefix("envoy_cluster_") in GAUGES else "unknown")
    for (names, values), number in series.items():
        found.add_sample(name, dict(zip(names, values, strict=True)), number)
    return found


_collectors: weakref.WeakKeyDictionary[CollectorRegistry, EnvoyCollector] = weakref.WeakKeyDictionary()


def envoy_collector(registry: CollectorRegistry | None) -> EnvoyCollector:
    """That of a registry (None: prometheus_client's own), registered with the first mesh that asks for it."""
    if registry is None:
        import prometheus_client

        registry = prometheus_client.REGISTRY
    found = _collectors.get(registry)
    if found is None:
        found = _collectors[registry] = EnvoyCollector()
        registry.register(found)
    return found
