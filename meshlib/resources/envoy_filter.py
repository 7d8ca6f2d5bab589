"""EnvoyFilter (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from meshlib.resources.base import Model, NothingIsEmpty, Resource
from meshlib.resources.selection import WorkloadSelector
from meshlib.resources.types import names


class Cluster(Model):
    """``spec.configPatches.match.cluster`` of EnvoyFilter."""

    name: str | None = None
    port_number: int | None = None
    service: str | None = None
    subset: str | None = None


class SubFilter(Model):
    """``spec.configPatches.match.listener.filterChain.filter.subFilter`` of EnvoyFilter."""

    name: str | None = None


class Filter(Model):
    """``spec.configPatches.match.listener.filterChain.filter`` of EnvoyFilter."""

    name: str | None = None
    sub_filter: SubFilter | None = None


class FilterChain(Model):
    """``spec.configPatches.match.listener.filterChain`` of EnvoyFilter."""

    application_protocols: str | None = None
    destination_port: int | None = None
    filter: Filter | None = None
    name: str | None = None
    sni: str | None = None
    transport_protocol: str | None = None
    transport_socket: str | None = None


class Listener(Model):
    """``spec.configPatches.match.listener`` of EnvoyFilter."""

    filter_chain: FilterChain | None = None
    listener_filter: str | None = None
    name: str | None = None
    port_name: str | None = None
    port_number: int | None = None


class Proxy(Model):
    """``spec.configPatches.match.proxy`` of EnvoyFilter."""

    metadata: dict[str, str] | None = None
    proxy_version: str | None = None


class Route(Model):
    """``spec.configPatches.match.routeConfiguration.vhost.route`` of EnvoyFilter."""

    action: (
        Annotated[
            Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"], names("ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE")
        ]
        | None
    ) = None
    name: str | None = None


class Vhost(Model):
    """``spec.configPatches.match.routeConfiguration.vhost`` of EnvoyFilter."""

    domain_name: str | None = None
    name: str | None = None
    route: Route | None = None


class RouteConfiguration(Model):
    """``spec.configPatches.match.routeConfiguration`` of EnvoyFilter."""

    gateway: str | None = None
    name: str | None = None
    port_name: str | None = None
    port_number: int | None = None
    vhost: Vhost | None = None


class Waypoint(Model):
    """``spec.configPatches.match.waypoint`` of EnvoyFilter."""

    filter: Filter | None = None
    port_number: int | None = None
    route: SubFilter | None = None


class ConfigPatchesMatch(Model):
    """``spec.configPatches.match`` of EnvoyFilter."""

    cluster: Cluster | None = None
    context: (
        Annotated[
            Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"],
            names("ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"),
        ]
        | None
    ) = None
    listener: Listener | None = None
    proxy: Proxy | None = None
    route_configuration: RouteConfiguration | None = None
    waypoint: Waypoint | None = None


class Patch(Model):
    """``spec.configPatches.patch`` of EnvoyFilter."""

    filter_class: (
        Annotated[Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"], names("UNSPECIFIED", "AUTHN", "AUTHZ", "STATS")]
        | None
    ) = None
    operation: (
        Annotated[
            Literal[
                "INVALID",
                "MERGE",
                "ADD",
                "REMOVE",
                "INSERT_BEFORE",
                "INSERT_AFTER",
                "INSERT_FIRST",
                "REPLACE",
                "MERGE_AND_REPLACE_LIST",
            ],
            names(
                "INVALID",
                "MERGE",
                "ADD",
                "REMOVE",
                "INSERT_BEFORE",
                "INSERT_AFTER",
                "INSERT_FIRST",
                "REPLACE",
                "MERGE_AND_REPLACE_LIST",
            ),
        ]
        | None
    ) = None
    value: dict[str, object] | None = None


class ConfigPatche(Model):
    """``spec.configPatches`` of EnvoyFilter."""

    apply_to: (
        Annotated[
            Literal[
                "INVALID",
                "LISTENER",
                "FILTER_CHAIN",
                "NETWORK_FILTER",
                "HTTP_FILTER",
                "ROUTE_CONFIGURATION",
                "VIRTUAL_HOST",
                "HTTP_ROUTE",
                "CLUSTER",
                "EXTENSION_CONFIG",
                "BOOTSTRAP",
                "LISTENER_FILTER",
            ],
            names(
                "INVALID",
                "LISTENER",
                "FILTER_CHAIN",
                "NETWORK_FILTER",
                "HTTP_FILTER",
                "ROUTE_CONFIGURATION",
                "VIRTUAL_HOST",
                "HTTP_ROUTE",
                "CLUSTER",
                "EXTENSION_CONFIG",
                "BOOTSTRAP",
                "LISTENER_FILTER",
            ),
        ]
        | None
    ) = None
    match: ConfigPatchesMatch | None = None
    patch: Patch | None = None


class FilterTargetRef(Model):
    """``spec.targetRefs`` of EnvoyFilter, which only the CRD looks at."""

    kind: str | None = None
    name: str | None = None
    group: str | None = None
    namespace: str | None = None


class EnvoyFilterSpec(Model):
    """``spec`` of EnvoyFilter."""

    config_patches: list[ConfigPatche] | None = None
    priority: int | None = None
    target_refs: list[FilterTargetRef] | None = None
    workload_selector: WorkloadSelector | None = None


class EnvoyFilter(Resource):
    """Istio's EnvoyFilter."""

    kind: Literal["EnvoyFilter"]
    spec: Annotated[EnvoyFilterSpec, NothingIsEmpty] = Field(default_factory=EnvoyFilterSpec)
    status: object = None
