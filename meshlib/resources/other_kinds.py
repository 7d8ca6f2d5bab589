"""Kinds of others that mean nothing here, and what says the same to meshlib: one notice for each kind of a load."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from meshlib.problems import Problem, Severity
from meshlib.resources.base import Resource
from meshlib.resources.kinds import split_api_version

_GATEWAY_API = "gateway.networking.k8s.io"
_X_GATEWAY_API = "gateway.networking.x-k8s.io"
_PODS = (
    "endpoints come from its Pods or EndpointSlices (kubectl get pods,endpointslices -A -o yaml), "
    "or from a ServiceEntry with endpoints"
)
_TO_THE_CLUSTER = "it is the cluster's own business: meshlib needs nothing of it"

INSTEAD: dict[tuple[str, str], str] = {
    (_GATEWAY_API, "HTTPRoute"): "write its rules as spec.http of a VirtualService (networking.istio.io/v1)",
    (_GATEWAY_API, "GRPCRoute"): "write its rules as spec.http of a VirtualService (networking.istio.io/v1) that match "
    "uri: {exact: /package.Service/Method}",
    (_GATEWAY_API, "TLSRoute"): "write its rules as spec.tls of a VirtualService (networking.istio.io/v1)",
    (_GATEWAY_API, "TCPRoute"): "write its rules as spec.tcp of a VirtualService (networking.istio.io/v1)",
    (_GATEWAY_API, "UDPRoute"): "nothing here routes UDP: leave it to the cluster",
    (_GATEWAY_API, "Gateway"): "write it as Istio's Gateway (networking.istio.io/v1): its listeners are spec.servers",
    (_GATEWAY_API, "GatewayClass"): "leave it out: Istio's Gateway (networking.istio.io/v1) has no class",
    (
        _GATEWAY_API,
        "ReferenceGrant",
    ): "leave it out: exportTo of a VirtualService or DestinationRule says who may use it",
    (_GATEWAY_API, "BackendTLSPolicy"): "write it as trafficPolicy.tls of a DestinationRule (networking.istio.io/v1)",
    (_GATEWAY_API, "BackendLBPolicy"): "write it as trafficPolicy.loadBalancer of a DestinationRule",
    (
        _X_GATEWAY_API,
        "XBackendTrafficPolicy",
    ): "write it as trafficPolicy of a DestinationRule, and retries of a VirtualService",
    ("networking.k8s.io", "NetworkPolicy"): "it acts on packets, in the cluster; who may send requests is said by an "
    "AuthorizationPolicy (security.istio.io/v1)",
    (
        "extensions",
        "Ingress",
    ): "write it as networking.k8s.io/v1, or as a Gateway and a VirtualService",
    ("apps", "StatefulSet"): _PODS,
    ("apps", "DaemonSet"): _PODS,
    ("apps", "ReplicaSet"): _PODS,
    ("", "ReplicationController"): _PODS,
    ("argoproj.io", "Rollout"): _PODS,
    ("", "ConfigMap"): "of ConfigMaps only Istio's own is read: istio (or istio-REVISION) with data.mesh",
    ("install.istio.io", "IstioOperator"): "write its spec.meshConfig as spec of a MeshConfig (meshlib.dev/v1)",
    ("sailoperator.io", "Istio"): "write its spec.values.meshConfig as spec of a MeshConfig (meshlib.dev/v1)",
    ("apiextensions.k8s.io", "CustomResourceDefinition"): "leave it out: the kinds that are read are built in",
    ("multicluster.x-k8s.io", "ServiceImport"): "write it as a ServiceEntry (networking.istio.io/v1) with endpoints",
    ("multicluster.x-k8s.io", "ServiceExport"): _TO_THE_CLUSTER,
    ("cert-manager.io", "Certificate"): "give the files of its Secret: meshlib.Identity.from_files(cert, key, bundle)",
    ("linkerd.io", "ServiceProfile"): "write its routes as spec.http of a VirtualService, with timeout and retries",
    ("split.smi-spec.io", "TrafficSplit"): "write its weights into spec.http of a VirtualService",
    ("specs.smi-spec.io", "HTTPRouteGroup"): "write it as spec.http of a VirtualService",
    ("access.smi-spec.io", "TrafficTarget"): "write it as an AuthorizationPolicy (security.istio.io/v1)",
    ("rbac.istio.io", "ServiceRole"): "write it as an AuthorizationPolicy: Istio has dropped rbac.istio.io",
    ("rbac.istio.io", "ServiceRoleBinding"): "write it as an AuthorizationPolicy: Istio has dropped rbac.istio.io",
    ("rbac.istio.io", "ClusterRbacConfig"): "write it as an AuthorizationPolicy: Istio has dropped rbac.istio.io",
    ("authentication.istio.io", "Policy"): "write it as PeerAuthentication and RequestAuthentication",
    ("authentication.istio.io", "MeshPolicy"): "write it as a PeerAuthentication of the root namespace",
    ("monitoring.coreos.com", "ServiceMonitor"): "leave it to Prometheus, which scrapes the process's own metrics",
    ("monitoring.coreos.com", "PodMonitor"): "leave it to Prometheus, which scrapes the process's own metrics",
}
"""By group and kind: what to do."""

_OF_GROUP: dict[str, str] = {
    _GATEWAY_API: "write it with Istio's kinds: Gateway, VirtualService, DestinationRule (networking.istio.io/v1)",
    _X_GATEWAY_API: "write it with Istio's kinds: Gateway, VirtualService, DestinationRule (networking.istio.io/v1)",
    "policy.linkerd.io": "write it as an AuthorizationPolicy (security.istio.io/v1)",
    "consul.hashicorp.com": "write it with Istio's kinds: VirtualService, DestinationRule, AuthorizationPolicy",
    "gateway.envoyproxy.io": "write it with Istio's kinds: VirtualService, DestinationRule, AuthorizationPolicy",
    "batch": "leave it out: it is not called through the mesh",
    "policy": _TO_THE_CLUSTER,
    "autoscaling": _TO_THE_CLUSTER,
    "keda.sh": _TO_THE_CLUSTER,
    "rbac.authorization.k8s.io": _TO_THE_CLUSTER,
    "admissionregistration.k8s.io": _TO_THE_CLUSTER,
    "storage.k8s.io": _TO_THE_CLUSTER,
    "scheduling.k8s.io": _TO_THE_CLUSTER,
    "coordination.k8s.io": _TO_THE_CLUSTER,
    "": _TO_THE_CLUSTER,
}
_ELSE = "leave it out of what meshlib reads; docs/semantics.md has the kinds that it knows"


def lone_deployments(resources: Iterable[Resource]) -> Problem | None:
    """Deployments without any Service: nothing can be called by them. (Beside Services each Service without endpoints names
    its Deployment.)"""
    first, count = None, 0
    for resource in resources:
        if resource.kind == "Service":
            return None
        if resource.kind == "Deployment":
            first, count = first or resource, count + 1
    if first is None:
        return None
    origin = first.origin
    more = f" (and so {'has 1' if count == 2 else f'have {count - 1}'} more)" if count > 1 else ""
    message = f"Deployment ({first.api_version}) has no effect without a Service that selects its Pods" + more
    hint = f"add the Service; {_PODS}"
    return Problem("no-effect", Severity.NOTICE, origin.file, origin.line, origin.column, first.id, message, hint)


def instead_of(kind: str, version: str) -> str:
    """What to do about a kind that means nothing here."""
    group = split_api_version(version)[0]
    return INSTEAD.get((group, kind)) or _OF_GROUP.get(group) or _ELSE


@dataclass(slots=True)
class _Skipped:
    first: Problem
    count: int = 1


class SkippedKinds:
    """What a load skips: kinds that mean nothing here, each told once, where it is met first, with how many there are."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], _Skipped] = {}

    def known(self, group: str, kind: str) -> bool:
        """Whether this is not the first of its kind; counts it."""
        found = self._found.get((group, kind))
        if found is not None:
            found.count += 1
        return found is not None

    def add(self, group: str, kind: str, problem: Problem) -> None:
        """The first of its kind, and what is to be said."""
        self._found[group, kind] = _Skipped(problem)

    def problems(self) -> Iterable[Problem]:
        """One for each kind."""
        for skipped in self._found.values():
            first, more = skipped.first, skipped.count - 1
            are = f" (and so {'is 1' if more == 1 else f'are {more}'} more)" if more else ""
            yield replace(first, message=first.message + are)
