"""Sidecar (networking.istio.io): which services a workload sees, and what becomes of hosts it does not.

One Sidecar counts: the oldest whose workloadSelector fits, else the oldest without selector in the workload's namespace,
else in the root namespace, else the whole mesh is seen. Destinations of VirtualServices that are seen are seen too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshlib.compiler.scope import ROOT_NAMESPACE
from meshlib.registry.names import wildcard_matches
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.resources.sidecar import Sidecar


@dataclass(frozen=True, slots=True)
class EgressHost:
    """One entry of ``egress.hosts``. ``namespace`` is a name, ``*``, or ``~``, which is nobody's; ``port`` 0 means every port;
    ``excluded`` takes away what other entries gave (``~ns/host``)."""

    namespace: str
    host: str
    port: int = 0
    excluded: bool = False

    def covers(self, namespace: str, host: str) -> bool:
        """Whether it names this host of this namespace."""
        return self.namespace in ("*", namespace) and wildcard_matches(self.host, host)


@dataclass(frozen=True, slots=True)
class SidecarScope:
    """What the workload sees. ``resource`` is "" when no Sidecar counts."""

    resource: str = ""
    hosts: tuple[EgressHost, ...] | None = None  # None: everything
    allow_any: bool = True
    egress_proxy: Any = None

    def ports_of(self, namespace: str, host: str, ports: Iterable[int]) -> list[int]:
        """Those ports of a service that may be called; empty when the service is not seen."""
        if self.hosts is None:
            return list(ports)
        if any(h.excluded and h.covers(namespace, host) for h in self.hosts):
            return []
        fitting = [h for h in self.hosts if not h.excluded and h.covers(namespace, host)]
        return [port for port in ports if any(h.port in (0, port) for h in fitting)]

    def sees(self, namespace: str, hosts: Iterable[str]) -> bool:
        """Whether a resource of ``namespace`` about these hosts counts."""
        if self.hosts is None:
            return True
        for host in hosts:
            if any(h.excluded and h.covers(namespace, host) for h in self.hosts):
                continue
            # a wildcard in the VirtualService may be wider than what the Sidecar names
            if any(not h.excluded and (h.covers(namespace, host) or _inside(h, namespace, host)) for h in self.hosts):
                return True
        return False


def _inside(egress: EgressHost, namespace: str, host: str) -> bool:
    return egress.namespace in ("*", namespace) and host.startswith("*") and wildcard_matches(host, egress.host)


EVERYTHING = SidecarScope()


def sidecar_scope(sidecars: Sequence[Sidecar], workload: Workload) -> SidecarScope:
    """The scope of ``workload``."""
    chosen = choose(sidecars, workload)
    if chosen is None:
        return EVERYTHING
    spec = chosen.spec
    policy = spec.outbound_traffic_policy
    # an empty block means REGISTRY_ONLY: that is value 0 of Istio's enum; no block leaves the mesh's ALLOW_ANY
    allow_any = policy is None or policy.mode == "ALLOW_ANY"
    hosts: tuple[EgressHost, ...] | None = None
    if spec.egress:
        hosts = tuple(
            _egress_host(text, workload.namespace, listener.port)
            for listener in spec.egress
            for text in listener.hosts or ()
        )
    proxy = policy.egress_proxy if policy is not None else None
    return SidecarScope(chosen.id, hosts, allow_any, proxy)


def choose(sidecars: Sequence[Sidecar], workload: Workload) -> Sidecar | None:
    """The one Sidecar that counts for ``workload``."""
    by_age = sorted(sidecars, key=lambda s: s.age_key)
    own = [s for s in by_age if s.namespace == workload.namespace]
    labels = workload.labels
    for sidecar in own:
        wanted = _labels(sidecar)
        if wanted and all(labels.get(key) == value for key, value in wanted.items()):
            return sidecar
    for place in (own, [s for s in by_age if s.namespace == ROOT_NAMESPACE]):
        for sidecar in place:
            if not _labels(sidecar):
                return sidecar
    return None


def _labels(sidecar: Sidecar) -> dict[str, str]:
    selector = sidecar.spec.workload_selector
    return (selector.labels or {}) if selector is not None else {}


def _egress_host(text: str, namespace: str, port: Any) -> EgressHost:
    where, _, host = text.partition("/")
    if not host:
        where, host = "*", where
    excluded = where.startswith("~") and len(where) > 1
    if excluded:
        where = where[1:]
    number = port.number if port is not None and port.number else 0
    return EgressHost(namespace if where == "." else where, host.lower(), number, excluded)
