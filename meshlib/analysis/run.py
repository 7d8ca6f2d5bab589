"""All analyzers, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.analysis import (
    claims,
    conditions,
    deprecated,
    destination_tls,
    destinations,
    envoy_filters,
    gateway_conflicts,
    gateway_hosts,
    gateway_secrets,
    gateways,
    mesh_hosts,
    namespaces,
    selectors,
    service_entries,
    service_ports,
    subsets,
    telemetry,
    unreachable,
)
from meshlib.analysis.finding import Finding
from meshlib.analysis.index import Index
from meshlib.analysis.mesh_config import MeshConfig
from meshlib.resources.load_result import Other

if TYPE_CHECKING:
    from meshlib.analysis.codes import Code
    from meshlib.analysis.finding import Loc
    from meshlib.resources.base import Resource

Analyzer = Callable[[Index], Iterator[Finding]]
"""A pure function: what it finds depends on the index alone."""

ANALYZERS: tuple[Analyzer, ...] = (
    destinations.hosts_and_ports,
    destinations.ingress_rules,
    destinations.delegates,
    subsets.named_subsets,
    subsets.rules,
    gateway_hosts.bound_gateways,
    mesh_hosts.conflicting_hosts,
    unreachable.unreachable,
    claims.routes_by_claims,
    destination_tls.unverified_servers,
    gateways.workloads_and_ports,
    gateway_conflicts.conflicts,
    gateway_secrets.secrets,
    gateway_secrets.shared_certificates,
    selectors.sidecars,
    selectors.telemetries,
    selectors.selectors_of_kubernetes_gateways,
    selectors.authorization_policies,
    telemetry.providers,
    namespaces.exported_to,
    namespaces.sources_of_policies,
    service_ports.port_names,
    service_ports.shared_workloads,
    service_entries.addresses,
    service_entries.protocols,
    envoy_filters.patches,
    deprecated.deprecated,
    conditions.negative,
)

SUPPRESS = "galley.istio.io/analyze-suppress"
"""The annotation of a resource that names the codes that are not to be given about it, or ``*``."""


def analyze(
    resources: Sequence[Resource], others: Sequence[Other] = (), mesh_config: MeshConfig | None = None
) -> list[Finding]:
    """What is to be said about the resources together, less what their own annotation suppresses. ``resources`` should
    include those with errors (``LoadResult.broken``); ``others`` are the documents without a model;
    ``mesh_config`` is else that of a ConfigMap among them, or Istio's default."""
    index = Index(resources, others, mesh_config)
    seen: set[tuple[Code, int, Loc, str]] = set()
    found: list[Finding] = []
    for analyzer in ANALYZERS:
        for finding in analyzer(index):
            key = (finding.code, id(finding.resource), finding.loc, finding.message)
            if key not in seen and not _suppressed(finding):
                seen.add(key)
                found.append(finding)
    return found


def _suppressed(finding: Finding) -> bool:
    codes = [code.strip() for code in finding.resource.annotations.get(SUPPRESS, "").split(",")]
    return "*" in codes or finding.code.id in codes
