"""What Istio refuses, or warns of, in an EnvoyFilter whose types are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.envoy.filter_names import FORMER_NAMES
from meshlib.resources.envoy.values import Misfit, misfits
from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.validation.regexes import LONGEST, regex
from meshlib.resources.validation.selection import label_refusals, selector_warnings

if TYPE_CHECKING:
    from meshlib.resources.envoy_filter import ConfigPatche, ConfigPatchesMatch, EnvoyFilter, Filter, Proxy

_PATCHES: Loc = ("spec", "configPatches")
_LABELS: Loc = ("spec", "workloadSelector", "labels")
_CONNECTION_MANAGERS = ("envoy.filters.network.http_connection_manager", "envoy.http_connection_manager")
_MESSAGES = {
    "LISTENER": "envoy.config.listener.v3.Listener",
    "FILTER_CHAIN": "envoy.config.listener.v3.FilterChain",
    "NETWORK_FILTER": "envoy.config.listener.v3.Filter",
    "LISTENER_FILTER": "envoy.config.listener.v3.ListenerFilter",
    "HTTP_FILTER": "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
    "ROUTE_CONFIGURATION": "envoy.config.route.v3.RouteConfiguration",
    "VIRTUAL_HOST": "envoy.config.route.v3.VirtualHost",
    "HTTP_ROUTE": "envoy.config.route.v3.Route",
    "CLUSTER": "envoy.config.cluster.v3.Cluster",
    "EXTENSION_CONFIG": "envoy.config.core.v3.TypedExtensionConfig",
    "BOOTSTRAP": "envoy.config.bootstrap.v3.Bootstrap",
}
"""What a patch's value is in Envoy's configuration."""

_FILTERS = ("HTTP_FILTER", "NETWORK_FILTER", "LISTENER_FILTER", "EXTENSION_CONFIG")

_OBJECTS = {
    "LISTENER": "listener",
    "FILTER_CHAIN": "listener",
    "NETWORK_FILTER": "listener",
    "HTTP_FILTER": "listener",
    "ROUTE_CONFIGURATION": "routeConfiguration",
    "VIRTUAL_HOST": "routeConfiguration",
    "HTTP_ROUTE": "routeConfiguration",
    "CLUSTER": "cluster",
}


def refusals(resource: EnvoyFilter) -> Iterator[Notice]:
    """Errors of the selector, then of the patches in their order."""
    spec = resource.spec
    if spec.workload_selector is not None:
        yield from label_refusals(spec.workload_selector.labels, _LABELS)
    for index, patch in enumerate(spec.config_patches or ()):
        if patch.match is None or patch.match.context != "WAYPOINT":
            yield from _patch(patch, (*_PATCHES, index))


def warnings(resource: EnvoyFilter) -> Iterator[Notice]:
    """Selectors and matches that do not narrow anything, fields and filters that Envoy does not know (any more)."""
    spec = resource.spec
    if spec.workload_selector is not None:
        yield from selector_warnings(spec.workload_selector.labels, ("spec", "workloadSelector"))
    for index, patch in enumerate(spec.config_patches or ()):
        if patch.match is None or patch.match.context != "WAYPOINT":
            here: Loc = (*_PATCHES, index)
            yield from _value_warnings(patch, here)
            if patch.match is not None:
                yield from _match_warnings(patch.match, patch.apply_to, (*here, "match"))


def _value_warnings(patch: ConfigPatche, loc: Loc) -> Iterator[Notice]:
    for misfit in _misfits(patch, loc):
        if misfit.unknown:
            yield warned("unknown-envoy-field", misfit.loc, misfit.message, misfit.hint)
    value = patch.patch.value if patch.patch is not None else None
    if patch.apply_to in _FILTERS and value is not None:
        kinds = ("typed_config", "typedConfig", "config_discovery", "configDiscovery")
        if all(value.get(kind) is None for kind in kinds):
            yield warned(
                "no-typed-config",
                (*loc, "patch", "value"),
                "the filter is named without typed_config, and Envoy's look-up by name will end",
                'write typed_config: {"@type": ...}',
            )


def _match_warnings(match: ConfigPatchesMatch, apply_to: str | None, loc: Loc) -> Iterator[Notice]:
    proxy, listener = match.proxy, match.listener
    if proxy is not None and len(proxy.proxy_version or "") > LONGEST:
        yield warned(
            "regex-ignored",
            (*loc, "proxy", "proxyVersion"),
            f"proxyVersion has more than {LONGEST} characters, and Istio ignores it",
            "shorten it",
        )
    named = listener.filter_chain.filter if listener is not None and listener.filter_chain is not None else None
    if named is None:
        return
    where: Loc = (*loc, "listener", "filterChain", "filter")
    if apply_to in ("LISTENER", "FILTER_CHAIN"):
        message = f"the filter does not narrow a patch of {apply_to}"
        yield warned("match-ignored", where, message, "remove it")
    inner = named.sub_filter.name if named.sub_filter is not None else None
    for name, place in ((named.name, (*where, "name")), (inner, (*where, "subFilter", "name"))):
        if name in FORMER_NAMES:
            yield warned(
                "former-filter-name", place, f"{name} is the filter's former name", f"write {FORMER_NAMES[name]}"
            )


def _patch(patch: ConfigPatche, loc: Loc) -> Iterator[Notice]:
    if patch.apply_to in (None, "INVALID"):
        yield refused("missing-apply-to", (*loc, "applyTo"), "applyTo is missing", "for example applyTo: HTTP_FILTER")
        return
    if patch.patch is None:
        yield refused("missing-patch", loc, "patch is missing", "write patch: {operation: MERGE, value: {...}}")
        return
    operation = patch.patch.operation
    if operation in (None, "INVALID"):
        yield refused(
            "missing-operation",
            (*loc, "patch"),
            "operation is missing",
            "for example operation: MERGE, or INSERT_BEFORE",
        )
        return
    if operation != "REMOVE" and patch.patch.value is None:
        yield refused("missing-value", (*loc, "patch"), f"{operation} needs a value", "write it as Envoy's own YAML")
        return
    match = patch.match
    if match is not None:
        yield from _proxy_version(match.proxy, (*loc, "match", "proxy", "proxyVersion"))
        yield from _object(patch.apply_to, match, (*loc, "match"))
    for misfit in _misfits(patch, loc):
        if not misfit.unknown:
            yield refused("bad-patch", misfit.loc, misfit.message, misfit.hint)


def _misfits(patch: ConfigPatche, loc: Loc) -> Iterator[Misfit]:
    if patch.patch is not None and patch.patch.value is not None and patch.apply_to in _MESSAGES:
        yield from misfits(patch.patch.value, _MESSAGES[patch.apply_to], (*loc, "patch", "value"))


def _proxy_version(proxy: Proxy | None, loc: Loc) -> Iterator[Notice]:
    pattern = proxy.proxy_version if proxy is not None else None
    if not pattern or len(pattern) > LONGEST:
        return
    yield from regex(pattern, loc)


def _object(apply_to: str, match: ConfigPatchesMatch, loc: Loc) -> Iterator[Notice]:
    """What is matched is what is patched, or what is around it."""
    given = {
        "listener": match.listener,
        "routeConfiguration": match.route_configuration,
        "cluster": match.cluster,
        "waypoint": match.waypoint,
    }
    matched = [name for name, there in given.items() if there is not None]
    wanted = _OBJECTS.get(apply_to)
    if wanted is None or not matched:
        return
    if matched[-1] != wanted:
        yield refused(
            "wrong-match",
            (*loc, matched[-1]),
            f"a patch of {apply_to} is not matched by {matched[-1]}",
            f"write {wanted}, or leave it out to patch all",
        )
    elif wanted == "listener" and match.listener is not None and match.listener.filter_chain is not None:
        yield from _filter(apply_to, match.listener.filter_chain.filter, (*loc, "listener", "filterChain", "filter"))


def _filter(apply_to: str, named: Filter | None, loc: Loc) -> Iterator[Notice]:
    if named is None:
        return
    inner: Loc = (*loc, "subFilter")
    if not named.name:
        yield refused(
            "missing-name", loc, "the filter to match has no name", f"for example name: {_CONNECTION_MANAGERS[0]}"
        )
    elif named.sub_filter is None:
        return
    elif apply_to != "HTTP_FILTER":
        yield refused(
            "wrong-match",
            inner,
            f"a patch of {apply_to} has no subFilter to match",
            "it is for applyTo: HTTP_FILTER only",
        )
    elif named.name not in _CONNECTION_MANAGERS:
        yield refused(
            "wrong-match", (*loc, "name"), f"{named.name} has no subFilter", f"write name: {_CONNECTION_MANAGERS[0]}"
        )
    elif not named.sub_filter.name:
        yield refused(
            "missing-name", inner, "the subFilter to match has no name", "for example envoy.filters.http.router"
        )
