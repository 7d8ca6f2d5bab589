"""``tls`` and ``tcp`` rules of VirtualServices -> what a proxy asks of a connection. (HTTP clients never do.)"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.matches import not_for_client
from meshlib.compiler.routes import Destination, L4Host, L4Rule, Resolver
from meshlib.compiler.scope import IN_MESH
from meshlib.policy.l4_match import L4Match, networks
from meshlib.policy.weights import WeightedChoice
from meshlib.resources.validation.addresses import is_subnet
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.resources import virtual_service as written
    from meshlib.resources.virtual_service import VirtualService

SOLE = WeightedChoice((1,))


def compile_l4(
    service: VirtualService,
    host: str,
    port: int,
    workload: Workload,
    destination: Resolver,
    gateway: Collection[str] = IN_MESH,
) -> L4Host | None:
    """The tls and tcp rules of one VirtualService for one host and port; None when none is for this client."""
    spec = service.spec
    kinds: tuple[tuple[str, Sequence[written.TlsRoute | written.TcpRoute]], ...] = (
        ("tls", spec.tls or ()),
        ("tcp", spec.tcp or ()),
    )
    found = {}
    for kind, written_rules in kinds:
        rules: list[L4Rule] = []
        for index, rule in enumerate(written_rules):
            usable = [m for m in rule.match or () if not_for_client(m, workload, port, gateway) is None]
            if rule.match and not usable:
                continue
            targets = tuple(_weighted(destination(d.destination, service.namespace, port), d) for d in rule.route or ())
            choice = SOLE if len(targets) < 2 else WeightedChoice([t.weight for t in targets])
            rules.append(L4Rule(kind, index, tuple(_match(m) for m in usable), targets, choice))
        found[kind] = tuple(rules)
    if not found["tls"] and not found["tcp"]:
        return None
    return L4Host(host, port, service.id, found["tls"], found["tcp"])


def _weighted(found: Destination, model: written.RouteDestination) -> Destination:
    return Destination(
        found.host, found.subset, found.port, model.weight or 0, found.cluster, found.missing, lack=found.lack
    )


def _match(match: written.TlsMatchAttributes | written.L4MatchAttributes) -> L4Match:
    source = getattr(match, "source_subnet", None) or ""
    sources = [source] if is_subnet(source) else []  # Istio looks at no sourceSubnet, and so takes any text for one
    return L4Match(
        tuple(name.lower() for name in getattr(match, "sni_hosts", None) or ()),
        networks(match.destination_subnets or []),
        networks(sources),
    )
