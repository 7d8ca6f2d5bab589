"""What becomes of connections that a sidecar forwards without a look at the requests in them: to ports that are not HTTP, and
TLS that it does not end. Rules of ``tls`` and ``tcp`` decide, else the service; http rules do not act."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.l4_rules import compile_l4
from meshlib.compiler.routes import Destination, Rule, VirtualHost
from meshlib.policy.l4_match import sni_rank
from meshlib.policy.retry import RetryPolicy
from meshlib.policy.rule_index import RuleIndex
from meshlib.policy.weights import WeightedChoice
from meshlib.registry.service import SNIFFED, TLS_PROTOCOLS, Service

if TYPE_CHECKING:
    from meshlib.compiler.routes import L4Host, L4Rule, Resolver
    from meshlib.resources.virtual_service import VirtualService
    from meshlib.workload import Workload

SOLE = WeightedChoice((1,))
NO_RETRY = RetryPolicy(attempts=0)
NO_HTTP = "http rules do not act there (Istio)"
Forwarded = tuple[Service, str]
"""A service whose connections arrive at a listener, and the protocol of its port."""


class Forwarding:
    """Makes the virtual hosts of connections, each once. ``touching`` gives the VirtualServices that have a say for a host and
    port; ``of_service`` the destination that is a service itself. ``l4`` collects the rules of the first of them."""

    def __init__(
        self,
        workload: Workload,
        touching: Callable[[str, int], Sequence[VirtualService]],
        of_model: Resolver,
        of_service: Callable[[Service, int], Destination],
        l4: dict[tuple[str, int], L4Host],
    ) -> None:
        self._workload = workload
        self._touching = touching
        self._of_model = of_model
        self._of_service = of_service
        self._first = l4
        self._rules: dict[tuple[str, int], list[L4Host]] = {}
        self._made: dict[tuple[str, int, L4Rule | None, bool], VirtualHost] = {}

    def server_names(self, forwarded: Sequence[Forwarded], port: int, *, shared: bool) -> list[str]:
        """The server names that tell services of one listener apart: those of tls rules and, where an address is ``shared``
        by hosts that have none, those of the services that have no such rule."""
        names: dict[str, None] = {}
        for service, protocol in forwarded:
            if protocol in TLS_PROTOCOLS:
                found = [n for host in self._l4(service, port) for r in host.tls for m in r.matches for n in m.sni]
                names.update(dict.fromkeys(found or ((service.host,) if shared else ())))
        return list(names)

    def to(self, forwarded: Sequence[Forwarded], port: int, server_name: str, *, shared: bool) -> VirtualHost | None:
        """Where a connection to a listener goes: by its ``server_name`` ("" without TLS), else to the first service that
        takes any connection. None: nowhere but to the address that was dialled."""
        best: tuple[Service, str, L4Host | None, L4Rule | None] | None = None
        rank = -1
        anyone: tuple[Service, str, L4Host | None, L4Rule | None] | None = None
        for service, protocol in forwarded:
            rules = self._l4(service, port)
            if protocol not in TLS_PROTOCOLS:
                found = next(((h, r) for h in rules if (r := h.route()) is not None), (None, None))
                anyone = anyone or (service, protocol, *found)
                continue
            by_name = [(h, r, m) for h in rules for r in h.tls for m in r.matches]
            for host, rule, match in by_name:
                how_well = sni_rank(match.sni, server_name) if match.sni else 0
                if how_well > rank and match(server_name):
                    best, rank = (service, protocol, host, rule), how_well
            if not by_name and not shared:
                anyone = anyone or (service, protocol, None, None)
            elif not by_name and (how_well := sni_rank((service.host,), server_name)) > rank:
                best, rank = (service, protocol, None, None), how_well
        chosen = best or anyone
        return None if chosen is None else self._virtual_host(port, *chosen, whole_port=shared and best is None)

    def _virtual_host(
        self, port: int, service: Service, protocol: str, host: L4Host | None, rule: L4Rule | None, *, whole_port: bool
    ) -> VirtualHost:
        key = (service.host, port, rule, whole_port)
        made = self._made.get(key)
        if made is None:
            kind = "of no declared protocol" if protocol == SNIFFED else protocol.upper()
            what = f"port {port} of {service.host} is {kind}"
            if whole_port:
                what += ", and without an address of its own it has the port's connections to every other host"
            if host is None or rule is None:
                note = f"{what}: {NO_HTTP}"
                made = _virtual_host(service.host, port, "", (self._of_service(service, port),), SOLE, note)
            else:
                note = f"{what}: {rule.kind}[{rule.index}] of {host.resource} decides; {NO_HTTP}"
                made = _virtual_host(service.host, port, host.resource, rule.destinations, rule.choice, note)
            self._made[key] = made
        return made

    def _l4(self, service: Service, port: int) -> list[L4Host]:
        found = self._rules.get((service.host, port))
        if found is None:
            made: Iterable[L4Host | None] = (
                compile_l4(resource, service.host, port, self._workload, self._of_model)
                for resource in self._touching(service.host, port)
                if resource.spec.tls or resource.spec.tcp
            )
            found = self._rules[service.host, port] = [host for host in made if host is not None]
            if found:
                self._first.setdefault((service.host, port), found[0])
        return found


def _virtual_host(
    host: str, port: int, resource: str, destinations: Sequence[Destination], choice: WeightedChoice, note: str
) -> VirtualHost:
    rule = Rule(-1, "", (), tuple(destinations), choice, NO_RETRY)
    return VirtualHost(host, port, resource, (rule,), RuleIndex([()]), note=note, single=rule, tcp=True)
