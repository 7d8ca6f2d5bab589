"""What becomes of connections that a sidecar forwards without a look at the requests in them: to ports that are not HTTP, and
TLS that it does not end. Rules of ``tls`` and ``tcp`` decide, else the service; http rules do not act."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.l4_rules import Resolver, compile_l4
from meshlib.compiler.snapshot import Destination, Rule, VirtualHost
from meshlib.policy.l4_match import sni_rank
from meshlib.policy.retry import RetryPolicy
from meshlib.policy.rule_index import RuleIndex
from meshlib.policy.weights import WeightedChoice
from meshlib.registry.service import TLS_PROTOCOLS, Service

if TYPE_CHECKING:
    from meshlib.compiler.snapshot import L4Host, L4Rule
    from meshlib.resources.virtual_service import VirtualService
    from meshlib.workload import Workload

SOLE = WeightedChoice((1,))
NO_RETRY = RetryPolicy(attempts=0)
NO_HTTP = "http rules do not act there (Istio)"


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

    def server_names(self, service: Service, port: int) -> list[str]:
        """The names in the tls rules for a service and port; none: there are no such rules for this client."""
        hosts = self._l4(service, port)
        return list(dict.fromkeys(n for h in hosts for r in h.tls for m in r.matches for n in (m.sni or ("*",))))

    def to(self, service: Service, port: int, protocol: str, server_name: str = "") -> VirtualHost | None:
        """Where a connection to a port of a service goes. None: nowhere but to the address that was dialled, because there are
        tls rules and none is for its ``server_name``."""
        if protocol in TLS_PROTOCOLS:
            found = self._by_server_name(service, port, server_name)
            if found is None and self.server_names(service, port):
                return None
        else:
            found = next(((h, r) for h in self._l4(service, port) if (r := h.route()) is not None), None)
        what = f"port {port} of {service.host} is {'of no declared protocol' if protocol == 'sniffed' else protocol.upper()}"
        if found is None:
            return _virtual_host(service.host, port, "", (self._of_service(service, port),), SOLE, f"{what}: {NO_HTTP}")
        host, rule = found
        note = f"{what}: {rule.kind}[{rule.index}] of {host.resource} decides; {NO_HTTP}"
        return _virtual_host(service.host, port, host.resource, rule.destinations, rule.choice, note)

    def _by_server_name(self, service: Service, port: int, server_name: str) -> tuple[L4Host, L4Rule] | None:
        best, rank = None, -1
        for host in self._l4(service, port):
            for rule in host.tls:
                for match in rule.matches:
                    how_well = sni_rank(match.sni, server_name) if match.sni else 0
                    if how_well > rank and match(server_name):
                        best, rank = (host, rule), how_well
        return best

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
