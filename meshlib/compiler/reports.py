"""What a compiled configuration has to say about itself: destinations that do not exist, hosts that several resources
claim, mirrors that come back, TLS that cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.scope import names_gateway
from meshlib.pace import take_turns
from meshlib.problems import Problem, Severity
from meshlib.registry.local import field_path
from meshlib.registry.names import resolve
from meshlib.registry.service import LOCAL

if TYPE_CHECKING:
    from meshlib.compiler.destination_rules import MergedRule
    from meshlib.compiler.routes import Cluster, Destination, L4Host, VirtualHost
    from meshlib.registry.lack import Lack
    from meshlib.registry.registry import Registry
    from meshlib.resources.base import Resource
    from meshlib.resources.destination_rule import DestinationRule
    from meshlib.resources.local_endpoints import LocalEndpoints
    from meshlib.resources.virtual_service import VirtualService


def _warning(resource: Resource, code: str, path: str, message: str, hint: str) -> Problem:
    origin = resource.origin
    return Problem(code, Severity.WARNING, origin.file, origin.line, origin.column, path, message, hint)


def _resource(vhost: VirtualHost, by_id: Mapping[str, Resource]) -> Resource | None:
    return by_id.get(vhost.resource.partition(", ")[0])


def missing_destinations(
    virtual_hosts: Iterable[VirtualHost], l4: Iterable[L4Host], by_id: Mapping[str, Resource]
) -> Iterator[Problem]:
    """Rules whose host, subset or port is not there; each thing once."""
    seen: set[tuple[str, str]] = set()
    found: list[tuple[str, str, Destination]] = []
    looked_at: set[int] = set()
    for vhost in virtual_hosts:
        if vhost.tcp or id(vhost.rules) in looked_at:
            continue  # of tcp and tls rules ``l4`` tells; the hosts and ports of a VirtualService mostly have the same rules
        looked_at.add(id(vhost.rules))
        for rule in vhost.rules:
            take_turns()
            targets = rule.destinations
            if rule.mirrors:
                targets = (*targets, *(mirror.destination for mirror in rule.mirrors))
            for target in targets:
                if target.missing:
                    break
            else:
                continue
            where = f"{vhost.resource} spec.http[{rule.index}].route"
            found += [(vhost.resource, (rule.delegate and f"{where} ({rule.delegate})") or where, t) for t in targets]
    for host in l4:
        for l4_rule in (*host.tls, *host.tcp):
            where = f"{host.resource} spec.{l4_rule.kind}[{l4_rule.index}].route"
            found += [(host.resource, where, t) for t in l4_rule.destinations]
    for name, where, target in found:
        take_turns()
        resource = by_id.get(name.partition(", ")[0])
        if not target.missing or resource is None or (name, target.missing) in seen:
            continue
        seen.add((name, target.missing))
        yield _warning(
            resource,
            "unknown-destination",
            where,
            target.missing,
            f"calls that take this route get 503 (flag NC); {target.lack.remedy}"
            if target.lack is not None
            else "calls that take this route get 503 (flag NC); "
            "add the Service, ServiceEntry or DestinationRule subset",
        )


def mirrors_to_themselves(virtual_hosts: Iterable[VirtualHost], by_id: Mapping[str, Resource]) -> Iterator[Problem]:
    """Rules that mirror to the very cluster they send to: every copy doubles the load there."""
    for vhost in virtual_hosts:
        for rule in vhost.rules:
            take_turns()
            if not rule.mirrors:
                continue
            targets = {d.cluster for d in rule.destinations if d.cluster}
            for mirror in rule.mirrors:
                resource = _resource(vhost, by_id)
                if mirror.destination.cluster in targets and resource is not None:
                    yield _warning(
                        resource,
                        "mirror-to-itself",
                        f"{vhost.resource} spec.http[{rule.index}].mirror",
                        f"the rule mirrors to its own destination {mirror.destination.host}"
                        + (f" subset {mirror.destination.subset}" if mirror.destination.subset else ""),
                        "it gets such requests twice; mirror to another host or subset",
                    )


def overlaps(*claims: Mapping[str, Sequence[VirtualService]]) -> Iterator[Problem]:
    """Hosts that several VirtualServices of the mesh claim: the first (the oldest) serves them, as in Istio."""
    for table in claims:
        for host, services in table.items():
            first = services[0]
            for other in services[1:]:
                if other is first:
                    continue
                yield _warning(
                    other,
                    "host-claimed-twice",
                    f"{other.id} spec.hosts",
                    f"{first.id} claims {host} already and is the older or nearer one: as long as it has a rule for a "
                    "client, these rules are not used",
                    f"merge them into {first.id}, or delegate from it",
                )


def full_name_of(host: str, domain: str) -> str:
    """The full name of what looks like a Service's ``name.namespace`` or ``name.namespace.svc``; "" of other hosts."""
    labels = host.lower().split(".")
    if "*" in host or len(labels) not in (2, 3) or (len(labels) == 3 and labels[2] != "svc"):
        return ""
    return f"{labels[0]}.{labels[1]}.svc.{domain}"


