"""What the resources ask and Envoy does not do: said when the proxy begins, and when a reload brings more of it, each with
where it is written.

Only what acts on this workload's calls is said. What is about security is none of this: what of that cannot be had, refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING

from meshlib.compiler.resilience import MECHANISMS
from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.compiler.inbound import Inbound
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.resources.base import Resource

CODE = "not-in-envoy"
HINT = "--engine meshlib does it; or take it out"


def differences(
    snapshot: Snapshot,
    resources: Sequence[Resource],
    unreachable: Mapping[str, str],
    ports: Sequence[int] = (),
    *,
    by_pod: Set[str] = frozenset(),
    transparent: bool = False,
    spans: bool = False,
) -> list[Problem]:
    """Each once. ``unreachable``: why no call is made to a cluster, by its name; ``by_pod``: as of ``Configuration``;
    ``ports``: those of the application, by which policies know it; ``transparent``: connections come that are no requests;
    ``spans``: they are sent."""
    by_id = {resource.id: resource for resource in resources}
    said = [
        *_resilience(snapshot, by_id),
        *(() if transparent else _connections(snapshot, by_id)),
        *_telemetry(snapshot, resources, spans=spans),
        *_unreachable(snapshot, by_id, unreachable, by_pod),
        *(each for port in ports for each in _served(snapshot.inbound.of(port), by_id, resources)),
    ]
    return list(dict.fromkeys(said))


def said_of(resource: Resource | None, path: str, message: str, hint: str = HINT) -> Problem:
    """A problem where the resource stands."""
    if resource is None:
        return Problem(CODE, Severity.WARNING, "", 0, 0, path, message, hint)
    origin = resource.origin
    where = f"{resource.id} {path}" if path else resource.id
    return Problem(CODE, Severity.WARNING, origin.file, origin.line, origin.column, where, message, hint)


def _resilience(snapshot: Snapshot, by_id: Mapping[str, Resource]) -> Iterator[Problem]:
    for policy in snapshot.resilience.values():
        resource = by_id.get(policy.resource)
        spec = getattr(resource, "spec", None)
        for attribute, name in MECHANISMS.items():
            if getattr(spec, attribute, None) is not None:
                what = f"calls to {policy.host} go without {name}: Envoy has no field for it"
                yield said_of(resource, f"spec.{name}", what)


def _connections(snapshot: Snapshot, by_id: Mapping[str, Resource]) -> Iterator[Problem]:
    for host in () if snapshot.gateway else snapshot.l4.values():
        for rules, kind in ((host.tls, "tls"), (host.tcp, "tcp")):
            if rules:
                what = f"{kind} rules of {host.host} port {host.port} are for CONNECT, which Envoy does not take here (404)"
                yield said_of(by_id.get(host.resource), f"spec.{kind}", what)


def _telemetry(snapshot: Snapshot, resources: Iterable[Resource], *, spans: bool) -> Iterator[Problem]:
    counting = set(snapshot.telemetry.resources)
    for resource in resources:
        if resource.kind != "Telemetry" or f"{resource.namespace}/{resource.name}" not in counting:
            continue
        spec = getattr(resource, "spec", None)
        for attribute, name, instead in (
            ("metrics", "metrics", "Envoy counts by its own names (/stats/prometheus), not Istio's"),
            ("tracing", "tracing", "" if spans else "no spans are sent: --otlp says where to"),
            ("access_logging", "accessLogging", "not handed on: MESHLIB_ACCESS_LOG has Envoy write all requests down"),
        ):
            if instead and getattr(spec, attribute, None):
                yield said_of(resource, f"spec.{name}", instead)


def _served(inbound: Inbound, by_id: Mapping[str, Resource], resources: Iterable[Resource]) -> Iterator[Problem]:
    """Of requests to the application."""
    if inbound.protection is not None:
        named = inbound.protection.resource
        resource = by_id.get(named) or by_id.get(f"ResiliencePolicy/{named}")
        yield said_of(resource, "spec.inbound", "requests are served without it: Envoy has no field for it")
    if inbound.faults or inbound.limits.local or inbound.limits.shared:
        for resource in resources:
            if resource.kind == "EnvoyFilter":
                yield said_of(resource, "", "EnvoyFilters are not handed on to this Envoy: no fault, no rate limit")
    for policy in inbound.authorization.policies if inbound.authorization is not None else ():
        if policy.action == "AUDIT":
            yield said_of(by_id.get(f"AuthorizationPolicy/{policy.id}"), "spec.action", "AUDIT is not written down")


def _unreachable(
    snapshot: Snapshot, by_id: Mapping[str, Resource], unreachable: Mapping[str, str], by_pod: Set[str]
) -> Iterator[Problem]:
    for key, why in unreachable.items():
        cluster = snapshot.clusters.get(key)
        resource = None if cluster is None else by_id.get(cluster.destination_rule)
        but = " but at the addresses of its endpoints" if key in by_pod else ""
        what = f"no call is made to {key}{but}: {why}"
        yield said_of(resource, "", what, "calls get 503 (flag UH) until that is mended")
