"""``/clusters``: every cluster with its endpoints, as Envoy's admin page of that name has it, as text or JSON.

A count stands under Envoy's name where it means the same; what meshlib does not count is left out, not zero. Clusters that no
call has used have no counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from meshlib.admin.page import JSON, TEXT, Page, json_list
from meshlib.registry.service import Endpoint
from meshlib.telemetry.endpoint_counts import EndpointCount, EndpointCounts

if TYPE_CHECKING:
    from meshlib.admin.seen import Seen
    from meshlib.compiler.routes import Cluster
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.live import Live
    from meshlib.policy.endpoint import EndpointState

HEALTHY = "healthy"
Value = str | int | float
Facts = dict[str, Value]


def clusters_page(seen: Seen, *, as_json: bool, beside: Iterable[Live] = ()) -> Page:
    """Of the snapshot in force, and of those ``beside`` it; empty once the mesh is closed."""
    counts = seen.recent.endpoints
    lives = () if seen.core.live is None else (seen.core.live, *beside)
    seen.core.telemetry.catch_up()
    if as_json:
        statuses = (cluster_status(live, spec, counts) for live in lives for spec in _specs(live))
        return Page(json_list('{"cluster_statuses": [', statuses, "]}\n"), JSON)
    return Page((text for live in lives for text in _texts(live, counts)), TEXT)


def _specs(live: Live) -> Iterator[Cluster]:
    yield from live.snapshot.clusters.values()


def _hosts(live: Live, spec: Cluster) -> Iterator[tuple[str, Endpoint | None, EndpointState | None]]:
    bound = live.bound.get(spec.key)
    if bound is None:
        for endpoint in spec.endpoints:
            yield endpoint.key, endpoint, None
        return
    members = bound.endpoints if spec.resolution != "passthrough" else tuple(bound.state.endpoints.values())
    for state in members:
        found = state.endpoint
        yield state.key, found if isinstance(found, Endpoint) else None, state


def _counts(cluster: str, state: EndpointState | None, counts: EndpointCounts) -> Facts:
    if state is None:
        return {}
    found = counts.of(cluster, state.key) or EndpointCount()
    return {"rq_active": state.active, **found.facts()}


def _flags(endpoint: Endpoint | None, state: EndpointState | None) -> list[str]:
    if state is None:
        return [] if endpoint is None or endpoint.healthy else ["failed_eds_health"]
    flags = []
    if state.ejected:
        flags.append("failed_outlier_check")
    if not state.healthy:
        flags.append("failed_eds_health")
    if not state.serving:
        flags.append("failed_active_hc")
    if not state.reachable:
        flags.append("unreachable")
    return flags


def _limits(spec: Cluster) -> Facts:
    limits = spec.limits
    return {
        "max_connections": limits.max_connections,
        "max_pending_requests": limits.http1_max_pending_requests,
        "max_requests": limits.http2_max_requests,
        "max_retries": limits.max_retries,
    }


def _place(locality: str) -> Facts:
    region, _, rest = locality.partition("/")
    zone, _, sub_zone = rest.partition("/")
    return {"region": region, "zone": zone, "sub_zone": sub_zone}


def _facts(bound: BoundCluster | None, endpoint: Endpoint | None, state: EndpointState | None) -> Facts:
    facts: Facts = {"weight": 1, "priority": 0, "hostname": "", **_place("")}
    if endpoint is not None:
        facts |= {"weight": endpoint.weight, "hostname": endpoint.hostname, **_place(endpoint.locality)}
    if bound is not None and state is not None:
        facts |= {"weight": round(state.weight, 3), "priority": bound.places.get(state, (0, 0))[0]}
    return facts


def _texts(live: Live, counts: EndpointCounts) -> Iterator[bytes]:
    for spec in _specs(live):
        key, bound = spec.key, live.bound.get(spec.key)
        lines = [f"{key}::observability_name::{key}"]
        lines += [f"{key}::default_priority::{name}::{value}" for name, value in _limits(spec).items()]
        lines += [f"{key}::{name}::{value}" for name, value in _of_cluster(bound).items()]
        for address, endpoint, state in _hosts(live, spec):
            facts = {
                **_counts(key, state, counts),
                "health_flags": "".join(f"/{flag}" for flag in _flags(endpoint, state)) or HEALTHY,
                **_facts(bound, endpoint, state),
            }
            lines += [f"{key}::{address}::{name}::{value}" for name, value in facts.items()]
        yield ("\n".join(lines) + "\n").encode()


def _of_cluster(bound: BoundCluster | None) -> Facts:
    """What is counted of a cluster in use."""
    if bound is None:
        return {}
    state = bound.state
    found: Facts = {
        "rq_total": state.requests,
        "rq_active": state.active,
        "rq_failed": state.failures,
        "rq_retry": state.retries,
        "rq_retry_active": state.retries_active,
    }
    if state.slots is not None:
        found |= {"cx_in_use": state.slots.in_use, "rq_pending": state.slots.pending}
    return found


def cluster_status(live: Live, spec: Cluster, counts: EndpointCounts) -> dict[str, object]:
    """As Envoy's ``ClusterStatus`` in JSON; ``counts`` is ours."""
    bound = live.bound.get(spec.key)
    host_statuses = []
    for address, endpoint, state in _hosts(live, spec):
        facts = _facts(bound, endpoint, state)
        flags = _flags(endpoint, state)
        host_statuses.append(
            {
                "address": _address(address),
                "stats": [
                    {"type": "GAUGE" if name.endswith("_active") else "COUNTER", "name": name, "value": str(number)}
                    for name, number in _counts(spec.key, state, counts).items()
                ],
                "health_status": {
                    "eds_health_status": "UNHEALTHY" if "failed_eds_health" in flags else "HEALTHY",
                    **({"failed_outlier_check": True} if "failed_outlier_check" in flags else {}),
                    **({"failed_active_health_check": True} if "failed_active_hc" in flags else {}),
                },
                "weight": facts["weight"],
                "priority": facts["priority"],
                "hostname": facts["hostname"],
                "locality": {name: facts[name] for name in ("region", "zone", "sub_zone")},
            }
        )
    return {
        "name": spec.key,
        "observability_name": spec.key,
        "circuit_breakers": {"thresholds": [{"priority": "DEFAULT", **_limits(spec)}]},
        "counts": _of_cluster(bound),
        "host_statuses": host_statuses,
    }


def _address(key: str) -> dict[str, object]:
    if key.startswith("unix:"):
        return {"pipe": {"path": key.removeprefix("unix://")}}
    host, _, port = key.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
