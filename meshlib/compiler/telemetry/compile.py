"""Which Telemetries count for a workload, and all that they come to.

Istio's order, the nearest last: the oldest of the root namespace that selects nothing, the oldest of the workload's namespace
that selects nothing, and every one of that namespace whose selector fits, oldest first. ``targetRefs`` are about gateways and
waypoints: such a Telemetry is not for a workload.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.compiler.telemetry import logs, metrics, tracing
from meshlib.compiler.telemetry.formats import problems_of_formats
from meshlib.compiler.telemetry.providers import providers_of
from meshlib.compiler.telemetry.proxies import proxy_defaults
from meshlib.compiler.telemetry.reports import problems_of
from meshlib.policy.telemetry_settings import DEFAULT_TELEMETRY, TelemetrySettings, TracingSettings, WorkloadTelemetry
from meshlib.resources.mesh_choice import REVISION, choose

if TYPE_CHECKING:
    from meshlib.compiler.kinds import Kinds
    from meshlib.compiler.telemetry.proxies import ProxyDefaults
    from meshlib.problems import Problem
    from meshlib.resources.telemetry import Telemetry
    from meshlib.workload import Workload


def compile_telemetry(kinds: Kinds, workload: Workload, root_namespace: str) -> tuple[WorkloadTelemetry, list[Problem]]:
    """For one workload. What is to be said is about all resources, whichever workloads they select."""
    config, _ = choose(kinds.mesh_configs, kinds.mesh_config_maps, workload.labels.get(REVISION, ""))
    providers = providers_of(config)
    annotated = [r for r in kinds.annotated if (r.namespace, r.name) == (workload.namespace, workload.name)]
    proxy, about_proxies = proxy_defaults(config, kinds.proxy_configs, annotated, workload, root_namespace)
    counting = applicable(kinds.telemetries, workload, root_namespace)
    client_metrics, server_metrics = metrics.compile_metrics(
        [
            metrics.Written(entry, r, ("spec", "metrics", index))
            for r in counting
            for index, entry in enumerate(r.spec.metrics or ())
        ],
        providers,
    )
    client_spans, server_spans = tracing.compile_tracing(
        [
            tracing.Written(entry, r, ("spec", "tracing", index))
            for r in counting
            for index, entry in enumerate(r.spec.tracing or ())
        ],
        providers,
        proxy,
    )
    levels = [
        [
            logs.Written(entry, r, ("spec", "accessLogging", index))
            for index, entry in enumerate(r.spec.access_logging or ())
        ]
        for r in counting
        if r.spec.access_logging
    ]
    made = WorkloadTelemetry(
        TelemetrySettings(client_metrics, _with_environment(client_spans, proxy), logs.compile_logs(levels, providers)),
        TelemetrySettings(
            server_metrics, _with_environment(server_spans, proxy), logs.compile_server_logs(levels, providers)
        ),
        tuple(f"{r.namespace}/{r.name}" for r in counting),
    )
    return (DEFAULT_TELEMETRY if made == DEFAULT_TELEMETRY else made), [
        *about_proxies,
        *problems_of(kinds.telemetries, providers),
        *problems_of_formats(kinds.telemetries, providers),
    ]


def applicable(resources: Iterable[Telemetry], workload: Workload, root_namespace: str) -> Sequence[Telemetry]:
    """Those that count for a workload, the nearest last."""
    ordered = sorted(resources, key=lambda resource: resource.age_key)
    found = []
    for namespace in dict.fromkeys((root_namespace, workload.namespace)):
        wide = next((r for r in ordered if r.namespace == namespace and is_wide(r)), None)
        if wide is not None:
            found.append(wide)
    for resource in ordered:
        if resource.namespace == workload.namespace and not is_wide(resource) and not _targets(resource):
            labels = _labels(resource)
            if all(workload.labels.get(key) == value for key, value in labels.items()):
                found.append(resource)
    return found


def is_wide(resource: Telemetry) -> bool:
    """Whether it is for all workloads of its namespace."""
    return not _labels(resource) and not _targets(resource)


def _labels(resource: Telemetry) -> dict[str, str]:
    selector = resource.spec.selector
    return (selector.match_labels or {}) if selector is not None else {}


def _targets(resource: Telemetry) -> bool:
    return bool(resource.spec.target_refs) or resource.spec.target_ref is not None


def _with_environment(spans: TracingSettings, proxy: ProxyDefaults) -> TracingSettings:
    known = proxy.known(spans.custom_tags)
    return spans if known == spans.custom_tags else replace(spans, custom_tags=known)
