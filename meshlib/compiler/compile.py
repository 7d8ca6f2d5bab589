"""``compile_snapshot``: the pure step from resources to what serves requests."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from meshlib.compiler.clusters import DEFAULT_LIMITS, cluster_key, compile_cluster
from meshlib.compiler.destination_rules import DestinationRules
from meshlib.compiler.effects_of_fields import inert_fields
from meshlib.compiler.rules import compile_rules, default_rule, sort_claims
from meshlib.compiler.scope import export_rank, exported_to, names_gateway
from meshlib.compiler.snapshot import (
    PASSTHROUGH,
    Cluster,
    Destination,
    HostRoutes,
    Rule,
    SkippedRule,
    Snapshot,
    VirtualHost,
)
from meshlib.errors import Problem, Severity
from meshlib.policy.rule_index import RuleIndex
from meshlib.registry.build import build_registry
from meshlib.registry.names import dial_names, most_specific, resolve
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.registry.service import Registry, Service
    from meshlib.resources.base import Resource

HTTP_DEFAULT_PORT = 80


def compile_snapshot(
    resources: Sequence[Resource], workload: Workload, *, domain: str = "cluster.local", version: str | None = None
) -> Snapshot:
    """The configuration of ``workload``'s client. Never raises for what resources say: what cannot be used is in
    ``Snapshot.problems``, and the call that needs it is answered as Envoy would (404 NR, 503 NC, 503 UH)."""
    return _Compiler(resources, workload, domain).snapshot(version)


class _Compiler:
    def __init__(self, resources: Sequence[Resource], workload: Workload, domain: str) -> None:
        self.resources = resources
        self.workload = workload
        self.domain = domain
        self.registry: Registry = build_registry(resources, domain)
        self.problems: list[Problem] = list(self.registry.problems)
        rules: list[Any] = [r for r in resources if r.kind == "DestinationRule"]
        self.destination_rules = DestinationRules(rules, workload, domain)
        self.clusters: dict[str, Cluster] = {}
        self.missing: dict[tuple[str, str, int, str], Destination] = {}
        self.claims, self.wildcard_claims = self._claims()

    # -- virtual services -------------------------------------------------------------------------------------------

    def _claims(self) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        client = self.workload.namespace
        visible: list[Any] = [
            r
            for r in self.resources
            if r.kind == "VirtualService"
            and r.spec.hosts  # type: ignore[attr-defined]
            and names_gateway(r.spec.gateways)  # type: ignore[attr-defined]
            and exported_to(r.spec.export_to, r.namespace, client)  # type: ignore[attr-defined]
        ]
        exact: dict[str, list[Any]] = {}
        wildcard: dict[str, list[Any]] = {}
        for resource in sort_claims(visible, lambda v: export_rank(v.spec.export_to, v.namespace, client)):
            for host in resource.spec.hosts or ():
                name = resolve(host, resource.namespace, self.domain)
                (wildcard if name.startswith("*") else exact).setdefault(name, []).append(resource)
        return exact, wildcard

    def _claimants(self, host: str) -> list[Any]:
        found = self.claims.get(host)
        if found is None and self.wildcard_claims:
            pattern = most_specific(list(self.wildcard_claims), host)
            found = self.wildcard_claims.get(pattern) if pattern is not None else None
        return found or []

    def _virtual_host(self, host: str, port: int, service: Service | None) -> VirtualHost | None:
        """First VirtualService that yields a rule for this client and port; else the service's default route."""
        skipped: list[SkippedRule] = []
        for resource in self._claimants(host):
            rules, left_out = compile_rules(resource, self.workload, port, self._destination)
            if rules:
                return _make_virtual_host(host, port, resource.id, rules, left_out)
            skipped = skipped or left_out
        if service is None:
            return None
        destination = self._service_destination(service, "", port, "")
        note = "no rule of its VirtualService is for this client" if skipped else "no VirtualService claims this host"
        return _make_virtual_host(host, port, "", [default_rule(destination)], skipped, note)

    # -- destinations -----------------------------------------------------------------------------------------------

    def _destination(self, model: Any, namespace: str, dialled_port: int) -> Destination:
        host = resolve(model.host, namespace, self.domain)
        subset = model.subset or ""
        wanted = model.port.number if model.port is not None and model.port.number else 0
        cached = self.missing.get((host, subset, wanted or -dialled_port, namespace))
        if cached is not None:
            return cached
        service = self.registry.lookup(host, self.workload.namespace)
        if service is None:
            found = Destination(host, subset, wanted, 0, "", f"host {host} is not in the registry")
        else:
            numbers = [p.number for p in service.ports]
            port = wanted or (dialled_port if dialled_port in numbers else 0)
            port = port or (numbers[0] if len(numbers) == 1 else dialled_port)
            found = self._service_destination(service, subset, port, f"host {host}")
        self.missing[host, subset, wanted or -dialled_port, namespace] = found
        return found

    def _service_destination(self, service: Service, subset: str, port: int, what: str) -> Destination:
        host = service.host
        if port not in [p.number for p in service.ports]:
            ports = ", ".join(str(p.number) for p in service.ports) or "none"
            return Destination(host, subset, port, 0, "", f"{what} has no port {port} (it has {ports})")
        rule = self.destination_rules.find(host, service.namespace)
        if subset and (rule is None or subset not in rule.subsets):
            where = f"{rule.id} has {', '.join(rule.subsets) or 'no subsets'}" if rule else "it has no DestinationRule"
            return Destination(host, subset, port, 0, "", f"{what} has no subset {subset}: {where}")
        key = cluster_key(host, subset, port)
        if key not in self.clusters:
            self.clusters[key] = compile_cluster(service, rule, subset, port)
        return Destination(host, subset, port, 1, key)

    # -- hosts ------------------------------------------------------------------------------------------------------

    def snapshot(self, version: str | None) -> Snapshot:
        hosts: dict[str, HostRoutes] = {}
        wildcards: dict[str, HostRoutes] = {}
        for service in self.registry.visible(self.workload.namespace):
            ports = {p.number: self._virtual_host(service.host, p.number, service) for p in service.ports}
            routes = _host_routes(ports)
            for name in self._names(service):
                _register(name, routes, hosts, wildcards)
        for host in (*self.claims, *self.wildcard_claims):
            if host in hosts or (host.startswith("*") and host.removeprefix("*").removeprefix(".") in wildcards):
                continue
            if host.startswith("*") and not self._serves_alone(host):
                continue
            # Istio gives hosts outside the registry a virtual host on port 80 only
            routes = _host_routes({HTTP_DEFAULT_PORT: self._virtual_host(host, HTTP_DEFAULT_PORT, None)})
            if routes.ports:
                for name in self._outside_names(host):
                    _register(name, routes, hosts, wildcards)
        self.problems += self.destination_rules.problems
        self.problems += inert_fields(self.resources)
        self._report_missing(hosts)
        self._report_refusals()
        passthrough = Destination(PASSTHROUGH, "", 0, 1, PASSTHROUGH)
        self.clusters[PASSTHROUGH] = Cluster(
            PASSTHROUGH, PASSTHROUGH, "", 0, (), DEFAULT_LIMITS, resolution="passthrough"
        )
        return Snapshot(
            version=version or _version(self.resources),
            workload=self.workload,
            hosts=hosts,
            wildcards=wildcards,
            clusters=self.clusters,
            passthrough=_make_virtual_host(
                "*",
                0,
                "",
                [default_rule(passthrough)],
                [],
                "the host is not in the registry: passed through (ALLOW_ANY)",
            ),
            blocked=_make_virtual_host("*", 0, "", [], [], "the host is not in the registry: blocked (REGISTRY_ONLY)"),
            problems=tuple(self.problems),
            resource_count=len(self.resources),
        )

    def _names(self, service: Service) -> Iterable[str]:
        if service.kind == "kubernetes":
            yield from dial_names(service.host, service.namespace, self.workload.namespace, self.domain)
        else:
            yield service.host
        for address in service.addresses:
            if _is_ip(address):
                yield address

    def _outside_names(self, host: str) -> Iterable[str]:
        suffix = f".svc.{self.domain}"
        if host.endswith(suffix) and host.count(".") == suffix.count(".") + 1:
            namespace = host.removesuffix(suffix).split(".")[1]
            yield from dial_names(host, namespace, self.workload.namespace, self.domain)
        else:
            yield host

    def _serves_alone(self, pattern: str) -> bool:
        """A wildcard VirtualService makes its own virtual host only for names that no service has."""
        return pattern != "*"

    def _report_refusals(self) -> None:
        by_id = {r.id: r for r in self.resources}
        refused = {(c.destination_rule, c.refusal) for c in self.clusters.values() if c.refusal}
        for rule, reason in sorted(refused):
            origin = by_id[rule].origin
            self.problems.append(
                Problem(
                    "tls-not-available",
                    Severity.WARNING,
                    origin.file,
                    origin.line,
                    origin.column,
                    rule,
                    reason,
                    "calls to it fail rather than go out in plaintext",
                )
            )

    def _report_missing(self, hosts: dict[str, HostRoutes]) -> None:
        seen: set[tuple[str, str]] = set()
        by_id = {r.id: r for r in self.resources}
        for routes in hosts.values():
            for vhost in routes.ports.values():
                for rule in vhost.rules:
                    for target in (*rule.destinations, *(mirror.destination for mirror in rule.mirrors)):
                        if not target.missing or not vhost.resource or (vhost.resource, target.missing) in seen:
                            continue
                        seen.add((vhost.resource, target.missing))
                        origin = by_id[vhost.resource].origin
                        self.problems.append(
                            Problem(
                                "unknown-destination",
                                Severity.WARNING,
                                origin.file,
                                origin.line,
                                origin.column,
                                f"{vhost.resource} spec.http[{rule.index}].route",
                                target.missing,
                                "calls that take this route are answered 503 (flag NC); "
                                "add the Service, ServiceEntry or DestinationRule subset",
                            )
                        )


def _make_virtual_host(
    host: str,
    port: int,
    resource: str,
    rules: Sequence[Rule],
    skipped: Sequence[SkippedRule],
    note: str = "",
) -> VirtualHost:
    single = rules[0] if rules and not rules[0].matches else None
    index = RuleIndex([rule.matches for rule in rules])
    return VirtualHost(host, port, resource, tuple(rules), index, tuple(skipped), note, single)


def _host_routes(ports: dict[int, VirtualHost | None]) -> HostRoutes:
    there = {number: vhost for number, vhost in ports.items() if vhost is not None}
    return HostRoutes(there, next(iter(there.values())) if len(there) == 1 else None)


def _register(name: str, routes: HostRoutes, hosts: dict[str, HostRoutes], wildcards: dict[str, HostRoutes]) -> None:
    if name.startswith("*"):
        wildcards.setdefault(name.removeprefix("*").removeprefix("."), routes)
    else:
        hosts.setdefault(name, routes)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _version(resources: Iterable[Resource]) -> str:
    """A short hash that changes when any resource does; shown in status."""
    digest = hashlib.sha256()
    for resource in resources:
        digest.update(resource.model_dump_json(exclude_unset=True).encode())
    return digest.hexdigest()[:12]
