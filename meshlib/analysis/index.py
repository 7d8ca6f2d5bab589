"""Everything that analyzers ask about, found once for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from meshlib.analysis.hosts import Hosts
from meshlib.analysis.mesh_config import MeshConfig, mesh_config_of
from meshlib.analysis.nearest import Nearest
from meshlib.pace import take_turns
from meshlib.resources.kinds import split_api_version
from meshlib.resources.load_result import Other, texts
from meshlib.resources.typed import (
    DEPLOYMENT,
    GATEWAY,
    LOCAL_ENDPOINTS,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
    SERVICE_ENTRY,
    VIRTUAL_SERVICE,
    WORKLOAD_ENTRY,
    WORKLOAD_GROUP,
    Typed,
)

if TYPE_CHECKING:
    from meshlib.resources import kubernetes
    from meshlib.resources.base import Resource
    from meshlib.resources.gateway import Gateway

R = TypeVar("R", bound="Resource")

GATEWAY_API = "gateway.networking.k8s.io"
ISTIO_NAMESPACE = "istio-system"
IGNORED_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})
"""Namespaces whose resources istioctl leaves alone."""

INGRESS_LABELS = {"istio": "ingressgateway"}
INGRESS_PORTS = (80, 443, 8080, 8443, 31400, 15443)
"""Istio's own ingress gateway, which is taken to be there: nobody keeps it beside his routes."""

_WITH_TEMPLATE = frozenset({"StatefulSet", "DaemonSet", "ReplicaSet", "Job", "ReplicationController"})


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """Something with labels that selectors find: a Pod, what makes Pods, a WorkloadEntry. ``node`` is a Pod's node."""

    kind: str
    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    node: str = ""

    @property
    def title(self) -> str:
        """``Pod default/reviews-v1-0``."""
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def ambient(self) -> bool:
        """Whether ztunnel redirects its traffic."""
        return self.annotations.get("ambient.istio.io/redirection") == "enabled"


INGRESS = Workload("Pod", "istio-ingressgateway", ISTIO_NAMESPACE, INGRESS_LABELS, {})


class Selectable:
    """Workloads by namespace and label."""

    def __init__(self, workloads: Iterable[Workload]) -> None:
        self.all = list(workloads)
        self._everywhere: dict[tuple[str, str], list[Workload]] = {}
        self._in: dict[tuple[str, str, str], list[Workload]] = {}
        self._of: dict[str, list[Workload]] = {}
        self._values: dict[str, list[str]] = {}
        for workload in self.all:
            take_turns()
            self._of.setdefault(workload.namespace, []).append(workload)
            for key, value in workload.labels.items():
                self._everywhere.setdefault((key, value), []).append(workload)
                self._in.setdefault((workload.namespace, key, value), []).append(workload)

    def select(self, selector: Mapping[str, str] | None, namespace: str | None = None) -> list[Workload]:
        """Those of a namespace (None: of all) whose labels include ``selector``; all of them when it is empty."""
        if not selector:
            return self.all if namespace is None else self._of.get(namespace, [])
        pairs = selector.items()
        if namespace is None:
            lists = [self._everywhere.get(pair, []) for pair in pairs]
        else:
            lists = [self._in.get((namespace, *pair), []) for pair in pairs]
        return [w for w in min(lists, key=len) if all(w.labels.get(k) == v for k, v in pairs)]

    def values_of(self, key: str) -> list[str]:
        """Every value of a label."""
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = sorted({value for name, value in self._everywhere if name == key})
        return found


