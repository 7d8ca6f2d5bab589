"""What a cluster says in a resource's status about a policy that it did not take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from meshlib.analysis.codes import NEGATIVE_CONDITION
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.index import GATEWAY_API, Index
from meshlib.pace import take_turns
from meshlib.resources.typed import AUTHORIZATION_POLICY, SERVICE_ENTRY, WORKLOAD_ENTRY

if TYPE_CHECKING:
    from meshlib.analysis.finding import Subject
    from meshlib.resources.authorization_policy import AuthorizationPolicy
    from meshlib.resources.service_entry import ServiceEntry
    from meshlib.resources.workload import WorkloadEntry

_BOUND = frozenset({"istio.io/WaypointBound"})
_ACCEPTED = frozenset({"ZtunnelAccepted", "WaypointAccepted"})
_ROUTE = frozenset({"Accepted", "Programmed", "ResolvedRefs"})
_GATEWAY_API = {"Gateway": _ROUTE, "HTTPRoute": _ROUTE, "GRPCRoute": _ROUTE}


def negative(index: Index) -> Iterator[Finding]:
    """Conditions that are False; of AuthorizationPolicies also those that a waypoint has taken in part."""
    told: list[tuple[ServiceEntry | WorkloadEntry | AuthorizationPolicy, frozenset[str]]] = [
        *((entry, _BOUND) for entry in index.analyzed(SERVICE_ENTRY)),
        *((entry, _BOUND) for entry in index.analyzed(WORKLOAD_ENTRY)),
        *((policy, _ACCEPTED) for policy in index.analyzed(AUTHORIZATION_POLICY)),
    ]
    for resource, types in told:
        take_turns()
        yield from _of(resource, resource.status, ("status", "conditions"), types)
    for kind, types in _GATEWAY_API.items():
        for other in index.others(kind, GATEWAY_API):
            status = other.value.get("status")
            yield from _of(other, status, ("status", "conditions"), types)
            parents = status.get("parents") if isinstance(status, Mapping) else None
            for position, parent in enumerate(parents if isinstance(parents, list) else ()):
                yield from _of(other, parent, ("status", "parents", position, "conditions"), types)


def _of(resource: Subject, status: object, loc: Loc, types: frozenset[str]) -> Iterator[Finding]:
    conditions = status.get("conditions") if isinstance(status, Mapping) else None
    for position, condition in enumerate(conditions if isinstance(conditions, list) else ()):
        if not isinstance(condition, Mapping):
            continue
        kind, reason = str(condition.get("type")), condition.get("reason")
        in_part = kind == "WaypointAccepted" and reason == "PartiallyInvalid" and types is _ACCEPTED
        if (kind in types and condition.get("status") == "False") or in_part:
            message = f"the cluster reports {kind}: {reason or 'False'}: {condition.get('message') or ''}".rstrip(": ")
            yield Finding(NEGATIVE_CONDITION, resource, (*loc, position), message, "")
