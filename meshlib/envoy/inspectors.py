"""What Envoy's listeners look at before they choose a filter chain: where a connection was meant to go, and its first bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from meshlib.envoy.values import Json, duration, typed
from meshlib.proxy.iptables import MARK
from meshlib.proxy.protocol_detection import detection_timeout

if TYPE_CHECKING:
    from meshlib.compiler.snapshot import Snapshot

WAS_MEANT: Json = {
    "name": "envoy.filters.listener.original_dst",
    "typed_config": typed("filters.listener.original_dst.v3.OriginalDst"),
}
KEEPS_SOURCE: Json = {
    "name": "envoy.filters.listener.original_src",
    "typed_config": typed("filters.listener.original_src.v3.OriginalSrc", mark=MARK),
}
"""Connections to the application come from the client's address; the mark has the kernel bring back what answers them."""
TLS_INSPECTOR: Json = {
    "name": "envoy.filters.listener.tls_inspector",
    "typed_config": typed("filters.listener.tls_inspector.v3.TlsInspector"),
}
HTTP_INSPECTOR: Json = {
    "name": "envoy.filters.listener.http_inspector",
    "typed_config": typed("filters.listener.http_inspector.v3.HttpInspector"),
}


def patience(snapshot: Snapshot) -> Json:
    """How long first bytes are waited for where MeshConfig says so, and that then it is as if there were none: a listener's
    fields."""
    seconds = detection_timeout(snapshot)
    if not seconds:
        return {}
    return {"listener_filters_timeout": duration(seconds), "continue_on_listener_filters_timeout": True}


def where(inspector: Json, ports: Mapping[int, bool]) -> list[Json]:
    """An inspector for those ports alone that say so, 0 being all others: at any other a server may speak first."""
    default = ports.get(0, False)
    others = [port for port, looked_at in ports.items() if port and looked_at is not default]
    if not others:
        return [inspector] if default else []
    these = _any_of(sorted(others))
    return [{**inspector, "filter_disabled": these if default else {"not_match": these}}]


def _any_of(ports: Iterable[int]) -> Json:
    rules = [{"destination_port_range": {"start": port, "end": port + 1}} for port in ports]
    return rules[0] if len(rules) == 1 else {"or_match": {"rules": rules}}
