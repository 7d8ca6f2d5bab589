"""Connections whose bytes nobody reads, as Envoy's TCP proxy: to where the one rule there is leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from meshlib.envoy.routes import MISSING, cluster_name
from meshlib.envoy.values import Json, duration, typed

if TYPE_CHECKING:
    from meshlib.compiler.routes import Cluster, Destination, Rule

TCP = "envoy.filters.network.tcp_proxy"
STATE = "envoy.filters.network.set_filter_state"
OFFER: Json = {
    "name": STATE,
    "typed_config": typed(
        "filters.network.set_filter_state.v3.Config",
        on_new_connection=[
            {
                "object_key": "envoy.network.application_protocols",
                "format_string": {"text_format_source": {"inline_string": "istio"}},
                "shared_with_upstream": "ONCE",
            }
        ],
    ),
}
"""mTLS of the mesh with bytes in it: who serves is not to take them for HTTP, which clusters offer (``tls.mutual_socket``)."""


def tcp_filters(
    rule: Rule | None, clusters: Mapping[str, Cluster], stat: str, names: Mapping[str, str] | None = None
) -> list[Json]:
    """Network filters for connections of a rule. None, or one without destinations: they are closed. ``names``: clusters that
    are others for bytes than for requests."""
    targets = _targets(rule)
    specs = [clusters[to.cluster] for to, _ in targets if to.cluster in clusters]
    named = [((names or {}).get(to.cluster) or cluster_name(to), weight) for to, weight in targets]
    proxy = typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=stat)
    if len(named) > 1:
        proxy["weighted_clusters"] = {"clusters": [{"name": name, "weight": weight} for name, weight in named]}
    else:
        proxy["cluster"] = named[0][0] if named else MISSING
    proxy |= _limits(specs)
    mutual = any((spec.tls is not None and spec.tls.mode == "ISTIO_MUTUAL") or spec.auto_mtls for spec in specs)
    return [*([OFFER] if mutual else []), {"name": TCP, "typed_config": proxy}]


def _targets(rule: Rule | None) -> Sequence[tuple[Destination, int]]:
    if rule is None:
        return ()
    return [
        (to, weight)
        for to, weight in zip(rule.destinations, rule.choice.weights, strict=False)
        if weight or len(rule.destinations) == 1
    ]


def _limits(specs: Sequence[Cluster]) -> Json:
    """How long a connection may last: as of the first cluster, for Envoy knows them only of the whole."""
    if not specs:
        return {}
    limits = specs[0].limits
    made: Json = {"idle_timeout": duration(limits.tcp_idle_timeout)}
    if limits.max_connection_duration:
        made["max_downstream_connection_duration"] = duration(limits.max_connection_duration)
    return made
