"""The rules of a ServiceEntry."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import TYPE_CHECKING

from meshlib.pace import take_turns
from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.validation.addresses import subnet
from meshlib.resources.validation.export_to import export_to
from meshlib.resources.validation.hosts import domain_problem, partial_wildcard, wildcard_domain_problem
from meshlib.resources.validation.labels import labels
from meshlib.resources.validation.protocols import TCP, is_http, is_tls, port_name, protocol_known
from meshlib.resources.validation.selection import label_refusals, selector_warnings
from meshlib.resources.validation.workload_entry import address_warnings, name_or_ip, port_names, workload

if TYPE_CHECKING:
    from meshlib.resources.service_entry import ServiceEntry, ServiceEntrySpec

_SPEC: Loc = ("spec",)
_WAYPOINT = "istio.io/use-waypoint"
_DYNAMIC = ("http", "http2", "grpc", "tls")


def refusals(resource: ServiceEntry) -> Iterator[Notice]:
    """Every rule, in the order of the fields."""
    spec = resource.spec
    yield from export_to(spec.export_to, resource.namespace, to_nobody=True)
    yield from _hosts(spec)
    yield from _addresses(spec)
    yield from _ports(spec)
    selector = spec.workload_selector
    if selector is not None:
        yield from label_refusals(selector.labels, (*_SPEC, "workloadSelector", "labels"))
        if spec.endpoints:
            yield refused(
                "several-sources",
                (*_SPEC, "endpoints"),
                "endpoints and workloadSelector exclude each other",
                "keep one of them",
            )
    names = {port.name for port in spec.ports or ()}
    if spec.resolution in (None, "NONE"):
        if spec.endpoints:
            yield refused(
                "resolution-none",
                (*_SPEC, "endpoints"),
                "resolution NONE takes no endpoints",
                "resolution: STATIC (addresses) or DNS (names)",
            )
    elif spec.resolution == "STATIC":
        for index, endpoint in enumerate(spec.endpoints or ()):
            take_turns()
            yield from workload(endpoint, (*_SPEC, "endpoints", index), names)
    elif spec.resolution == "DYNAMIC_DNS":
        yield from _dynamic_dns(spec, resource.labels.get(_WAYPOINT, ""))
    else:
        yield from _dns(spec, names)


def _hosts(spec: ServiceEntrySpec) -> Iterator[Notice]:
    if not spec.hosts:
        yield refused("missing-host", (*_SPEC, "hosts"), "hosts is empty", "name the hosts, e.g. api.example.com")
    for index, host in enumerate(spec.hosts):
        loc = (*_SPEC, "hosts", index)
        problem = wildcard_domain_problem(host)
        if host == "*":
            yield refused("wildcard-host", loc, 'the host "*" is too wide', 'name a domain, e.g. "*.example.com"')
        elif problem:
            yield refused("bad-host", loc, f"{host!r} is not a host name: {problem}", "for example api.example.com")


def _addresses(spec: ServiceEntrySpec) -> Iterator[Notice]:
    for index, address in enumerate(spec.addresses or ()):
        loc = (*_SPEC, "addresses", index)
        yield from subnet(address, loc)
        if "/" in address and spec.resolution not in (None, "NONE", "STATIC"):
            yield refused(
                "network-needs-addresses",
                loc,
                f"the network {address} needs resolution NONE or STATIC, not {spec.resolution}",
                "give single addresses",
            )


def _ports(spec: ServiceEntrySpec) -> Iterator[Notice]:
    numbers: set[int] = set()
    names: set[str] = set()
    for index, port in enumerate(spec.ports or ()):
        loc = (*_SPEC, "ports", index)
        if port.number in numbers:
            yield refused("duplicate-port", (*loc, "number"), f"port number {port.number} is used twice", "remove one")
        if port.name in names:
            yield refused("duplicate-port", (*loc, "name"), f"port name {port.name} is used twice", "rename one")
        numbers.add(port.number)
        names.add(port.name)
        yield from port_name(port.name, (*loc, "name"))
        yield from protocol_known(port.protocol, (*loc, "protocol"))
    if spec.resolution not in (None, "NONE") and len(spec.hosts) > 1:
        for index, port in enumerate(spec.ports or ()):
            if not is_http(port.protocol) and not is_tls(port.protocol):
                yield refused(
                    "several-hosts-on-tcp",
                    (*_SPEC, "ports", index, "protocol"),
                    f"bytes on port {port.number} do not tell which of {len(spec.hosts)} hosts they are for",
                    "one ServiceEntry a host, or protocol HTTP, HTTPS or TLS",
                )


def _dns(spec: ServiceEntrySpec, names: Set[str]) -> Iterator[Notice]:
    endpoints = spec.endpoints or []
    for index, host in enumerate(spec.hosts if not endpoints else ()):
        if host.startswith("*") or domain_problem(host):
            yield refused(
                "wildcard-dns",
                (*_SPEC, "hosts", index),
                f"{host!r} cannot be resolved: resolution {spec.resolution} needs endpoints for it",
                "give endpoints, or the whole name of the host",
            )
    if spec.resolution == "DNS_ROUND_ROBIN" and len(endpoints) > 1:
        yield refused(
            "too-many-endpoints",
            (*_SPEC, "endpoints"),
            "resolution DNS_ROUND_ROBIN takes one endpoint at most",
            "resolution: DNS",
        )
    for index, endpoint in enumerate(endpoints):
        take_turns()
        loc = (*_SPEC, "endpoints", index)
        yield from name_or_ip(endpoint.address or "", (*loc, "address"))
        yield from labels(endpoint.labels, (*loc, "labels"))
        yield from port_names(endpoint.ports, (*loc, "ports"), names)


def _dynamic_dns(spec: ServiceEntrySpec, waypoint: str) -> Iterator[Notice]:
    """Hosts are resolved as they are called: wildcards, without addresses or endpoints of their own."""
    for index, host in enumerate(spec.hosts):
        if not host.startswith("*"):
            yield refused(
                "dynamic-dns-host",
                (*_SPEC, "hosts", index),
                f"resolution DYNAMIC_DNS is for wildcards, and {host} is not one",
                'write "*.example.com", or resolution: DNS',
            )
    for name, given in (("addresses", spec.addresses), ("endpoints", spec.endpoints)):
        if given:
            yield refused(
                "dynamic-dns-address", (*_SPEC, name), f"resolution DYNAMIC_DNS takes no {name}", "leave them out"
            )
    for index, port in enumerate(spec.ports or ()):
        if (port.protocol or "").lower() not in _DYNAMIC:
            yield refused(
                "dynamic-dns-protocol",
                (*_SPEC, "ports", index, "protocol"),
                f"resolution DYNAMIC_DNS supports HTTP, HTTP2, GRPC and TLS, not {port.protocol or 'a port without protocol'}",
                "protocol: HTTP, for example",
            )
    if spec.location == "MESH_INTERNAL" and waypoint and waypoint.lower() != "none":
        yield refused(
            "dynamic-dns-waypoint",
            (*_SPEC, "location"),
            "resolution DYNAMIC_DNS and location MESH_INTERNAL exclude a waypoint",
            f"leave the label {_WAYPOINT} out, or location: MESH_EXTERNAL",
        )


def warnings(resource: ServiceEntry) -> Iterator[Notice]:
    """Hosts that match nothing, selectors that select nothing or everything, endpoints without an address."""
    spec = resource.spec
    for index, host in enumerate(spec.hosts):
        if partial_wildcard(host) and spec.resolution != "DYNAMIC_DNS":
            yield warned(
                "partial-wildcard",
                (*_SPEC, "hosts", index),
                f"{host} has a wildcard for a part of a label, which is for resolution DYNAMIC_DNS",
                'write "*.example.com"',
            )
    if spec.workload_selector is not None:
        yield from selector_warnings(spec.workload_selector.labels, (*_SPEC, "workloadSelector"))
        if spec.resolution in (None, "NONE"):
            yield warned(
                "selector-without-resolution",
                (*_SPEC, "workloadSelector"),
                "resolution NONE dials the caller's address, and selects no workloads",
                "resolution: STATIC",
            )
    if spec.resolution == "STATIC":
        for index, endpoint in enumerate(spec.endpoints or ()):
            yield from address_warnings(endpoint, (*_SPEC, "endpoints", index))
    tcp = any((port.protocol or "").lower() in TCP for port in spec.ports or ())
    if spec.resolution in ("DNS", "DNS_ROUND_ROBIN") and spec.addresses and len(spec.hosts) > 1 and tcp:
        yield warned(
            "several-hosts-on-tcp",
            (*_SPEC, "hosts"),
            "an address and a TCP port do not tell which of several hosts is meant",
            "one ServiceEntry a host",
        )
