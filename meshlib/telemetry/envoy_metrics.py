"""The statistics of Envoy's clusters that people have alerts on, by the names and labels that a sidecar's /stats/prometheus has
under Istio. An option, off by default: what they say, ``meshlib_*`` says too, and better.

``cluster_name`` is Envoy's name of a cluster (``outbound|9080|v1|reviews.default.svc.cluster.local``), whole, also of hosts
outside the cluster, where Istio's rule cuts it at the first dot. Meshes that share a registry are added up, as there is no
label to tell them apart. Envoy's counters have no ``_total``, which prometheus_client has no type for: they are untyped, which
no query sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from meshlib.engine.tally import CONNECT_FAILED, PENDING, REQUESTS, RETRIES
from meshlib.policy.circuit_limits import UNLIMITED
from meshlib.telemetry.families import collectors
from meshlib.telemetry.mesh_metrics import Family, Sample, StateCollector

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

    from meshlib.engine.numbers import ClusterNumbers, EndpointNumbers
    from meshlib.telemetry.mesh_numbers import MeshNumbers, Pool
    from meshlib.telemetry.written_state import Mode

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
BY_CODE = Family("envoy_cluster_upstream_rq", "As Envoy has it.", ("response_code", *NAME))
BY_CLASS = Family("envoy_cluster_upstream_rq", "As Envoy has it.", ("response_code_class", *NAME))
"""Calls by the status that they ended with."""
OF_NAME = {name: Family(f"envoy_cluster_{name}", "As Envoy has it.", NAME) for name in sorted(GAUGES | COUNTERS)}

Of = Callable[["ClusterNumbers", "Pool | None"], "float | None"]


def _connections(pool: Pool | None) -> int:
    return 0 if pool is None else pool.busy + pool.idle


def _endpoints(of: Callable[[EndpointNumbers], int]) -> Of:
    return lambda cluster, _: None if cluster.endpoints is None else of(cluster.endpoints)


def _ejected_for(words: str) -> Of:
    return lambda cluster, _: cluster.ejections.get(words, 0)


LEFT: Mapping[str, tuple[str, Of]] = {
    "cx": ("cx", lambda cluster, pool: _left(cluster.max_connections, _connections(pool))),
    "pending": ("rq_pending", lambda cluster, _: _left(cluster.max_pending, cluster.pending)),
    "retries": ("rq_retry", lambda cluster, _: _left(cluster.max_retries, cluster.retries_active)),
    "rq": ("rq", lambda cluster, _: _left(cluster.max_active, cluster.active)),
}
"""What a limit leaves, and how Envoy names it when that is nothing."""


def _left(limit: int | None, used: int) -> int:
    return max(0, (UNLIMITED if limit is None else limit) - used)


def _none_of(left: Of) -> Of:
    return lambda cluster, pool: float(left(cluster, pool) == 0)


OF_CLUSTER: Mapping[str, Of] = {
    "upstream_rq_total": lambda cluster, _: sum(cluster.attempts.values()) + cluster.active,
    "upstream_rq_active": lambda cluster, _: cluster.active,
    "upstream_rq_pending_active": lambda cluster, _: cluster.pending,
    "upstream_rq_pending_overflow": lambda cluster, _: (
        cluster.overflows.get(REQUESTS, 0) + cluster.overflows.get(PENDING, 0)
    ),
    "upstream_rq_retry": lambda cluster, _: cluster.retries,
    "upstream_rq_retry_overflow": lambda cluster, _: cluster.overflows.get(RETRIES, 0),
    "upstream_cx_active": lambda _, pool: _connections(pool),
    "upstream_cx_connect_fail": lambda cluster, _: cluster.attempts.get(CONNECT_FAILED, 0),
    "upstream_cx_none_healthy": lambda cluster, _: cluster.no_endpoint,
    "outlier_detection_ejections_enforced_total": lambda cluster, _: sum(cluster.ejections.values()),
    **{f"outlier_detection_ejections_enforced_{reason}": _ejected_for(words) for words, reason in EJECTIONS.items()},
    **{f"circuit_breakers_default_remaining_{name}": left for name, (_, left) in LEFT.items()},
    **{f"circuit_breakers_default_{opened}_open": _none_of(left) for opened, left in LEFT.values()},
    "membership_total": _endpoints(lambda endpoints: endpoints.known),
    "membership_healthy": _endpoints(lambda endpoints: endpoints.usable),
    "outlier_detection_ejections_active": _endpoints(lambda endpoints: endpoints.ejected),
}
"""One number of a cluster for each name: of clusters there may be thousands, and no scrape has all names of all of them at
once."""

Rows = list[tuple[tuple[str, ...], float]]


def _of_name(name: str, read: Sequence[MeshNumbers]) -> Rows:
    """A name's numbers by cluster, added up over meshes."""
    of, added = OF_CLUSTER[name], dict[str, float]()
    for numbers in read:
        pools = numbers.pools
        for cluster in numbers.clusters:
            number = of(cluster, pools.get(cluster.key))
            if number is not None:
                added[cluster.key] = added.get(cluster.key, 0) + number
    return [((key,), number) for key, number in added.items()]


