"""The tls and tcp rules of a VirtualService, and the destinations of all its rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.validation.addresses import is_ip, subnet
from meshlib.resources.validation.headers import header_operations
from meshlib.resources.validation.hosts import (
    covers,
    gateway_domain_problem,
    gateway_names,
    wildcard_domain_problem,
)
from meshlib.resources.validation.labels import labels

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import (
        HttpRouteDestination,
        L4MatchAttributes,
        RouteDestination,
        TcpRoute,
        TlsMatchAttributes,
        TlsRoute,
    )


def tls_rule(rule: TlsRoute, loc: Loc, hosts: Sequence[str], at_gateway: bool) -> Iterator[Notice]:
    """A rule by server name; ``hosts`` are those of the VirtualService."""
    if not rule.match:
        yield refused("missing-match", loc, "a tls rule needs a match", "match: [{sniHosts: [api.example.com]}]")
    for index, match in enumerate(rule.match or ()):
        there = (*loc, "match", index)
        if not match.sni_hosts:
            yield refused("missing-host", there, "sniHosts names no host", "sniHosts: [api.example.com]")
        for position, host in enumerate(match.sni_hosts or ()):
            yield from _sni(host, (*there, "sniHosts", position), hosts, at_gateway)
        yield from _connection(match, there)
    yield from _l4_route(rule, loc)


def _sni(sni: str, loc: Loc, hosts: Sequence[str], at_gateway: bool) -> Iterator[Notice]:
    problem = gateway_domain_problem(sni, sni=True) if at_gateway else wildcard_domain_problem(sni)
    if problem:
        if not is_ip(sni):
            yield refused("bad-host", loc, f"{sni!r} is not a server name: {problem}", "for example api.example.com")
    elif not any(covers(host, sni) for host in hosts):
        yield refused(
            "sni-of-other-host",
            loc,
            f"the server name {sni} is not one of the hosts ({', '.join(hosts)})",
            "name it among hosts, or a wildcard that covers it",
        )


def tcp_rule(rule: TcpRoute, loc: Loc) -> Iterator[Notice]:
    """A rule by port and address."""
    for index, match in enumerate(rule.match or ()):
        yield from _connection(match, (*loc, "match", index))
    yield from _l4_route(rule, loc)


def _connection(match: TlsMatchAttributes | L4MatchAttributes, loc: Loc) -> Iterator[Notice]:
    for index, network in enumerate(match.destination_subnets or ()):
        yield from subnet(network, (*loc, "destinationSubnets", index))
    yield from labels(match.source_labels, (*loc, "sourceLabels"))
    yield from gateway_names(match.gateways, (*loc, "gateways"))


def _l4_route(rule: TlsRoute | TcpRoute, loc: Loc) -> Iterator[Notice]:
    if not rule.route:
        yield refused("no-action", loc, "the rule has no route", "add route: [{destination: ...}]")
    else:
        yield from _weights(rule.route, (*loc, "route"))


def http_destinations(targets: Sequence[HttpRouteDestination], loc: Loc) -> Iterator[Notice]:
    """Weights that add up to something, and what the ``headers`` of a destination change."""
    yield from _weights(targets, loc)
    for index, target in enumerate(targets):
        if target.headers is not None:
            yield from header_operations(target.headers, (*loc, index, "headers"))


def _weights(targets: Sequence[HttpRouteDestination | RouteDestination], loc: Loc) -> Iterator[Notice]:
    if len(targets) > 1 and sum(target.weight or 0 for target in targets) == 0:
        yield refused(
            "weights-sum-zero",
            loc,
            f"the weights of {len(targets)} destinations add up to 0",
            "give each a weight, e.g. 90 and 10",
        )
