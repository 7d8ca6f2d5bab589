"""The patch of an EnvoyFilter that has a gateway's connections begin with a header of the PROXY protocol: what people wrote
before Istio had ``gatewayTopology.proxyProtocol``, in both ways in which it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meshlib.compiler.envoy_values import NotActedOn, snake, typed

if TYPE_CHECKING:
    from meshlib.resources.envoy_filter import ConfigPatche

APPLIES = ("LISTENER", "LISTENER_FILTER")
NAMES = ("envoy.filters.listener.proxy_protocol", "envoy.listener.proxy_protocol")
TYPE = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
BESIDE = ("envoy.filters.listener.tls_inspector", "envoy.listener.tls_inspector")
"""What the patch of a listener names after it, as its connections are told apart by what TLS asks for: they are anyway."""
INSTEAD = "gatewayTopology.proxyProtocol of the MeshConfig has all connections of a gateway begin with one"
_INSERTS = ("ADD", "INSERT_FIRST", "INSERT_BEFORE")


def check_proxied(patch: ConfigPatche) -> None:
    """Raises ``NotActedOn`` for a patch of listeners that is another one, or says more."""
    _of_all_ports(patch)
    assert patch.patch is not None
    value, operation = snake(patch.patch.value or {}), patch.patch.operation
    assert isinstance(value, dict)
    inserts = _INSERTS if patch.apply_to == "LISTENER_FILTER" else ("MERGE",)
    found: object = [value]
    if patch.apply_to == "LISTENER":
        found = value.get("listener_filters") or []
        rest = [name for name in value if name != "listener_filters"]
        if rest:
            raise NotActedOn(f"a patch of listeners ({', '.join(rest)}); there is no Envoy here")
    filters = [each if isinstance(each, Mapping) else {} for each in found] if isinstance(found, list) else []
    names = [str(each.get("name")) for each in filters]
    other = next((name for name in names if name not in (*NAMES, *BESIDE)), None)
    if other is not None or not any(name in NAMES for name in names):
        raise NotActedOn(
            f"of listener filters only {NAMES[0]} has a counterpart here" + (f", not {other}" if other else "")
        )
    if operation not in inserts:
        raise NotActedOn(f"operation {operation}: {' and '.join(inserts)} act")
    for each, name in zip(filters, names, strict=True):
        if name in NAMES:
            _plain(each)


def _plain(value: Mapping[str, object]) -> None:
    """Settings of the filter would change which connections are taken."""
    if value.get("typed_config") is None:
        return
    kind, settings = typed(value["typed_config"])
    if kind != TYPE:
        raise NotActedOn(f"its typed_config is of type {kind}, not {TYPE}")
    given = sorted(
        name for name, setting in settings.items() if name != "stat_prefix" and setting not in (None, False, [], {})
    )
    if given:
        raise NotActedOn(f"{', '.join(given)} of the filter: each connection has to begin with a header here")


def _of_all_ports(patch: ConfigPatche) -> None:
    match = patch.match
    if match is None:
        return
    if match.proxy is not None:
        raise NotActedOn("match.proxy is about Envoys")
    listener = match.listener
    if listener is not None and any(
        (listener.name, listener.port_number, listener.port_name, listener.listener_filter, listener.filter_chain)
    ):
        raise NotActedOn(f"match.listener: {INSTEAD}, and no single port of it")
