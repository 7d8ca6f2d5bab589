"""The faults that EnvoyFilters inject at a workload's server.

Istio has no resource of its own for faults at a server; what people write is an EnvoyFilter that merges into, or inserts,
``envoy.filters.http.fault`` on SIDECAR_INBOUND. Exactly that is compiled here. Every other patch is told of in a notice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from meshlib.policy.fault import MILLION, FaultPolicy
from meshlib.policy.grpc_status import NAMES, http_of_grpc
from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.resources.envoy_filter import ConfigPatche, EnvoyFilter
    from meshlib.workload import Workload

FAULT = "envoy.filters.http.fault"
_TYPE = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"
_OLD_TYPE = "type.googleapis.com/envoy.config.filter.http.fault.v2.HTTPFault"
_MANAGERS = (None, "envoy.filters.network.http_connection_manager", "envoy.http_connection_manager")
_CHAIN = frozenset(
    (
        "istio.metadata_exchange",
        "envoy.filters.http.jwt_authn",
        "envoy.filters.http.rbac",
        "envoy.filters.http.grpc_stats",
        FAULT,
        "envoy.filters.http.cors",
        "istio.stats",
        "envoy.filters.http.router",
    )
)
"""The HTTP filters of an Istio sidecar's inbound listener: what a patch may name as its neighbour."""
_INSERTS = frozenset(("ADD", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST"))
_UNITS = {"HUNDRED": MILLION // 100, "TEN_THOUSAND": MILLION // 10_000, "MILLION": 1}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_ONE_OF = {"abort": ("http_status", "grpc_status", "header_abort"), "delay": ("fixed_delay", "header_delay")}


class _NotActedOn(Exception):
    """A patch without effect here; its text says why."""


def compile_faults(
    filters: Sequence[EnvoyFilter], workload: Workload, root_namespace: str
) -> tuple[tuple[FaultPolicy, ...], tuple[str, ...], list[Problem]]:
    """The faults for the server of ``workload``, and the resources that they come from. Notices are about all filters,
    whichever workloads they select."""
    problems: list[Problem] = []
    # Istio's chain has a fault filter that does nothing until something is merged into it
    built_in: dict[str, object] = {}
    inserted: list[dict[str, object]] = []
    sources: list[str] = []

    def order(resource: EnvoyFilter) -> tuple[int, bool, tuple[str, str, str, int]]:
        """Istio's: by priority, the root namespace first, then the oldest."""
        return (resource.spec.priority or 0, resource.namespace != root_namespace, resource.age_key)

    for resource in sorted(filters, key=order):
        mine = _selected(resource, workload, root_namespace)
        for position, patch in enumerate(resource.spec.config_patches or ()):
            try:
                operation, settings = _fault_of(resource, patch)
                _policy(settings)  # says what is wrong with it, also to workloads that it does not select
                if mine:
                    if operation == "MERGE":
                        for target in (built_in, *inserted):
                            _merge(target, settings)
                    else:
                        inserted.append(_merge({}, settings))
                    sources.append(resource.id)
            except _NotActedOn as why:
                problems.append(_notice(resource, position, str(why)))
    policies = [_policy(settings) for settings in (built_in, *inserted)]
    faults = tuple(policy for policy in policies if policy.delay_share or policy.abort_share)
    return faults, tuple(dict.fromkeys(sources)) if faults else (), problems


def _selected(resource: EnvoyFilter, workload: Workload, root_namespace: str) -> bool:
    if resource.namespace not in (root_namespace, workload.namespace) or resource.spec.target_refs:
        return False
    selector = resource.spec.workload_selector
    wanted = (selector.labels or {}) if selector is not None else {}
    return all(workload.labels.get(k) == v for k, v in wanted.items())


def _fault_of(resource: EnvoyFilter, patch: ConfigPatche) -> tuple[str, dict[str, object]]:
    """The operation and HTTPFault of a patch. Raises ``_NotActedOn``."""
    if patch.apply_to != "HTTP_FILTER" or patch.patch is None:
        raise _NotActedOn("a patch of Envoy's own configuration; there is no Envoy here")
    value = patch.patch.value or {}
    operation = patch.patch.operation or "INVALID"
    neighbour = _neighbour(patch)
    if value.get("name") != FAULT:
        raise _NotActedOn(f"a patch of Envoy's own configuration; of HTTP filters only {FAULT} has a counterpart here")
    context = patch.match.context if patch.match is not None else None
    if context not in (None, "ANY", "SIDECAR_INBOUND"):
        raise _NotActedOn(f"faults of context {context}: a fault on the way out is a VirtualService's")
    if resource.spec.target_refs:
        raise _NotActedOn("targetRefs are gateways and waypoints")
    if operation == "MERGE":
        if neighbour not in (None, FAULT):
            raise _NotActedOn(f"it merges into {neighbour}, which is not the filter of its value")
    elif operation not in _INSERTS:
        raise _NotActedOn(f"operation {operation}: MERGE, ADD and INSERT_* act")
    elif neighbour is not None and neighbour not in _CHAIN:
        raise _NotActedOn(f"Istio's inbound chain has no filter {neighbour} to insert it at")
    config = value.get("typed_config", value.get("typedConfig"))
    if not isinstance(config, Mapping):
        raise _NotActedOn("its value has no typed_config")
    fault = _snake(config)
    kind = fault.pop("@type", None)
    if kind not in (_TYPE, _OLD_TYPE):
        raise _NotActedOn(f"its typed_config is of type {kind}, not {_TYPE}")
    unknown = sorted(set(fault) - {"delay", "abort"})
    if unknown:
        raise _NotActedOn(f"{', '.join(unknown)} of HTTPFault: a fault that should be narrower is not injected at all")
    return operation, fault


def _neighbour(patch: ConfigPatche) -> str | None:
    """The filter that the patch names in the HTTP connection manager, once it is clear that the match is ours."""
    match = patch.match
    if match is None:
        return None
    if match.proxy is not None or match.cluster is not None or match.route_configuration is not None or match.waypoint:
        raise _NotActedOn("match.proxy, cluster, routeConfiguration and waypoint are about Envoys")
    listener = match.listener
    if listener is None:
        return None
    if listener.name or listener.port_number or listener.port_name or listener.listener_filter:
        raise _NotActedOn(
            "match.listener by name or port: there are no listeners, a server takes in all its ports alike"
        )
    chain = listener.filter_chain
    if chain is None:
        return None
    if chain.name or chain.sni or chain.transport_protocol or chain.application_protocols or chain.destination_port:
        raise _NotActedOn("match.listener.filterChain by anything but its filter: there are no filter chains")
    found = chain.filter
    if found is None:
        return None
    if found.name not in _MANAGERS:
        raise _NotActedOn(f"the network filter {found.name} has no counterpart here")
    return found.sub_filter.name if found.sub_filter is not None else None


def _snake(settings: Mapping[str, object]) -> dict[str, object]:
    """Protobuf's JSON takes both spellings of a field."""
    return {
        re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", str(key)).lower(): _snake(value)
        if isinstance(value, Mapping)
        else value
        for key, value in settings.items()
    }


def _merge(target: dict[str, object], more: Mapping[str, object], path: str = "") -> dict[str, object]:
    """As protobuf merges messages: set fields win, messages are merged, of a oneof the last one set stays."""
    for key, value in more.items():
        for other in _ONE_OF.get(path, ()):
            if other != key and key in _ONE_OF[path]:
                target.pop(other, None)
        if isinstance(value, Mapping):
            kept = target.get(key)
            target[key] = _merge(dict(kept) if isinstance(kept, Mapping) else {}, value, key)
        else:
            target[key] = value
    return target


def _policy(settings: Mapping[str, object]) -> FaultPolicy:
    """HTTPFault as this engine injects it. Raises ``_NotActedOn`` for values that Envoy would not take."""
    delay, abort = _message(settings, "delay"), _message(settings, "abort")
    seconds, status = 0.0, 0
    grpc: int | None = None
    if "fixed_delay" in delay:
        found = _DURATION.fullmatch(str(delay["fixed_delay"]))
        if found is None:
            raise _NotActedOn(f"delay.fixed_delay {delay['fixed_delay']!r} is no duration such as 2s or 0.5s")
        seconds = float(found[1])
    if "http_status" in abort:
        status = _number(abort["http_status"], "abort.http_status", 200, 599)
    elif "grpc_status" in abort:
        grpc = _number(abort["grpc_status"], "abort.grpc_status", 0, len(NAMES) - 1)
        status = http_of_grpc(grpc)
    _only(delay, "delay", "fixed_delay", "header_delay", "percentage")
    _only(abort, "abort", "http_status", "grpc_status", "header_abort", "percentage")
    header_delay, header_abort = "header_delay" in delay, "header_abort" in abort
    delay_share, delay_unit = _share(delay, "delay")
    abort_share, abort_unit = _share(abort, "abort")
    return FaultPolicy(
        seconds,
        delay_share if seconds or header_delay else 0,
        status,
        grpc,
        abort_share if status or header_abort else 0,
        header_delay,
        header_abort,
        delay_unit if header_delay else MILLION // 100,
        abort_unit if header_abort else MILLION // 100,
    )


def _message(settings: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = settings.get(name, {})
    if not isinstance(found, Mapping):
        raise _NotActedOn(f"{name} is no object")
    return found


def _only(settings: Mapping[str, object], name: str, *known: str) -> None:
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise _NotActedOn(f"{name}.{', '.join(unknown)} of HTTPFault")


def _share(settings: Mapping[str, object], name: str) -> tuple[int, int]:
    """Millionths, and how many of them one of the numerator is. Absent: none, as in Envoy."""
    percentage = _message(settings, "percentage")
    _only(percentage, f"{name}.percentage", "numerator", "denominator")
    denominator = percentage.get("denominator", "HUNDRED")
    unit = _UNITS.get(denominator) if isinstance(denominator, str) else None
    if unit is None:
        raise _NotActedOn(f"{name}.percentage.denominator {denominator!r}: HUNDRED, TEN_THOUSAND or MILLION")
    return _number(percentage.get("numerator", 0), f"{name}.percentage.numerator", 0, 2**32 - 1) * unit, unit


def _number(value: object, name: str, low: int, high: int) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise _NotActedOn(f"{name} {value!r} is not a whole number from {low} to {high}")
    return number


def _notice(resource: EnvoyFilter, position: int, why: str) -> Problem:
    origin = resource.origin
    line = resource.line_of(("spec", "configPatches", position)) or origin.line
    path = f"{resource.id} spec.configPatches[{position}]"
    return Problem("no-effect", Severity.NOTICE, origin.file, line, origin.column, path, f"no effect: {why}", "")