def _of_codes(read: Sequence[MeshNumbers]) -> list[tuple[Family, Rows]]:
    """Calls by status and by its class, added up over meshes."""
    codes, classes = dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
    for numbers in read:
        for (key, status), count in numbers.codes.items():
            for added, shown in ((codes, str(status)), (classes, f"{status // 100}xx")):
                added[shown, key] = added.get((shown, key), 0) + count
    return [(BY_CODE, [*codes.items()]), (BY_CLASS, [*classes.items()])]


class EnvoyCollector(StateCollector):
    """Shows the meshes of a registry that were asked to. See ``StateCollector``."""

    def __init__(self) -> None:
        super().__init__((BY_CODE, BY_CLASS, *OF_NAME.values()))

    def describe(self) -> Iterable[Metric]:
        """The families, without samples."""
        from prometheus_client import Metric

        return [Metric(name, "As Envoy has it.", _kind(name)) for name in dict.fromkeys(f.name for f in self._families)]

    def collect(self) -> Iterable[Metric]:
        """As of now: read at once, and put into families one by one."""
        from meshlib.telemetry.state_family import StateFamily

        read = [numbers for _, numbers in self._numbers()]
        codes = _of_codes(read)
        for name, family in OF_NAME.items():
            made = StateFamily(
                family.name, family.documentation, _kind(family.name), NAME, partial(_of_name, name, read)
            )
            if made.has_rows:
                yield made
        (first, rows), (second, others) = codes
        if rows:
            more = [(second.labels, lambda: others)]
            yield StateFamily(first.name, first.documentation, _kind(first.name), first.labels, lambda: rows, more)

    def samples(self) -> Iterator[tuple[tuple[str, ...], Sample]]:
        """All, added up: they have no owner."""
        read = [numbers for _, numbers in self._numbers()]
        for name, family in OF_NAME.items():
            for values, number in _of_name(name, read):
                yield (), (family, values, number)
        for family, rows in _of_codes(read):
            for values, number in rows:
                yield (), (family, values, number)


def mode_of(family: Family) -> Mode:
    """How the numbers of several processes become one, where they are written to files."""
    name = family.name.removeprefix("envoy_cluster_")
    if name not in GAUGES:
        return "sum"
    if name.endswith("_active") and name.startswith("upstream"):
        return "livesum"
    return "livemin" if name == "membership_healthy" or "_remaining_" in name else "livemax"


def _kind(name: str) -> str:
    return "gauge" if name.removeprefix("envoy_cluster_") in GAUGES else "unknown"


_collectors = collectors(EnvoyCollector)


def envoy_collector(registry: CollectorRegistry | None) -> EnvoyCollector:
    """That of a registry (None: prometheus_client's own), registered with the first mesh that asks for it. Raises ``MeshError``
    when the registry refuses it."""
    if registry is None:
        import prometheus_client

        registry = prometheus_client.REGISTRY
    return _collectors(registry)
