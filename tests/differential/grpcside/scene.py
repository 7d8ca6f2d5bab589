"""What both sides are given: services with endpoints, and rules of hosts; and the real Envoy that is made of them.

What a rule becomes is read by ``referee.istiod``; added here is what istiod writes for gRPC, faults and copies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx

from benchmarks.free_ports import free_port
from tests.differential.envoy_process import TYPES, cluster, running
from tests.differential.grpcside.servers import Ledger, ScriptedServer, raw_server
from tests.differential.referee import istiod
from tests.differential.referee.envoy_side import _listener, _manager

Config = dict[str, Any]
PORT = 9080
NUMBERS = {code.name: code.value[0] for code in grpc.StatusCode}
UNLIMITED = 2**32 - 1
INTERNAL: Config = {
    # only of internal callers Envoy takes x-envoy-retry-on and its like; to a library every caller is internal
    "use_remote_address": True,
    "skip_xff_append": True,
    "internal_address_config": {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]},
}


@dataclass(frozen=True)
class Service:
    """A Kubernetes Service: the servers behind it (by name; "closed" is a port where nobody listens), the trafficPolicy
    of its DestinationRule; each server is a subset of its own name."""

    servers: tuple[str, ...]
    policy: Config = field(default_factory=dict)


BASIC = {
    "a": Service(("a",)),
    "b": Service(("b",)),
    "ab": Service(("a", "b")),
    "raw": Service(("raw",)),
    "nobody": Service(()),
    "refused": Service(("closed",)),
    "half": Service(("a", "closed")),
}


@dataclass(frozen=True)
class Scene:
    """Hosts with their http rules, beside the services that these lead to."""

    hosts: Mapping[str, Sequence[Config]]
    services: Mapping[str, Service] = field(default_factory=dict)

    @property
    def all_services(self) -> dict[str, Service]:
        return {**BASIC, **self.services}


def resources(scene: Scene, ports: Mapping[str, int]) -> list[Config]:
    """The scene as Kubernetes and Istio have it."""
    made = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "echo", "server": name}},
            "spec": {"containers": [{"name": "echo", "ports": [{"name": "grpc", "containerPort": port}]}]},
            "status": {"podIP": "127.0.0.1"},
        }
        for name, port in ports.items()
    ]
    for name, service in scene.all_services.items():
        made.append(_service(name))
        slices = [
            {
                "addresses": ["127.0.0.1"],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": server, "namespace": "default"},
            }
            for server in service.servers
        ]
        made += [
            _slice(name, server, ports[server], [one]) for server, one in zip(service.servers, slices, strict=True)
        ]
        subsets = [{"name": server, "labels": {"server": server}} for server in service.servers]
        spec: Config = {"host": name, "trafficPolicy": service.policy, "subsets": subsets}
        made.append(_istio("DestinationRule", name, {k: v for k, v in spec.items() if v}))
    for host, rules in scene.hosts.items():
        if host not in scene.all_services:
            made.append(_service(host))
        made.append(_istio("VirtualService", host, {"hosts": [host], "http": list(rules)}))
    return made


def _service(name: str) -> Config:
    port = {"name": "grpc", "port": PORT, "targetPort": "grpc"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [port]},
    }


def _slice(service: str, server: str, port: int, endpoints: list[Config]) -> Config:
    labels = {"kubernetes.io/service-name": service}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-{server}", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    }


def _istio(kind: str, name: str, spec: Config) -> Config:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


# -- Envoy ------------------------------------------------------------------------------------------------------------------


def bootstrap(scene: Scene, ports: Mapping[str, int], listen: int, admin: int) -> Config:
    """The sidecar's Envoy."""
    hosts = [virtual_host(name, rules) for name, rules in scene.hosts.items()]
    filters = [{"name": istiod.FAULT, "typed_config": {"@type": f"{TYPES}.http.fault.v3.HTTPFault"}}]
    made = []
    for name, service in scene.all_services.items():
        for subset in ("", *service.servers):
            members = [ports[s] for s in service.servers if subset in ("", s)]
            label = istiod.cluster_name({"host": name, "subset": subset}, PORT)
            made.append(cluster(label, members, **cluster_settings(service.policy)))
    routes = {"virtual_hosts": hosts, "validate_clusters": False}
    manager = _manager("front", filters, routes, codec_type="HTTP2", **INTERNAL)
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {"listeners": [_listener(listen, manager)], "clusters": made},
    }


def cluster_settings(policy: Config) -> Config:
    """What istiod writes into a gRPC service's cluster."""
    http = policy.get("connectionPool", {}).get("http", {})
    limits = {
        "max_connections": UNLIMITED,
        "max_pending_requests": http.get("http1MaxPendingRequests", UNLIMITED),
        "max_requests": http.get("http2MaxRequests", UNLIMITED),
        "max_retries": http.get("maxRetries", UNLIMITED),
    }
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    made: Config = {
        "lb_policy": policy.get("loadBalancer", {}).get("simple", "LEAST_REQUEST"),
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
    }
    if "outlierDetection" in policy:
        made["outlier_detection"] = outlier(policy["outlierDetection"])
    return made