class Index:
    """The resources by kind, and what they say about hosts, workloads, gateways, namespaces and secrets.

    ``resources`` are those that load and those that do not (``salvage``); ``others`` documents of kinds without a model.
    ``mesh_config`` is else that of the ConfigMap of istiod, if it is among them.
    """

    def __init__(
        self, resources: Sequence[Resource], others: Sequence[Other] = (), mesh_config: MeshConfig | None = None
    ) -> None:
        self._kinds: dict[str, list[Resource]] = {}
        for resource in resources:
            take_turns()
            self._kinds.setdefault(resource.kind, []).append(resource)
        self._others: dict[str, list[Other]] = {}
        for other in others:
            self._others.setdefault(other.kind, []).append(other)
        self.mesh_config = mesh_config or mesh_config_of(resources)
        self.hosts = Hosts(self.of(SERVICE), self.of(SERVICE_ENTRY), self.of(LOCAL_ENDPOINTS))
        self.pods = Selectable(self._pods())
        self.workloads = Selectable([*self.pods.all, *self._templates(), *self._entries()])
        self.gateways = {(g.namespace, g.name): g for g in self.of(GATEWAY)}
        self.kubernetes_gateways = {(g.namespace, g.name): g for g in self.others("Gateway", GATEWAY_API)}
        self.namespaces = {n.name: n for n in self.of(NAMESPACE)}
        self.secrets = {(s.namespace, s.name): s for s in self.of(SECRET)}
        self.virtual_services = {(v.namespace, v.name): v for v in self.of(VIRTUAL_SERVICE)}
        self._by_selector: dict[tuple[str, str, str], list[kubernetes.Service]] = {}
        for service in self.of(SERVICE):
            for pair in list((service.spec.selector or {}).items())[:1]:  # one label is enough to find it by
                self._by_selector.setdefault((service.namespace, *pair), []).append(service)
        self.near_virtual_service = Nearest(name for _, name in self.virtual_services)
        self.near_gateway = Nearest(name for _, name in (*self.gateways, *self.kubernetes_gateways))
        self.used_namespaces = {r.namespace for r in resources if r.kind != "Namespace"}

    def of(self, typed: Typed[R]) -> list[R]:
        """All resources of a kind."""
        return typed.among(self._kinds.get(typed.kind, ()))

    def others(self, kind: str, group: str = "") -> list[Other]:
        """All documents of a kind that has no model, or not in their API group; of one ``group``, if it matters."""
        found = self._others.get(kind, [])
        return [other for other in found if split_api_version(other.api_version)[0] == group] if group else found

    def analyzed(self, typed: Typed[R]) -> list[R]:
        """Those of a kind that are to be judged: not of namespaces that Istio leaves alone."""
        return [r for r in self.of(typed) if r.namespace not in IGNORED_NAMESPACES]

    def runs(self, gateway: Gateway) -> list[Workload]:
        """The workloads that a Gateway's selector finds, in any namespace; Istio's own ingress gateway is always there."""
        selector = gateway.spec.selector or {}
        found = self.workloads.select(selector)
        return [*found, INGRESS] if selector.items() <= INGRESS_LABELS.items() else found

    def services_selecting(self, labels: Mapping[str, str], namespace: str) -> list[kubernetes.Service]:
        """The Services of a namespace whose selector finds a workload of these labels."""
        found: dict[int, kubernetes.Service] = {}
        for pair in labels.items():
            for service in self._by_selector.get((namespace, *pair), ()):
                if (service.spec.selector or {}).items() <= labels.items():
                    found[id(service)] = service
        return list(found.values())

    def services_of(self, workload: Workload) -> list[kubernetes.Service]:
        """The Services that select a workload."""
        return self.services_selecting(workload.labels, workload.namespace)

    def _pods(self) -> Iterable[Workload]:
        for pod in self.of(POD):
            node = (pod.spec.node_name if pod.spec is not None else None) or ""
            yield Workload("Pod", pod.name, pod.namespace, pod.labels, pod.annotations, node)

    def _templates(self) -> Iterable[Workload]:
        """What would make Pods, except what has made some: those stand for it."""
        for template in self._described():
            if template.labels and not self.pods.select(template.labels, template.namespace):
                yield template

    def _described(self) -> Iterable[Workload]:
        for deployment in self.of(DEPLOYMENT):
            template = deployment.spec.template
            metadata = template.metadata if template is not None else None
            if metadata is not None:
                labels, notes = metadata.labels or {}, metadata.annotations or {}
                yield Workload(deployment.kind, deployment.name, deployment.namespace, labels, notes)
        for kind in _WITH_TEMPLATE:
            for other in self.others(kind):
                found: object = other.value
                for key in ("spec", "template", "metadata"):
                    found = found.get(key) if isinstance(found, Mapping) else None
                if isinstance(found, Mapping):
                    labels, notes = texts(found.get("labels")), texts(found.get("annotations"))
                    yield Workload(kind, other.name, other.namespace, labels, notes)

    def _entries(self) -> Iterable[Workload]:
        for entry in self.of(WORKLOAD_ENTRY):
            labels = {**(entry.spec.labels or {}), **entry.labels}
            yield Workload(entry.kind, entry.name, entry.namespace, labels, entry.annotations)
        for group in self.of(WORKLOAD_GROUP):
            metadata = group.spec.metadata
            labels = {**(group.spec.template.labels or {}), **((metadata.labels or {}) if metadata is not None else {})}
            yield Workload(group.kind, group.name, group.namespace, labels, {})


def selector_text(selector: Mapping[str, str] | None) -> str:
    """``app=reviews,version=v1``."""
    return ",".join(f"{key}={value}" for key, value in sorted((selector or {}).items()))


def short_or_full(name: str, namespace: str) -> tuple[str, str]:
    """Namespace and name of ``gateway`` or ``infra/gateway``."""
    before, slash, after = name.partition("/")
    return (before, after) if slash else (namespace, name)
