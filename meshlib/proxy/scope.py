"""Which resources of a folder are for other workloads: a policy that selects none of ours protects nothing here, and whoever
forgot ``--labels`` should hear of it before a request is let through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.workload import Workload

SELECTED = frozenset(["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication", "Sidecar", "Telemetry"])
FEW = 5
"""Resources that are named; the others are counted."""


def labels_selected(resource: Resource) -> Mapping[str, str] | None:
    """The labels that a resource selects workloads by; None: it selects all of its namespace."""
    spec = getattr(resource, "spec", None)
    selector = getattr(spec, "selector", None) or getattr(spec, "workload_selector", None)
    if selector is None:
        return None
    return getattr(selector, "match_labels", None) or getattr(selector, "labels", None)


def for_others(resources: Iterable[Resource], workload: Workload) -> list[Resource]:
    """Those of our namespace that select workloads with labels which ours has not."""
    return [
        resource
        for resource in resources
        if resource.kind in SELECTED
        and resource.namespace == workload.namespace
        and (labels := labels_selected(resource))
        and any(workload.labels.get(name) != value for name, value in labels.items())
    ]


def about_others(resources: Sequence[Resource], workload: Workload) -> list[str]:
    """Sentences about them, with the remedy where labels may be missing."""
    found = for_others(resources, workload)
    if not found:
        return []
    named = ", ".join(f"{each.id} ({_text(labels_selected(each) or {})})" for each in found[:FEW])
    more = f" and {len(found) - FEW} more" if len(found) > FEW else ""
    ours = _text(workload.labels) or "none"
    remedy = "" if workload.labels else ": if they are for this one, give --labels, or MESHLIB_LABELS"
    return [f"for other workloads, without effect in this proxy, whose labels are {ours}: {named}{more}{remedy}"]


def _text(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())
