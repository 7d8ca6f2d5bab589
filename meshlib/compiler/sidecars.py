"""Sidecar (networking.istio.io): what a workload sees through each of its egress listeners, and what becomes of hosts it does
not.

One Sidecar counts: the oldest whose workloadSelector fits, else the oldest without selector in the workload's namespace,
else in the root namespace, else the whole mesh is seen. Each egress listener imports Services and VirtualServices on its own:
one with a port is all there is on that port, one without (the last) is for every other port.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.compiler.mesh_settings import DEFAULTS, MeshSettings
from meshlib.registry.names import is_within, overlap
from meshlib.registry.service import HTTP_PROTOCOLS
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.registry.service import ServicePort
    from meshlib.resources.sidecar import Egress, EgressProxy, Sidecar


@dataclass(frozen=True, slots=True)
class Imports:
    """The hosts that one listener imports from one namespace (``*``: from all)."""

    exact: frozenset[str] = frozenset()
    wildcards: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def has(self, host: str) -> bool:
        """Whether it imports a service of this host."""
        return host in self.exact or any(is_within(host, pattern) for pattern in self.wildcards)

    def touches(self, host: str) -> bool:
        """Whether it imports a VirtualService for this host: a wildcard there may be wider than what is imported."""
        if host in self.exact or any(overlap(host, pattern) for pattern in self.wildcards):
            return True
        return host.startswith("*") and any(is_within(name, host) for name in self.exact)

    def excludes(self, host: str) -> bool:
        return any(is_within(host, pattern) for pattern in self.excluded)


NOTHING = Imports()
HTTP_PROXY = "http_proxy"


@dataclass(frozen=True, slots=True)
class EgressListener:
    """One entry of ``spec.egress``. ``port`` 0: every port that no other listener has; ``protocol`` is its port's. One that is
    ``bound`` to an address of its own (``bind``, captureMode NONE), or a proxy that callers would have to name (HTTP_PROXY), is
    not where calls to services arrive. ``imports`` by namespace; None: everything."""

    port: int = 0
    protocol: str = ""
    bound: bool = False
    imports: Mapping[str, Imports] | None = None

    @property
    def one_port(self) -> bool:
        """Whether it shows just the port that it has."""
        return self.port != 0 and self.protocol != HTTP_PROXY

    def ports_of(self, namespace: str, host: str, ports: Sequence[ServicePort]) -> Sequence[ServicePort]:
        """Those ports of a service of ``namespace`` that it shows; none when it does not import the service."""
        if self.imports is not None:
            here, anywhere = self.imports.get(namespace, NOTHING), self.imports.get("*", NOTHING)
            if here.excludes(host) or anywhere.excludes(host) or not (here.has(host) or anywhere.has(host)):
                return ()
        return [p for p in ports if p.number == self.port] if self.one_port else ports

    def sees(self, namespace: str, hosts: Iterable[str]) -> bool:
        """Whether it imports a VirtualService of ``namespace`` for these (full) hosts: one of them is enough."""
        if self.imports is None:
            return True
        here, anywhere = self.imports.get(namespace, NOTHING), self.imports.get("*", NOTHING)
        return any(
            (here.touches(host) or anywhere.touches(host)) and not here.excludes(host) and not anywhere.excludes(host)
            for host in hosts
        )


WHOLE_MESH = (EgressListener(),)


@dataclass(frozen=True, slots=True)
class SidecarScope:
    """What the workload sees. ``resource`` is "" when no Sidecar counts."""

    resource: str = ""
    listeners: tuple[EgressListener, ...] = WHOLE_MESH
    allow_any: bool = True
    egress_proxy: EgressProxy | None = None

    @property
    def as_bytes(self) -> frozenset[int]:
        """Ports that its listeners declare to be something other than HTTP, which counts for all services that they show."""
        return frozenset(each.port for each in self.listeners if each.port and each.protocol not in HTTP_PROTOCOLS)

    def listener(self, port: int) -> EgressListener | None:
        """The listener whose imports make the virtual hosts of a port; None: there are none."""
        return next((found for found in self.listeners if found.port in (0, port)), None)


EVERYTHING = SidecarScope()


def sidecar_scope(sidecars: Sequence[Sidecar], workload: Workload, settings: MeshSettings = DEFAULTS) -> SidecarScope:
    """The scope of ``workload``."""
    chosen = choose(sidecars, workload, settings.root_namespace)
    if chosen is None:
        return EVERYTHING if settings.allow_any else SidecarScope(allow_any=False)
    spec = chosen.spec
    policy = spec.outbound_traffic_policy
    # an empty block means REGISTRY_ONLY: that is value 0 of Istio's enum; without a block the mesh's counts
    allow_any = settings.allow_any if policy is None else policy.mode == "ALLOW_ANY"
    listeners = tuple(_listener(model, workload.namespace) for model in spec.egress or ()) or WHOLE_MESH
    proxy = policy.egress_proxy if policy is not None else None
    return SidecarScope(chosen.id, listeners, allow_any, proxy)


def choose(sidecars: Sequence[Sidecar], workload: Workload, root_namespace: str) -> Sidecar | None:
    """The one Sidecar that counts for ``workload``."""
    by_age = sorted(sidecars, key=lambda s: s.age_key)
    own = [s for s in by_age if s.namespace == workload.namespace]
    labels = workload.labels
    for sidecar in own:
        wanted = _labels(sidecar)
        if wanted and all(labels.get(key) == value for key, value in wanted.items()):
            return sidecar
    for place in (own, [s for s in by_age if s.namespace == root_namespace]):
        for sidecar in place:
            if not _labels(sidecar):
                return sidecar
    return None


def _labels(sidecar: Sidecar) -> dict[str, str]:
    selector = sidecar.spec.workload_selector
    return (selector.labels or {}) if selector is not None else {}


def _listener(model: Egress, namespace: str) -> EgressListener:
    port = model.port
    protocol = (port.protocol or "").lower() if port is not None else ""
    return EgressListener(
        port=(port.number or 0) if port is not None else 0,
        protocol=protocol,
        bound=bool(model.bind) or model.capture_mode == "NONE" or protocol == HTTP_PROXY,
        imports=_imports(model.hosts or (), namespace),
    )


def _imports(hosts: Sequence[str], namespace: str) -> dict[str, Imports]:
    """``namespace/host`` entries by namespace: ``.`` is the workload's, ``*`` any; ``~namespace`` takes away what other
    entries give, ``~`` alone from all of them."""
    sorted_out: dict[str, tuple[list[str], list[str]]] = {}
    for text in hosts:
        where, slash, host = text.partition("/")
        if not slash:
            where, host = "*", where
        excluded = where.startswith("~")
        if excluded:
            where = where[1:] or "*"
        wanted, unwanted = sorted_out.setdefault(namespace if where == "." else where, ([], []))
        (unwanted if excluded else wanted).append(host.lower())
    return {
        where: Imports(
            frozenset(host for host in wanted if not host.startswith("*")),
            tuple(host for host in wanted if host.startswith("*")),
            tuple(unwanted),
        )
        for where, (wanted, unwanted) in sorted_out.items()
    }
