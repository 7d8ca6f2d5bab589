"""Pods and WorkloadEntries as one thing: something with labels and an address that services select."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from meshlib.registry.names import is_ip
from meshlib.registry.service import NO_LABELS

if TYPE_CHECKING:
    from meshlib.resources.kubernetes import Pod, PodStatus
    from meshlib.resources.workload import WorkloadEntrySpec

K = TypeVar("K")

_REPLICA_SET_HASH = re.compile(r"-[a-z0-9]{5,10}$")
WorkloadKey = tuple[str, ...]
"""What a change of workloads is about: ``(namespace,)`` all of it, ``(namespace, pod)``, ``(namespace, label, value)``."""
TLS_MODE = "security.istio.io/tlsMode"


@dataclass(frozen=True, slots=True, eq=False)
class WorkloadInstance:
    """A workload's address, and how it names its ports: ``ports`` maps a port name to a number. ``for_names``: the address is
    a name or a socket, which only ServiceEntries take whose endpoints are names (resolution DNS)."""

    name: str
    namespace: str
    address: str
    labels: Mapping[str, str]
    ports: Mapping[str, int]
    weight: int = 1
    locality: str = ""
    network: str = ""
    service_account: str = ""
    healthy: bool = True
    workload: str = ""
    POD: bool = True
    hostname: str = ""
    for_names: bool = False

    def found_by(self) -> Iterator[WorkloadKey]:
        """The keys under which others may have found it."""
        yield (self.namespace,)
        if self.POD:
            yield (self.namespace, self.name)
        for label, value in self.labels.items():
            yield (self.namespace, label, value)

    @property
    def tls_mode(self) -> str:
        """What its label says; a WorkloadEntry with a service account and no label takes mTLS, as in Istio."""
        return self.labels.get(TLS_MODE, "istio" if self.service_account and not self.POD else "")


def selection_key(namespace: str, selector: Mapping[str, str]) -> WorkloadKey:
    """A key that every workload has which ``Workloads.select`` finds."""
    return (namespace, *next(iter(selector.items()), ()))


class Workloads:
    """All of them, found by namespace and label, in the order of their places: pods before others."""

    def __init__(self) -> None:
        self._by_label: dict[tuple[str, str, str], list[WorkloadInstance]] = {}
        self._by_name: dict[tuple[str, str], WorkloadInstance] = {}
        self._by_namespace: dict[str, list[WorkloadInstance]] = {}
        self._places: dict[int, tuple[bool, int]] = {}

    def add(self, instance: WorkloadInstance, place: int) -> None:
        """One more."""
        self._places[id(instance)] = (not instance.POD, place)
        if instance.POD:
            self._by_name[instance.namespace, instance.name] = instance
        self._insert(self._by_namespace.setdefault(instance.namespace, []), instance)
        for key, value in instance.labels.items():
            self._insert(self._by_label.setdefault((instance.namespace, key, value), []), instance)

    def remove(self, instance: WorkloadInstance) -> None:
        """One less."""
        name = (instance.namespace, instance.name)
        if instance.POD and self._by_name.get(name) is instance:
            del self._by_name[name]
        self._take(self._by_namespace, instance.namespace, instance)
        for key, value in instance.labels.items():
            self._take(self._by_label, (instance.namespace, key, value), instance)
        del self._places[id(instance)]

    def _place(self, instance: WorkloadInstance) -> tuple[bool, int]:
        return self._places[id(instance)]

    def _insert(self, there: list[WorkloadInstance], instance: WorkloadInstance) -> None:
        if not there or self._place(there[-1]) < self._place(instance):
            there.append(instance)
        else:
            insort(there, instance, key=self._place)

    def _take(self, table: dict[K, list[WorkloadInstance]], key: K, instance: WorkloadInstance) -> None:
        there = table[key]
        del there[bisect_left(there, self._place(instance), key=self._place)]
        if not there:
            del table[key]

    def pod(self, namespace: str, name: str) -> WorkloadInstance | None:
        """The pod of that name."""
        return self._by_name.get((namespace, name))

    def select(self, namespace: str, selector: Mapping[str, str]) -> list[WorkloadInstance]:
        """Those of a namespace whose labels include ``selector`` (an empty one selects all)."""
        if not selector:
            return list(self._by_namespace.get(namespace, ()))
        lists = [self._by_label.get((namespace, k, v), []) for k, v in selector.items()]
        shortest = min(lists, key=len)
        wanted = selector.items()
        return [i for i in shortest if all(i.labels.get(k) == v for k, v in wanted)]


def from_pod(pod: Pod) -> WorkloadInstance | None:
    """A Pod with an address; None without."""
    status = pod.status
    if status is None or not status.pod_ip:
        return None
    labels = pod.labels
    ports = {
        port.name: port.container_port
        for container in pod.spec.containers or ()
        for port in container.ports or ()
        if port.name
    }
    return WorkloadInstance(
        name=pod.name,
        namespace=pod.namespace,
        address=status.pod_ip,
        labels=labels,
        ports=ports,
        locality=_locality(labels),
        network=labels.get("topology.istio.io/network", ""),
        service_account=pod.spec.service_account_name or "default",
        healthy=_ready(status),
        workload=_owner(pod),
        hostname=pod.spec.hostname or pod.name,
    )


def from_workload_entry(
    entry: WorkloadEntrySpec, name: str, namespace: str, labels: Mapping[str, str]
) -> WorkloadInstance | None:
    """A WorkloadEntry (or an inline endpoint of a ServiceEntry) with an address; None without."""
    if not entry.address:
        return None
    merged = {**(entry.labels or NO_LABELS), **labels}
    return WorkloadInstance(
        name=name,
        namespace=namespace,
        address=entry.address,
        labels=merged,
        ports=entry.ports or {},
        weight=entry.weight or 1,
        locality=entry.locality or "",
        network=entry.network or "",
        service_account=entry.service_account or "",
        workload=name,
        POD=False,
        for_names=not is_ip(entry.address),
    )


def _ready(status: PodStatus) -> bool:
    if status.phase in ("Failed", "Succeeded", "Pending"):
        return False
    for condition in status.conditions or ():
        if condition.type == "Ready":
            return condition.status == "True"
    return True


def _locality(labels: Mapping[str, str]) -> str:
    own = labels.get("istio-locality", "")
    if own:
        return own if "/" in own else own.replace(".", "/")
    parts = [
        labels.get("topology.kubernetes.io/region", ""),
        labels.get("topology.kubernetes.io/zone", ""),
        labels.get("topology.istio.io/subzone", ""),
    ]
    while parts and not parts[-1]:
        parts.pop()
    return "/".join(parts)


def _owner(pod: Pod) -> str:
    for reference in pod.metadata.owner_references or ():
        name, kind = str(reference.get("name", "")), reference.get("kind")
        if kind == "ReplicaSet":
            return _REPLICA_SET_HASH.sub("", name)
        if kind in ("StatefulSet", "DaemonSet", "Job", "CronJob"):
            return name
    return pod.name
