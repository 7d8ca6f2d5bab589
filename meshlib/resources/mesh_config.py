"""MeshConfig: what Istio lets an operator say once for the whole mesh. In a cluster it is a text in the ConfigMap ``istio``
(``mesh_text.py`` reads it); where nobody has that, it is the ``spec`` of a MeshConfig of meshlib.dev/v1.

The fields are Istio's (mesh/v1alpha1). Those that nothing here acts on are taken as they are: their notices say so.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from meshlib.resources.base import Model, Resource
from meshlib.resources.destination_rule import LocalityLbSetting, ZoneAwareLbSetting
from meshlib.resources.gateway_topology import GatewayTopology
from meshlib.resources.kubernetes import KubernetesResource, Loose
from meshlib.resources.proxy_headers import ProxyHeaders
from meshlib.resources.telemetry_providers import (
    EnvoyFileAccessLog,
    EnvoyOtelAls,
    Number,
    ProxyTracing,
    SpanExporter,
    Unread,
)
from meshlib.resources.types import AnyDuration, names
from meshlib.resources.virtual_service import HttpRetry

# -- authorizers ------------------------------------------------------------------------------------------------------


class RequestBodyInCheck(Model):
    """``includeRequestBodyInCheck``: how much of the request's body an authorizer is shown."""

    max_request_bytes: Number | None = None
    allow_partial_message: bool | None = None
    pack_as_bytes: bool | None = None


class EnvoyExtAuthz(Model):
    """What authorizers over HTTP and over gRPC share. ``service`` is ``[namespace/]host``."""

    service: str | None = None
    port: Number | None = None
    timeout: AnyDuration | None = None
    fail_open: bool | None = None
    clear_route_cache: bool | None = None
    status_on_error: str | None = None
    include_request_body_in_check: RequestBodyInCheck | None = None


class EnvoyExtAuthzHttp(EnvoyExtAuthz):
    """``extensionProviders[].envoyExtAuthzHttp``."""

    path_prefix: str | None = None
    include_headers_in_check: list[str] | None = None  # deprecated
    include_request_headers_in_check: list[str] | None = None
    include_additional_headers_in_check: dict[str, str] | None = Field(default=None, repr=False)  # may hold a key
    headers_to_upstream_on_allow: list[str] | None = None
    headers_to_downstream_on_deny: list[str] | None = None
    headers_to_downstream_on_allow: list[str] | None = None


class EnvoyExtAuthzGrpc(EnvoyExtAuthz):
    """``extensionProviders[].envoyExtAuthzGrpc``."""


class ExtensionProvider(Model):
    """``extensionProviders[]``: a name, and one of the kinds. Of most the settings are not looked at, nor ever shown: some
    have an access token."""

    name: str | None = None
    envoy_ext_authz_http: EnvoyExtAuthzHttp | None = None
    envoy_ext_authz_grpc: EnvoyExtAuthzGrpc | None = None
    zipkin: SpanExporter | None = Field(default=None, repr=False)
    lightstep: object = Field(default=None, repr=False)
    datadog: SpanExporter | None = Field(default=None, repr=False)
    stackdriver: object = Field(default=None, repr=False)
    opencensus: object = Field(default=None, repr=False)
    skywalking: object = Field(default=None, repr=False)
    opentelemetry: SpanExporter | None = Field(default=None, repr=False)
    prometheus: object = Field(default=None, repr=False)
    envoy_file_access_log: EnvoyFileAccessLog | None = None
    envoy_http_als: object = Field(default=None, repr=False)
    envoy_tcp_als: object = Field(default=None, repr=False)
    envoy_otel_als: EnvoyOtelAls | None = None
    sds: object = Field(default=None, repr=False)

    @property
    def kinds(self) -> list[str]:
        """The attributes of the kinds that are given: one, in a provider that is one."""
        return [name for name in type(self).model_fields if name != "name" and getattr(self, name) is not None]


# -- the rest ---------------------------------------------------------------------------------------------------------

_INGRESS = ("UNSPECIFIED", "OFF", "DEFAULT", "STRICT")
_OUTBOUND = ("REGISTRY_ONLY", "ALLOW_ANY", "VIRTUAL_SERVICE_ONLY", "ALLOW_ANY_DYNAMIC_DNS")
_NORMALIZATION = ("DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")


