"""What ``meshlib proxy --check`` would say of the Gateways among resources, whoever serves them: each is compiled as that
of a workload that it selects, together with all others that select it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.compiler.compilation import Compilation
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.compiler.kinds import Kinds
from meshlib.compiler.mesh_settings import INGRESS_GATEWAY, ISTIO_SYSTEM, mesh_settings
from meshlib.problems import Problem, Severity
from meshlib.registry.build import build_registry
from meshlib.resources.typed import DEPLOYMENT, GATEWAY, INGRESS, POD, SECRET
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.registry.registry import Registry
    from meshlib.resources.base import Resource

MOST = 10
"""Workloads that are looked at: each is a compilation."""
DOMAIN = "cluster.local"

Labels = Mapping[str, str]


def gateway_problems(resources: Sequence[Resource]) -> list[Problem]:
    """Each once. That a Secret is missing is a notice where there are none at all: few keep them beside their routes."""
    selectors = list(_selectors(resources))
    found: dict[Problem, None] = {}
    registries: dict[str, Registry] = {}
    for selector in selectors[:MOST]:
        workload = _workload(selector, resources)
        namespace = workload.namespace
        if namespace not in registries:
            registries[namespace] = build_registry(resources, DOMAIN, namespace)
        made = Compilation(resources, registries[namespace], workload, DOMAIN, "mesh", GatewayChoice())
        found.update(dict.fromkeys(made.about_gateways()))
    if len(selectors) > MOST:
        found[_more(len(selectors) - MOST, resources)] = None
    secrets = any(SECRET.is_kind_of(each) for each in resources)
    return [each if secrets or each.code != "certificate-missing" else _less(each) for each in found]


def _selectors(resources: Sequence[Resource]) -> Iterator[Labels]:
    """Of all Gateways, each once; of Ingresses, where there are some."""
    seen: set[frozenset[tuple[str, str]]] = set()
    for gateway in GATEWAY.among(resources):
        selector = gateway.spec.selector or {}
        key = frozenset(selector.items())
        if key not in seen:
            seen.add(key)
            yield selector
    if any(INGRESS.is_kind_of(each) for each in resources):
        label = _ingress_label(resources)
        if frozenset({("istio", label)}) not in seen:
            yield {"istio": label}


def _ingress_label(resources: Sequence[Resource]) -> str:
    kinds = Kinds(resources)
    settings, _ = mesh_settings(kinds.mesh_configs, kinds.mesh_config_maps, Workload("gateway"))
    return settings.ingress.label


def _workload(selector: Labels, resources: Iterable[Resource]) -> Workload:
    """One that has these labels, as a Pod or Deployment among the resources does; else one that would."""
    for resource in resources:
        labels: Labels = {}
        if POD.is_kind_of(resource):
            labels = resource.labels
        elif DEPLOYMENT.is_kind_of(resource):
            template = resource.spec.template
            labels = (template.metadata.labels or {}) if template is not None and template.metadata is not None else {}
        if labels and selector.items() <= labels.items():
            return Workload(resource.name, namespace=resource.namespace, labels=dict(labels))
    return Workload("gateway", namespace=_namespace(selector, resources), labels=dict(selector))


def _namespace(selector: Labels, resources: Iterable[Resource]) -> str:
    """Istio's own ingress gateway is in its own namespace; of others it is taken that they are where their Gateway is."""
    if selector == {"istio": INGRESS_GATEWAY}:
        return ISTIO_SYSTEM
    found = [each.namespace for each in GATEWAY.among(resources) if (each.spec.selector or {}) == selector]
    return found[0] if found else ISTIO_SYSTEM


def _less(problem: Problem) -> Problem:
    return replace(problem, severity=Severity.NOTICE)


def _more(count: int, resources: Sequence[Resource]) -> Problem:
    first = next(iter(GATEWAY.among(resources)))
    return Problem(
        "gateways-not-checked",
        Severity.NOTICE,
        first.origin.file,
        first.origin.line,
        first.origin.column,
        "",
        f"Gateways with {count} more selectors are not checked together: {MOST} are",
        "meshlib proxy --config ... --gateways --labels ... --check looks at those of one workload",
    )
