"""Patches of EnvoyFilters that Istio does not apply, or only when nothing else has changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.analysis.codes import (
    RELATIVE_OPERATION,
    RELATIVE_OPERATION_OF_VERSION,
    WRONG_ADD,
    WRONG_REMOVE,
    WRONG_REPLACE,
)
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.index import Index
from meshlib.pace import take_turns
from meshlib.resources.typed import ENVOY_FILTER

if TYPE_CHECKING:
    from meshlib.resources.envoy_filter import ConfigPatche, EnvoyFilter, Patch

_ROUTES = ("ROUTE_CONFIGURATION", "HTTP_ROUTE")
_REPLACED = ("NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST")
_RELATIVE = ("INSERT_BEFORE", "INSERT_AFTER", "REMOVE", "REPLACE")


def patches(index: Index) -> Iterator[Finding]:
    """Operations that do not act on what they are for, and relative ones in a filter without priority."""
    of_version: set[str] = set()  # filters that patches before have changed for some proxy version
    for envoy_filter in index.analyzed(ENVOY_FILTER):
        for position, entry in enumerate(envoy_filter.spec.config_patches or ()):
            take_turns()
            if entry.patch is None:
                break  # Istio looks no further
            name = _filter_name(entry, entry.patch)
            yield from _of(
                envoy_filter, entry, entry.patch, ("spec", "configPatches", position, "patch"), name in of_version
            )
            proxy = entry.match.proxy if entry.match is not None else None
            if proxy is not None and proxy.proxy_version:
                of_version.add(name)


def _of(envoy_filter: EnvoyFilter, entry: ConfigPatche, patch: Patch, here: Loc, of_version: bool) -> Iterator[Finding]:
    operation = patch.operation
    loc: Loc = (*here, "operation")
    target = entry.apply_to
    if operation == "ADD" and target in _ROUTES:
        yield Finding(WRONG_ADD, envoy_filter, loc, f"Istio ignores ADD for {target}", "use INSERT_FIRST, or MERGE")
        return
    if operation == "REMOVE" and target in _ROUTES:
        yield Finding(WRONG_REMOVE, envoy_filter, loc, f"Istio ignores REMOVE for {target}", "use MERGE")
        return
    if operation == "REPLACE" and target not in _REPLACED:
        hint = f"REPLACE is for {', '.join(_REPLACED)}; use MERGE"
        yield Finding(WRONG_REPLACE, envoy_filter, loc, f"Istio does not REPLACE a {target}", hint)
        return
    if operation in _RELATIVE and not envoy_filter.spec.priority:
        message = f"{operation} depends on what other filters have done before, and no priority is set"
        hint = "set priority, or use INSERT_FIRST or ADD"
        if of_version:
            message += "; a patch for the same filter is for one proxyVersion only"
        yield Finding(
            RELATIVE_OPERATION_OF_VERSION if of_version else RELATIVE_OPERATION, envoy_filter, loc, message, hint
        )


def _filter_name(entry: ConfigPatche, patch: Patch) -> str:
    """The filter that a patch is about, as its value says; else as its match says."""
    value = patch.value
    if not isinstance(value, dict) or not value:
        return ""
    if "name" in value:
        return str(value["name"])
    listener = entry.match.listener if entry.match is not None else None
    chain = listener.filter_chain if listener is not None else None
    return (chain.filter.name or "") if chain is not None and chain.filter is not None else ""