def outlier(settings: Config) -> Config:
    made: Config = {
        "interval": settings.get("interval", "10s"),
        "base_ejection_time": settings.get("baseEjectionTime", "30s"),
        "max_ejection_percent": settings.get("maxEjectionPercent", 10),
        "enforcing_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
    }
    if settings.get("consecutive5xxErrors", 5):
        made |= {"consecutive_5xx": settings.get("consecutive5xxErrors", 5), "enforcing_consecutive_5xx": 100}
    if settings.get("consecutiveGatewayErrors"):
        made["consecutive_gateway_failure"] = settings["consecutiveGatewayErrors"]
        made["enforcing_consecutive_gateway_failure"] = 100
    if settings.get("splitExternalLocalOriginErrors"):
        made["split_external_local_origin_errors"] = True
        made["consecutive_local_origin_failure"] = settings["consecutiveLocalOriginFailures"]
        made["enforcing_consecutive_local_origin_failure"] = 100
        made["enforcing_local_origin_success_rate"] = 0
    return made


def virtual_host(host: str, rules: Sequence[Config]) -> Config:
    routes = []
    for rule in rules:
        plain = {key: value for key, value in rule.items() if key not in ("fault", "mirror", "mirrors")}
        for route in istiod.routes(plain, PORT):
            if "route" in route:
                _finish(route["route"], rule)
            if "fault" in rule:
                route["typed_per_filter_config"] = {istiod.FAULT: fault(rule["fault"])}
            routes.append(route)
    made = istiod.marked_host(host, [host, f"{host}:{PORT}"], routes)
    del made["response_headers_to_add"]
    return made


def _finish(action: Config, rule: Config) -> None:
    """What istiod adds to a route that forwards."""
    action["timeout"] = action["max_grpc_timeout"] = _seconds(rule.get("timeout", "0s"))
    retries = rule.get("retries", {})
    if retries.get("attempts", 2):
        action["retry_policy"] = {
            **istiod.retry(retries),
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                    },
                }
            ],
            "host_selection_retry_max_attempts": 5,
        }
    else:
        action.pop("retry_policy", None)
    copies = [{"destination": rule["mirror"]}] if "mirror" in rule else rule.get("mirrors", [])
    if copies:
        action["request_mirror_policies"] = [
            {
                "cluster": istiod.cluster_name(copy["destination"], PORT),
                "runtime_fraction": {"default_value": {"numerator": 100}},
            }
            for copy in copies
        ]


def _seconds(text: str) -> str:
    return istiod._seconds(text)


def fault(settings: Config) -> Config:
    made: Config = {"@type": f"{TYPES}.http.fault.v3.HTTPFault"}
    for kind in ("abort", "delay"):
        if kind in settings:
            own = settings[kind]
            made[kind] = {"percentage": {"numerator": int(own.get("percentage", {}).get("value", 0))}}
            if "httpStatus" in own:
                made[kind]["http_status"] = own["httpStatus"]
            if "grpcStatus" in own:
                made[kind]["grpc_status"] = NUMBERS[own["grpcStatus"]]
            if "fixedDelay" in own:
                made[kind]["fixed_delay"] = _seconds(own["fixedDelay"])
    return made


@contextlib.contextmanager
def servers() -> Iterator[tuple[Ledger, dict[str, int]]]:
    """The servers a, b and raw, their ledger, and everybody's port."""
    ledger = Ledger()
    with ScriptedServer("a", ledger) as a, ScriptedServer("b", ledger) as b, raw_server("raw", ledger) as raw:
        yield ledger, {"a": a.port, "b": b.port, "raw": raw.port, "closed": free_port()}


class EnvoySide:
    """Channels to a running Envoy."""

    def __init__(self, port: int, admin: int) -> None:
        self.port = port
        self._admin = httpx.Client(base_url=f"http://127.0.0.1:{admin}", timeout=10)
        self._channels: dict[str, grpc.Channel] = {}

    def channel(self, host: str) -> grpc.Channel:
        if host not in self._channels:
            authority = host if ":" in host else f"{host}:{PORT}"
            options = [("grpc.default_authority", authority), ("grpc.enable_retries", 0)]
            self._channels[host] = grpc.insecure_channel(f"127.0.0.1:{self.port}", options)
        return self._channels[host]

    def ejected(self, host: str) -> bool:
        """Whether an endpoint of a service is ejected. (Envoy's workers leave ejecting to its main thread, which also
        answers this.)"""
        name = istiod.cluster_name({"host": host}, PORT).replace("|", "[|]")
        pattern = f"^cluster[.]{name}[.]outlier_detection[.]ejections_active$"
        found = self._admin.get("/stats", params={"filter": pattern, "format": "json"}).json()
        (gauge,) = found["stats"]
        return int(gauge["value"]) > 0

    def close(self) -> None:
        self._admin.close()
        for channel in self._channels.values():
            channel.close()


@contextlib.contextmanager
def envoy_for(scene: Scene, ports: Mapping[str, int]) -> Iterator[EnvoySide]:
    """A real Envoy for the scene."""
    listen, admin = free_port(), free_port()
    with running(bootstrap(scene, ports, listen, admin), admin):
        side = EnvoySide(listen, admin)
        try:
            yield side
        finally:
            side.close()
