"""The hosts that a mesh has, each with who may see it: as istioctl's analyzers look them up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.analysis.nearest import Nearest, did_you_mean
from meshlib.registry.kubernetes import EXPORT_TO
from meshlib.registry.names import DOMAIN, resolve

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.resources.kubernetes import Service
    from meshlib.resources.local_endpoints import LocalEndpoints
    from meshlib.resources.service_entry import ServiceEntry

EVERYWHERE = "*"


@dataclass(frozen=True, slots=True)
class KnownHost:
    """``ports`` are (number, name); None when they cannot be told, as the resource has errors, or names none. ``selector`` of
    a Kubernetes Service or a ServiceEntry; None for no selector."""

    host: str
    resource: Service | ServiceEntry | LocalEndpoints
    ports: tuple[tuple[int, str], ...] | None
    selector: Mapping[str, str] | None


class Hosts:
    """Hosts of Services and ServiceEntries, by the namespaces that may see them; and those that a LocalEndpoints makes."""

    def __init__(
        self, services: Iterable[Service], entries: Iterable[ServiceEntry], local: Iterable[LocalEndpoints] = ()
    ) -> None:
        self._scoped: dict[tuple[str, str], KnownHost] = {}
        self._names: dict[str, KnownHost] = {}
        self._by_suffix: dict[int, dict[tuple[str, str], KnownHost]] = {}
        self._nearest: Nearest | None = None
        self._namespaces_of: dict[str, list[str]] | None = None
        for entry in entries:
            self._add_entry(entry)
        for service in services:
            self._add_service(service)
        self._local: set[str] = set()
        for resource in local:
            self._add_local(resource)

    def _add_entry(self, entry: ServiceEntry) -> None:
        spec = entry.spec
        ports = None if _lost(entry, "ports") else tuple((p.number or 0, p.name or "") for p in spec.ports or ())
        selector = spec.workload_selector.labels or {} if spec.workload_selector is not None else None
        for host in spec.hosts or ():
            known = KnownHost(full_name(host, entry.namespace), entry, ports, selector)
            for scope in scopes(spec.export_to, entry.namespace):
                self._add(scope, known)

    def _add_service(self, service: Service) -> None:
        spec = service.spec
        ports = None if _lost(service, "ports") else tuple((p.port or 0, p.name or "") for p in spec.ports or ())
        host = f"{service.name}.{service.namespace}.svc.{DOMAIN}"
        known = KnownHost(host, service, ports, spec.selector or None)
        exported = [part.strip() for part in service.annotations.get(EXPORT_TO, "").split(",") if part.strip()]
        for scope in scopes(exported, service.namespace):
            self._add(scope, known)

    def _add_local(self, resource: LocalEndpoints) -> None:
        for entry in resource.spec.hosts or ():
            name = full_name(entry.host or "", resource.namespace)
            self._local.add(name)
            if name not in self._names:
                self._add(EVERYWHERE, KnownHost(name, resource, None, None))

    def is_local(self, known: KnownHost) -> bool:
        """Whether a LocalEndpoints gives the endpoints of a host, with the labels of their subsets."""
        return known.host in self._local

    def _add(self, scope: str, known: KnownHost) -> None:
        self._scoped[scope, known.host] = known
        self._names.setdefault(known.host, known)
        if known.host.startswith("*"):
            suffix = known.host[1:]
            self._by_suffix.setdefault(len(suffix), {})[scope, suffix] = known

    def find(self, host: str, namespace: str, export_to: Sequence[str] | None) -> KnownHost | None:
        """The host that a resource of ``namespace``, exported to ``export_to``, means by ``host``."""
        name = full_name(host, namespace)
        exported = [namespace if e == "." else e for e in export_to or (".",)]
        for scope in (EVERYWHERE, *exported):
            known = self._scoped.get((scope, name))
            if known is not None:
                return known
        bare = name.removeprefix("*")
        for length in sorted(self._by_suffix, reverse=True):
            if length <= len(bare):
                table = self._by_suffix[length]
                suffix = bare[len(bare) - length :]
                found = table.get((EVERYWHERE, suffix)) or table.get((namespace, suffix))
                if found is not None:
                    return found
        return None

    def covered_by(self, pattern: str) -> bool:
        """Whether any host is covered by a pattern such as ``*.example.com``."""
        suffix = pattern.removeprefix("*")
        return any(name.endswith(suffix) for name in self._names)

    def hidden(self, host: str, namespace: str) -> KnownHost | None:
        """The host of that very name, whoever may see it."""
        return self._names.get(full_name(host, namespace))

    def hint(self, host: str, namespace: str, what: str) -> str:
        """What to do about a host that is not there; ``what`` is the remedy where nothing is near."""
        name = full_name(host, namespace)
        hidden = self._names.get(name)
        if hidden is not None:
            return f"{hidden.resource.id} has it, and is not exported to namespace {namespace}"
        return did_you_mean(self.near(host, namespace)) or what

    def near(self, host: str, namespace: str) -> str:
        """The name, as short as it can be written in ``namespace``, of the host that is probably meant."""
        short, dot, rest = host.partition(".")
        for inside in (f"{host}.svc.{DOMAIN}", f"{host}.{DOMAIN}"):  # reviews.default, which Istio takes as it stands
            if dot and inside in self._names:
                return inside
        if self._namespaces_of is None:
            self._namespaces_of = {}
            for name, known in self._names.items():
                if known.resource.kind == "Service":
                    self._namespaces_of.setdefault(name.partition(".")[0], []).append(known.resource.namespace)
        elsewhere = self._namespaces_of.get(short, [])
        if elsewhere and (not dot or rest.endswith(f".svc.{DOMAIN}")):
            return f"{short}.{elsewhere[0]}.svc.{DOMAIN}"
        if self._nearest is None:
            self._nearest = Nearest(self._names)
        near = self._nearest.of(full_name(host, namespace))
        mine = f".{namespace}.svc.{DOMAIN}"
        return near.removesuffix(mine) if not dot and near.endswith(mine) else near

    def __iter__(self) -> Iterator[KnownHost]:
        return iter(self._names.values())


def full_name(host: str, namespace: str) -> str:
    """A short name with namespace and domain; any other as it is."""
    return resolve(host, namespace)


def scopes(export_to: Sequence[str] | None, namespace: str) -> list[str]:
    """The namespaces that exportTo names, ``*`` alone for all."""
    if not export_to or EVERYWHERE in export_to:
        return [EVERYWHERE]
    return list(dict.fromkeys(namespace if e == "." else e for e in export_to))


def matches(pattern: str, host: str) -> bool:
    """Whether two host names, each of which may be a wildcard, have a host in common: Istio's ``host.Name.Matches``."""
    if pattern.startswith("*") and host.startswith("*"):
        one, other = pattern[1:], host[1:]
        return other.endswith(one) if len(one) < len(other) else one.endswith(other)
    if pattern.startswith("*"):
        return host.endswith(pattern[1:])
    if host.startswith("*"):
        return pattern.endswith(host[1:])
    return pattern == host


def _lost(resource: Resource, field: str) -> bool:
    return any(loc[:2] == ("spec", field) for loc in resource.lost_fields)
