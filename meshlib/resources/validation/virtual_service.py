"""The rules of a VirtualService; those of its http, tls and tcp rules are in modules of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.pace import take_turns
from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.validation.addresses import is_ip
from meshlib.resources.validation.connection_rules import tcp_rule, tls_rule
from meshlib.resources.validation.export_to import export_to
from meshlib.resources.validation.hosts import gateway_domain_problem, gateway_names, overlap, wildcard_domain_problem
from meshlib.resources.validation.http_rules import http_rule

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import VirtualService, VirtualServiceSpec

MESH = "mesh"
_LARGE_BODY = 100 << 10
_SPEC: Loc = ("spec",)


def refusals(resource: VirtualService) -> Iterator[Notice]:
    """Every rule, in the order of the fields."""
    spec = resource.spec
    at_gateway = bool(spec.gateways) and MESH not in (spec.gateways or ())
    yield from export_to(spec.export_to, resource.namespace)
    yield from gateway_names(spec.gateways, (*_SPEC, "gateways"))
    yield from _hosts(spec, at_gateway)
    if not (spec.http or spec.tls or spec.tcp):
        yield refused("no-rules", _SPEC, "a VirtualService needs http, tls or tcp rules", "add http: [{route: [...]}]")
    if not spec.hosts:
        yield from _delegate(spec)
    for index, rule in enumerate(spec.http or ()):
        take_turns()
        yield from http_rule(rule, (*_SPEC, "http", index), delegate=not spec.hosts, at_gateway=at_gateway)
    for index, tls in enumerate(spec.tls or ()):
        yield from tls_rule(tls, (*_SPEC, "tls", index), spec.hosts or (), at_gateway)
    for index, tcp in enumerate(spec.tcp or ()):
        yield from tcp_rule(tcp, (*_SPEC, "tcp", index))


def _hosts(spec: VirtualServiceSpec, at_gateway: bool) -> Iterator[Notice]:
    sni = any(match.sni_hosts for rule in spec.tls or () for match in rule.match or ())
    good = True
    for index, host in enumerate(spec.hosts or ()):
        loc = (*_SPEC, "hosts", index)
        problem = gateway_domain_problem(host, sni=sni) if at_gateway else wildcard_domain_problem(host)
        if problem and not is_ip(host):
            good = False
            if host:
                yield refused(
                    "bad-host", loc, f"{host!r} is not a host name: {problem}", "for example reviews or api.example.com"
                )
            else:
                yield refused("missing-host", loc, "the host is empty", "name a service, e.g. reviews")
        elif host == "*" and not at_gateway:
            good = False
            yield refused(
                "wildcard-host", loc, 'the host "*" is only for gateways', "name the hosts, or the gateways it is for"
            )
    if good:
        yield from _hosts_once(spec.hosts or ())


def _hosts_once(hosts: Sequence[str]) -> Iterator[Notice]:
    seen: dict[str, None] = {}  # in order: what is said of them is the same in each process
    wildcards: list[str] = []
    for index, host in enumerate(hosts):
        take_turns()
        others = seen if host.startswith("*") else wildcards
        same = host if host in seen else next((other for other in others if overlap(host, other)), "")
        if same:
            yield refused(
                "duplicate-host",
                (*_SPEC, "hosts", index),
                f"hosts names {host} twice" if same == host else f"{host} and {same} cover the same hosts",
                "keep one of them",
            )
        seen[host] = None
        if host.startswith("*"):
            wildcards.append(host)


def _delegate(spec: VirtualServiceSpec) -> Iterator[Notice]:
    """Without hosts it is a delegate: http rules only, for the gateways of the one that delegates."""
    if spec.gateways:
        yield refused(
            "delegate-with-gateways",
            (*_SPEC, "gateways"),
            "a VirtualService without hosts is a delegate: no gateways",
            "leave gateways out, or add hosts",
        )
    for kind in ("tls", "tcp"):
        if getattr(spec, kind):
            yield refused(
                "missing-field",
                (*_SPEC, kind),
                "hosts is missing, and a delegate has http rules only",
                "hosts: [reviews]",
            )


def warnings(resource: VirtualService) -> Iterator[Notice]:
    """Old names of gateways, addresses as server names, bodies that make every proxy's configuration large."""
    spec = resource.spec
    for index, name in enumerate(spec.gateways or ()):
        if "/" not in name and "." in name:
            gateway, _, rest = name.partition(".")
            yield warned(
                "old-gateway-name",
                (*_SPEC, "gateways", index),
                f"{name} is an old way to name a gateway",
                f"write {rest.partition('.')[0]}/{gateway}",
            )
    for index, rule in enumerate(spec.http or ()):
        body = rule.direct_response.body if rule.direct_response is not None else None
        if body is not None and max(len(body.string or ""), body.size_of_bytes) > _LARGE_BODY:
            yield warned(
                "large-body",
                (*_SPEC, "http", index, "directResponse", "body"),
                "the body has more than 100 kB, and every proxy keeps it",
                "serve it",
            )
    for index, tls in enumerate(spec.tls or ()):
        for position, match in enumerate(tls.match):
            for place, host in enumerate(match.sni_hosts):
                if is_ip(host):
                    yield warned(
                        "address-as-server-name",
                        (*_SPEC, "tls", index, "match", position, "sniHosts", place),
                        f"clients send no addresses as server names: {host} matches nothing",
                        "match destinationSubnets in a tcp rule",
                    )
