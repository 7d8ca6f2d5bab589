"""Sidecars and Telemetries that select the same workloads, or none; policies that select what they do not act on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from meshlib.analysis.codes import (
    INEFFECTIVE_POLICY,
    INEFFECTIVE_SELECTOR,
    NO_WORKLOADS,
    NOT_FOUND,
    SIDECAR_SELECTORS_CONFLICT,
    SIDECARS_WITHOUT_SELECTOR,
    TELEMETRIES_WITHOUT_SELECTOR,
    TELEMETRY_SELECTORS_CONFLICT,
    Code,
)
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.index import Index, Workload, selector_text
from meshlib.analysis.nearest import Nearest, did_you_mean
from meshlib.pace import take_turns
from meshlib.resources.typed import AUTHORIZATION_POLICY, REQUEST_AUTHENTICATION, SIDECAR, TELEMETRY, WASM_PLUGIN

if TYPE_CHECKING:
    from meshlib.resources.authorization_policy import AuthorizationPolicy
    from meshlib.resources.base import Resource
    from meshlib.resources.request_authentication import RequestAuthentication
    from meshlib.resources.sidecar import Sidecar
    from meshlib.resources.telemetry import Telemetry
    from meshlib.resources.typed import Typed
    from meshlib.resources.wasm_plugin import WasmPlugin

R = TypeVar("R", bound="Resource")

_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"


def sidecars(index: Index) -> Iterator[Finding]:
    """Of each namespace: one Sidecar without selector, and one for each workload."""
    yield from _overlapping(
        index,
        SIDECAR,
        _sidecar_labels,
        ("spec", "workloadSelector", "labels"),
        SIDECAR_SELECTORS_CONFLICT,
    )
    for namespace, found in _without_selector(index, SIDECAR, lambda s: not _sidecar_labels(s)).items():
        own = index.namespaces.get(namespace)
        if own is not None and _ambient(own.labels):
            for sidecar in found:
                message = f"namespace {namespace} is in ambient mode: a Sidecar does nothing there"
                yield Finding(INEFFECTIVE_POLICY, sidecar, ("kind",), message, "remove it")
        else:
            yield from _several(found, namespace, "Sidecar", SIDECARS_WITHOUT_SELECTOR, ("spec",), "workloadSelector")


def _sidecar_labels(sidecar: Sidecar) -> Mapping[str, str] | None:
    return sidecar.spec.workload_selector.labels if sidecar.spec.workload_selector is not None else None


def telemetries(index: Index) -> Iterator[Finding]:
    """The same of Telemetries."""
    yield from _overlapping(
        index,
        TELEMETRY,
        lambda t: t.spec.selector.match_labels if t.spec.selector is not None else None,
        ("spec", "selector", "matchLabels"),
        TELEMETRY_SELECTORS_CONFLICT,
    )
    for namespace, found in _without_selector(index, TELEMETRY, lambda t: t.spec.selector is None).items():
        yield from _several(found, namespace, "Telemetry", TELEMETRIES_WITHOUT_SELECTOR, ("spec",), "selector")


def _without_selector(index: Index, typed: Typed[R], lacks: Callable[[R], bool]) -> dict[str, list[R]]:
    found: dict[str, list[R]] = {}
    for resource in index.analyzed(typed):
        if lacks(resource):
            found.setdefault(resource.namespace, []).append(resource)
    return found


def _several(
    found: Sequence[Resource], namespace: str, kind: str, code: Code, loc: Loc, field: str
) -> Iterator[Finding]:
    if len(found) < 2:
        return
    for resource in found:
        others = ", ".join(other.name for other in found if other is not resource)
        message = (
            f"namespace {namespace} has other {kind} resources without {field} ({others}): only one of them can act"
        )
        yield Finding(code, resource, loc, message, f"merge them, or give all but one a {field}")


def _overlapping(
    index: Index, typed: Typed[R], labels_of: Callable[[R], Mapping[str, str] | None], loc: Loc, code: Code
) -> Iterator[Finding]:
    by_workload: dict[Workload, list[R]] = {}
    for resource in index.analyzed(typed):
        take_turns()
        labels = labels_of(resource)
        if not labels:
            continue
        selected = index.workloads.select(labels, resource.namespace)
        for workload in selected:
            by_workload.setdefault(workload, []).append(resource)
        if not selected and index.workloads.all:
            yield Finding(
                NOT_FOUND,
                resource,
                (*loc, sorted(labels)[0]),
                f"no workload of namespace {resource.namespace} has the labels {selector_text(labels)}",
                _selector_hint(index, labels, resource.namespace),
            )
    said: set[tuple[int, int]] = set()
    for workload, found in by_workload.items():
        take_turns()
        if workload.ambient and typed.kind == SIDECAR.kind:
            for resource in found:
                if (id(resource), 0) not in said:
                    said.add((id(resource), 0))
                    message = f"{workload.title} is in ambient mode: a Sidecar does nothing there"
                    yield Finding(INEFFECTIVE_POLICY, resource, loc, message, "remove it")
            continue
        if len(found) < 2:
            continue
        for resource in found:
            others = [other for other in found if other is not resource]
            pair = (id(resource), id(others[0]))
            if pair in said:
                continue  # replicas are selected alike
            said.add(pair)
            names = ", ".join(other.name for other in others)
            message = f"{workload.title} is selected by {names} too: only one of them can act"
            yield Finding(code, resource, loc, message, "make the selectors differ")


def _selector_hint(index: Index, labels: Mapping[str, str], namespace: str) -> str:
    if index.workloads.select(labels):
        where = index.workloads.select(labels)[0].namespace
        return f"there are some in namespace {where}; a selector looks in its own namespace only"
    for key, value in sorted(labels.items()):
        values = sorted({w.labels[key] for w in index.workloads.select({}, namespace) if key in w.labels})
        if value not in values:
            near = Nearest(values).of(value)
            return did_you_mean(f"{key}: {near}") if near else f"{key} is {', '.join(values[:10])}" if values else ""
    return ""


def _ambient(labels: Mapping[str, str]) -> bool:
    if labels.get("istio-injection") == "enabled" or labels.get("istio.io/rev"):
        return False
    return labels.get("istio.io/dataplane-mode") == "ambient"


def selectors_of_kubernetes_gateways(index: Index) -> Iterator[Finding]:
    """Policies for the Pods of a Gateway of the Gateway API, which follow targetRefs and no selector."""
    policies: list[AuthorizationPolicy | RequestAuthentication | Telemetry | WasmPlugin] = [
        *index.analyzed(AUTHORIZATION_POLICY),
        *index.analyzed(REQUEST_AUTHENTICATION),
        *index.analyzed(TELEMETRY),
        *index.analyzed(WASM_PLUGIN),
    ]
    for policy in policies:
        take_turns()
        selector = policy.spec.selector
        if selector is None or policy.spec.target_ref is not None:
            continue
        labels = selector.match_labels or {}
        names = {
            workload.labels[_GATEWAY_NAME]: None
            for workload in index.pods.select(labels, policy.namespace)
            if _GATEWAY_NAME in workload.labels
        }
        for name in names:
            yield Finding(
                INEFFECTIVE_SELECTOR,
                policy,
                ("spec", "selector"),
                f"the selector finds the Pods of the Gateway {name}, on which it has no effect",
                f"targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: {name}}}]",
            )


def authorization_policies(index: Index) -> Iterator[Finding]:
    """AuthorizationPolicies that select no workload."""
    if not index.workloads.all:
        return
    for policy in index.analyzed(AUTHORIZATION_POLICY):
        take_turns()
        selector = policy.spec.selector
        labels = (selector.match_labels or {}) if selector is not None else None
        everywhere = policy.namespace == index.mesh_config.root_namespace
        if everywhere and labels is None:
            continue
        if policy.spec.target_ref is not None or policy.spec.target_refs:
            continue
        if index.workloads.select(labels, None if everywhere else policy.namespace):
            continue
        where = "the mesh" if everywhere else f"namespace {policy.namespace}"
        if labels:
            hint = _selector_hint(index, labels, policy.namespace)
            message = f"no workload of {where} has the labels {selector_text(labels)}"
            yield Finding(NO_WORKLOADS, policy, ("spec", "selector"), message, hint)
        else:
            yield Finding(NO_WORKLOADS, policy, ("metadata", "namespace"), f"{where} has no workloads", "")
