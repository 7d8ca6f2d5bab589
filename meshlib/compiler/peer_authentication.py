"""Which mTLS mode a port of a workload has: Istio's precedence of PeerAuthentications.

The oldest policy that selects the workload, else the oldest of its namespace, else the oldest of the root namespace, which is
the mesh's, else PERMISSIVE; UNSET is what the next wider one says. Ports, which are those of the workload and not of a service,
count in a policy that selects workloads.

Stricter than Istio: one with a selector in the root namespace, which istiod leaves out altogether, counts for the workloads
there where it says STRICT; one that cannot be read is STRICT for all that it may have selected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.policy.mtls_mode import MtlsMode, settled
from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.resources.peer_authentication import Mtls, PeerAuthentication


@dataclass(frozen=True, slots=True)
class PortMode:
    """The mode of a port. ``policy`` is the PeerAuthentication that says so (namespace/name), "" when none does; ``broken``:
    why that could not be read, "" when it could."""

    mtls: MtlsMode = MtlsMode.PERMISSIVE
    policy: str = ""
    broken: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadModes:
    """The modes of a workload: of ``ports``, and of all other ports."""

    default: PortMode
    ports: Mapping[int, PortMode] = field(default_factory=dict)

    def of(self, port: int) -> PortMode:
        """``port`` 0: it is not known which. STRICT then, where any port is."""
        if port:
            return self.ports.get(port, self.default)
        return next((m for m in (self.default, *self.ports.values()) if m.mtls is MtlsMode.STRICT), self.default)


NOBODY_SAYS = PortMode()


class PeerAuthentications:
    """All of a mesh, found by the workload that they are for."""

    __slots__ = ("_broken", "_by_namespace", "_root", "_wide")

    def __init__(self, resources: Iterable[PeerAuthentication], root_namespace: str) -> None:
        self._root = root_namespace
        self._broken: list[PeerAuthentication] = []
        self._by_namespace: dict[str, list[PeerAuthentication]] = {}
        self._wide: dict[str, WorkloadModes] = {}
        for resource in sorted(resources, key=lambda resource: resource.age_key):
            if resource.stands_for:
                self._broken.append(resource)
            else:
                self._by_namespace.setdefault(resource.namespace, []).append(resource)

    def of(self, namespace: str, labels: Mapping[str, str]) -> WorkloadModes:
        """The modes of a workload."""
        for resource in self._broken:
            if _may_select(resource, namespace, labels, self._root):
                return WorkloadModes(PortMode(MtlsMode.STRICT, _name(resource), resource.stands_for))
        wide = self._wide.get(namespace)
        if wide is None:
            wide = self._wide[namespace] = WorkloadModes(self._of_namespace(namespace))
        for resource in self._by_namespace.get(namespace, ()):
            if _labels(resource) and _selects(resource, labels):
                found = _narrowed(resource, wide.default)
                return found if namespace != self._root else _stricter(wide.default, found)
        return wide

    def _of_namespace(self, namespace: str) -> PortMode:
        """What a workload has that no policy selects."""
        found = NOBODY_SAYS
        for place in dict.fromkeys((self._root, namespace)):
            oldest = next((r for r in self._by_namespace.get(place, ()) if not _labels(r)), None)
            if oldest is not None:
                found = _mode(oldest, oldest.spec.mtls, found)
        return found


def _narrowed(resource: PeerAuthentication, inherited: PortMode) -> WorkloadModes:
    default = _mode(resource, resource.spec.mtls, inherited)
    ports = resource.spec.port_level_mtls or {}
    return WorkloadModes(default, {int(port): _mode(resource, mtls, default) for port, mtls in ports.items()})


def _stricter(wide: PortMode, found: WorkloadModes) -> WorkloadModes:
    """For the root namespace: what ``found`` has to say where it says STRICT."""

    def kept(mode: PortMode, rest: PortMode) -> PortMode:
        return mode if mode.mtls is MtlsMode.STRICT else rest

    default = kept(found.default, wide)
    return WorkloadModes(default, {port: kept(mode, wide) for port, mode in found.ports.items()})


def _mode(resource: PeerAuthentication, mtls: Mtls | None, inherited: PortMode) -> PortMode:
    written = mtls.mode if mtls is not None else None
    mode = settled(written, inherited.mtls)
    return inherited if written in (None, "UNSET") else PortMode(mode, _name(resource))


def _may_select(resource: PeerAuthentication, namespace: str, labels: Mapping[str, str], root: str) -> bool:
    """Whether one that cannot be read may be for the workload."""
    if not resource.placed:
        return True
    everywhere = resource.namespace == root and not _labels(resource)
    return (everywhere or resource.namespace == namespace) and _selects(resource, labels)


def _selects(resource: PeerAuthentication, labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in _labels(resource).items())


def _labels(resource: PeerAuthentication) -> Mapping[str, str]:
    selector = resource.spec.selector
    return (selector.match_labels or {}) if selector is not None else {}


def _name(resource: PeerAuthentication) -> str:
    return f"{resource.namespace}/{resource.name}"


# -- what is to be said -----------------------------------------------------------------------------------------------


def problems(resources: Iterable[PeerAuthentication], root_namespace: str) -> Iterator[Problem]:
    """Policies that are not what they look like."""
    oldest: dict[str, PeerAuthentication] = {}
    for resource in sorted(resources, key=lambda resource: resource.age_key):
        if resource.stands_for:
            continue
        if _labels(resource):
            if resource.namespace == root_namespace:
                yield _problem(
                    resource,
                    "selector-in-root-namespace",
                    f"Istio leaves out PeerAuthentications with a selector in the root namespace {root_namespace}; here it "
                    f"counts where it says STRICT, for workloads of {root_namespace} alone",
                    "put it into the namespace of the workloads",
                )
            continue
        first = oldest.setdefault(resource.namespace, resource)
        if first is not resource:
            yield _problem(
                resource,
                "not-the-oldest",
                f"has no effect: {first.id} is older, and one PeerAuthentication without a selector counts in a namespace",
                "keep one of them",
            )


def _problem(resource: PeerAuthentication, code: str, message: str, hint: str) -> Problem:
    origin = resource.origin
    return Problem(code, Severity.WARNING, origin.file, origin.line, origin.column, resource.id, message, hint)