class MeshOutboundTrafficPolicy(Model):
    """``outboundTrafficPolicy``. A block without ``mode`` is REGISTRY_ONLY, the first of Istio's enum."""

    mode: Annotated[Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"], names(*_OUTBOUND)] | None = None
    tls: object = Field(default=None, repr=False)


class PathNormalization(Model):
    """``pathNormalization``."""

    normalization: (
        Annotated[
            Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"], names(*_NORMALIZATION)
        ]
        | None
    ) = None


class DefaultProviders(Model):
    """``defaultProviders``."""

    tracing: list[str] | None = None
    metrics: list[str] | None = None
    access_logging: list[str] | None = None


class ProxyDefaults(Model):
    """``defaultConfig``: settings of proxies; only what others look at has a type. Of the others the names are known, so that
    one that is misspelled is told."""

    proxy_metadata: dict[str, str] | None = None
    tracing: ProxyTracing | None = Field(default=None, repr=False)
    proxy_headers: ProxyHeaders | None = None
    gateway_topology: GatewayTopology | None = None

    config_path: Unread = None
    binary_path: Unread = None
    service_cluster: Unread = None
    tracing_service_name: Unread = None
    drain_duration: Unread = None
    parent_shutdown_duration: Unread = None
    discovery_address: Unread = None
    discovery_refresh_delay: Unread = None
    zipkin_address: Unread = None
    connect_timeout: Unread = None
    statsd_udp_address: Unread = None
    envoy_metrics_service_address: Unread = None
    proxy_admin_port: Unread = None
    availability_zone: Unread = None
    control_plane_auth_policy: Unread = None
    custom_config_file: Unread = None
    stat_name_length: Unread = None
    concurrency: Unread = None
    proxy_bootstrap_template_path: Unread = None
    interception_mode: Unread = None
    sds: Unread = None
    envoy_access_log_service: Unread = None
    envoy_metrics_service: Unread = None
    runtime_values: Unread = None
    status_port: Unread = None
    extra_stat_tags: Unread = None
    termination_drain_duration: Unread = None
    mesh_id: Unread = None
    readiness_probe: Unread = None
    proxy_stats_matcher: Unread = None
    hold_application_until_proxy_starts: Unread = None
    ca_certificates_pem: Unread = None
    image: Unread = None
    private_key_provider: Unread = None
    stats_compression: Unread = None
    file_flush_interval: Unread = None
    file_flush_min_size_kb: Unread = None
    connection_settings: Unread = None


class ServiceSettings(Model):
    """``serviceSettings[]``."""

    settings: object = None
    hosts: list[str] | None = None


_TLS_VERSIONS = ("TLS_AUTO", "TLSV1_2", "TLSV1_3")


class MeshTls(Model):
    """``meshMTLS`` and ``tlsDefaults``."""

    min_protocol_version: Annotated[Literal["TLS_AUTO", "TLSV1_2", "TLSV1_3"], names(*_TLS_VERSIONS)] | None = None
    ecdh_curves: list[str] | None = None
    cipher_suites: list[str] | None = None


class MeshConfigSpec(Model):
    """Istio's MeshConfig."""

    root_namespace: str | None = None
    trust_domain: str | None = None
    trust_domain_aliases: list[str] | None = None
    path_normalization: PathNormalization | None = None
    extension_providers: list[ExtensionProvider] | None = None
    outbound_traffic_policy: MeshOutboundTrafficPolicy | None = None
    default_http_retry_policy: HttpRetry | None = None

    default_providers: DefaultProviders | None = None
    default_config: ProxyDefaults | None = None

    proxy_listen_port: Number | None = None
    proxy_inbound_listen_port: Number | None = None
    proxy_http_port: Number | None = None
    connect_timeout: AnyDuration | None = None
    hbone_idle_timeout: object = None
    protocol_detection_timeout: AnyDuration | None = None
    tcp_keepalive: object = None
    ingress_class: str | None = None
    ingress_service: str | None = None
    ingress_controller_mode: Annotated[Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"], names(*_INGRESS)] | None = (
        None
    )
    ingress_selector: str | None = None
    enable_tracing: bool | None = None
    access_log_file: str | None = None
    access_log_format: str | None = None
    access_log_encoding: Annotated[Literal["TEXT", "JSON"], names("TEXT", "JSON")] | None = None
    enable_envoy_access_log_service: object = None
    disable_envoy_listener_log: object = None
    inbound_traffic_policy: object = None
    config_sources: object = Field(default=None, repr=False)
    enable_auto_mtls: bool | None = None
    ca_certificates: object = Field(default=None, repr=False)
    default_service_export_to: object = None
    default_virtual_service_export_to: object = None
    default_destination_rule_export_to: object = None
    locality_lb_setting: LocalityLbSetting | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None
    dns_refresh_rate: object = None
    h2_upgrade_policy: object = None
    inbound_cluster_stat_name: object = None
    outbound_cluster_stat_name: object = None
    certificates: object = Field(default=None, repr=False)
    service_settings: list[ServiceSettings] | None = None
    service_scope_configs: object = None
    enable_prometheus_merge: object = None
    verify_certificate_at_client: object = None
    ca: object = Field(default=None, repr=False)
    discovery_selectors: object = None
    default_inbound_http_retry_policy: HttpRetry | None = None
    mesh_mtls: MeshTls | None = Field(default=None, alias="meshMTLS")
    tls_defaults: MeshTls | None = None
    default_traffic_policy: object = None
    service_entry_visibility: object = None


class MeshConfig(Resource):
    """MeshConfig as a resource of its own: Istio has it in a ConfigMap only."""

    kind: Literal["MeshConfig"]
    spec: MeshConfigSpec


class MeshConfigData(Loose):
    """``data`` of the ConfigMap, its text read."""

    mesh: MeshConfigSpec


class ConfigMap(KubernetesResource):
    """The ConfigMap ``istio`` (or ``istio-<revision>``) that istiod reads. Those with other names are not resources here."""

    kind: Literal["ConfigMap"]
    data: MeshConfigData

    @property
    def spec(self) -> MeshConfigSpec:
        """MeshConfig, as of the resource."""
        return self.data.mesh