def partial_hosts(virtual_services: Iterable[VirtualService], registry: Registry, domain: str) -> Iterator[Problem]:
    """Hosts of VirtualServices that are a part of a Service's full name: to Istio they are just what they say."""
    for resource in virtual_services:
        if not names_gateway(resource.spec.gateways):
            continue
        for position, host in enumerate(resource.spec.hosts or ()):
            full = full_name_of(host, domain)
            if full and registry.definitions(full) and not registry.definitions(host.lower()):
                yield _warning(
                    resource,
                    "partial-host",
                    f"{resource.id} spec.hosts[{position}]",
                    f"{host} is not the name of a Service: as in Istio the rules are for requests to exactly that name, "
                    f"on port 80, and not for {full}",
                    f"write {full}",
                )


def local_endpoints(
    resources: Iterable[LocalEndpoints],
    registry: Registry,
    rule_of: Callable[[str], MergedRule | None],
    clusters: Iterable[Cluster],
    domain: str,
) -> Iterator[Problem]:
    """Subsets that the client's DestinationRule does not have, hosts that are a part of a Service's full name, and subsets
    that are called and have no address."""
    resources = list(resources)
    if resources:
        yield from _without_address(resources, clusters, domain)
    for resource in resources:
        for index, entry in enumerate(resource.spec.hosts):
            host = resolve(entry.host, resource.namespace, domain)
            loc: tuple[str | int, ...] = ("spec", "hosts", index)
            full = full_name_of(host, domain)
            if full and registry.definitions(full) and all(s.kind == LOCAL for s in registry.definitions(host)):
                message = f"{entry.host} is not the name of a Service, and these addresses are not used for {full}"
                yield _of_field(resource, (*loc, "host"), "partial-host", message, f"write {full}")
            if entry.subset is None:
                continue
            rule = rule_of(host)
            if rule is None or entry.subset not in rule.subsets:
                known = (
                    f"{rule.id} has {', '.join(rule.subsets) or 'no subsets'}" if rule else "it has no DestinationRule"
                )
                yield _of_field(
                    resource,
                    (*loc, "subset"),
                    "unknown-subset",
                    f"no DestinationRule has the subset {entry.subset} of {host}, so its addresses have no labels: {known}",
                    "name one of these subsets"
                    if rule and rule.subsets
                    else "add the subset to a DestinationRule of the host",
                )


def _without_address(
    resources: Iterable[LocalEndpoints], clusters: Iterable[Cluster], domain: str
) -> Iterator[Problem]:
    lacking: dict[str, dict[str, Lack]] = {}
    for cluster in clusters:
        if cluster.lack is not None and cluster.subset:
            lacking.setdefault(cluster.host, {}).setdefault(cluster.subset, cluster.lack)
    for resource in resources:
        for index, entry in enumerate(resource.spec.hosts):
            for _, lack in sorted(lacking.pop(resolve(entry.host, resource.namespace, domain), {}).items()):
                hint = f"calls to it get 503 (flag UH) until there is one; {lack.remedy}"
                loc = ("spec", "hosts", index, "host")
                yield _of_field(resource, loc, "no-endpoints", lack.message, hint, Severity.NOTICE)


def _of_field(
    resource: LocalEndpoints,
    loc: tuple[str | int, ...],
    code: str,
    message: str,
    hint: str,
    severity: Severity = Severity.WARNING,
) -> Problem:
    line, column = resource.place_of(loc)
    path = field_path(resource, loc)
    return Problem(code, severity, resource.origin.file, line, column, path, message, hint)


def refusals(clusters: Iterable[Cluster], rules: Iterable[DestinationRule]) -> Iterator[Problem]:
    """Clusters that no call may reach, because the TLS that their policy (one of ``rules``) requires cannot be established."""
    refused = sorted({(c.destination_rule, c.refusal) for c in clusters if c.refusal})
    by_id = {rule.id: rule for rule in rules} if refused else {}
    for rule, reason in refused:
        yield _warning(
            by_id[rule], "tls-not-available", rule, reason, "calls to it fail rather than go out in plaintext"
        )
