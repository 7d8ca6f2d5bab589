"""What MeshConfig says, as a compilation and servers act on it: one object, with Istio's defaults where nothing is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from meshlib.compiler.gateway_topology import compile_topology
from meshlib.compiler.proxy_headers import compile_proxy_headers
from meshlib.compiler.rule_settings import DEFAULT_RETRY, HASHED_RETRY, retry_of
from meshlib.compiler.telemetry.proxies import exchanges_metadata, headers_of_annotation, topology_of_annotation
from meshlib.policy.edge_headers import NO_PROXIES, Edge
from meshlib.policy.peer_metadata import OwnMetadata, own_metadata
from meshlib.policy.retry import RESET_BEFORE_REQUEST, RetryOn, RetryPolicy
from meshlib.policy.sidecar_headers import DEFAULT as DEFAULT_HEADERS
from meshlib.policy.sidecar_headers import ProxyHeaders
from meshlib.workload import DEFAULT_TRUST_DOMAIN, Workload

if TYPE_CHECKING:
    from meshlib.problems import Problem
    from meshlib.resources.kubernetes import Deployment, Pod
    from meshlib.resources.mesh_config import (
        ConfigMap,
        EnvoyExtAuthzGrpc,
        EnvoyExtAuthzHttp,
        ExtensionProvider,
        MeshConfig,
        MeshConfigSpec,
        RequestBodyInCheck,
    )

INBOUND_RETRY = RetryPolicy(attempts=2, retry_on=RetryOn(RESET_BEFORE_REQUEST), ignore_previous_hosts=False)
"""What Istio's inbound routes say where MeshConfig says nothing (``defaultInboundHttpRetryPolicy``)."""
ISTIO_SYSTEM = "istio-system"
INGRESS_GATEWAY = "ingressgateway"
EXT_AUTHZ_TIMEOUT = 600.0
"""Seconds that an authorizer may take when nothing is said (Istio's default)."""
PathNormalization = Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]


@dataclass(frozen=True, slots=True)
class BodyInCheck:
    """``includeRequestBodyInCheck``: the first ``max_bytes`` of a request's body are shown to the authorizer. Of longer bodies
    only with ``allow_partial``; else the request is refused."""

    max_bytes: int
    allow_partial: bool = False
    as_bytes: bool = False


@dataclass(frozen=True, slots=True)
class ExtAuthzProvider:
    """An authorizer (Istio's envoyExtAuthzHttp and envoyExtAuthzGrpc). ``service`` is a host, ``namespace`` "" or where that is
    looked for; ``timeout`` in seconds. ``unusable``: why nothing can be asked of it, "" when it can: who refers to it refuses.

    The lists of headers are patterns as written: ``name``, ``prefix*`` or ``*suffix``, in any case."""

    name: str
    protocol: Literal["http", "grpc"]
    service: str
    port: int
    namespace: str = ""
    timeout: float = EXT_AUTHZ_TIMEOUT
    fail_open: bool = False
    status_on_error: int = 403
    clear_route_cache: bool = False
    body: BodyInCheck | None = None
    path_prefix: str = ""
    request_headers: tuple[str, ...] = ()
    additional_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    upstream_headers_on_allow: tuple[str, ...] = ()
    downstream_headers_on_deny: tuple[str, ...] = ()
    downstream_headers_on_allow: tuple[str, ...] = ()
    unusable: str = ""


@dataclass(frozen=True, slots=True)
class IngressSettings:
    """``ingressControllerMode``, ``ingressClass``, and the value of the label ``istio`` of workloads that serve Ingresses
    (``ingressSelector``, ``ingressService``)."""

    mode: str = "STRICT"
    name: str = "istio"
    label: str = INGRESS_GATEWAY


INGRESS_DEFAULTS = IngressSettings()


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """Of one MeshConfig, for one workload. ``resource`` names it ("" when there is none)."""

    root_namespace: str = ISTIO_SYSTEM
    trust_domain: str = DEFAULT_TRUST_DOMAIN
    trust_domain_aliases: tuple[str, ...] = ()
    path_normalization: PathNormalization = "BASE"
    providers: Mapping[str, ExtAuthzProvider] = field(default_factory=dict)
    allow_any: bool = True
    retry: RetryPolicy = DEFAULT_RETRY
    hashed_retry: RetryPolicy = HASHED_RETRY
    resource: str = ""
    auto_mtls: bool = True
    tls13: bool = False  # whether our servers take no older TLS under mTLS of the mesh
    # seconds that a client is waited for whose first bytes decide; 0: without end
    protocol_detection_timeout: float = 0.0
    inbound_retry: RetryPolicy = INBOUND_RETRY  # of requests that a proxy hands to its application
    proxy_headers: ProxyHeaders = DEFAULT_HEADERS  # of what it hands on
    edge: Edge = NO_PROXIES  # what stands before it where it is a gateway
    ingress: IngressSettings = INGRESS_DEFAULTS  # which Ingresses of Kubernetes a gateway serves
    peer_metadata: OwnMetadata | None = None  # what peers inside the mesh are told of this workload, None: nothing

    def facts(self) -> dict[str, object]:
        """For ``status()``, by Istio's names; of a provider, why it cannot be used ("" when it can)."""
        return {
            "resource": self.resource,
            "rootNamespace": self.root_namespace,
            "trustDomain": str(self.trust_domain),
            "trustDomainAliases": list(self.trust_domain_aliases),
            "pathNormalization": self.path_normalization,
            "outboundTrafficPolicy": "ALLOW_ANY" if self.allow_any else "REGISTRY_ONLY",
            "enableAutoMtls": self.auto_mtls,
            "metadataExchangeHeaders": "UNDEFINED" if self.peer_metadata is None else "IN_MESH",
            "meshMTLS": {"minProtocolVersion": "TLSV1_3" if self.tls13 else "TLSV1_2"},
            "protocolDetectionTimeout": f"{self.protocol_detection_timeout:g}s",
            "extensionProviders": {name: provider.unusable for name, provider in self.providers.items()},
        }


DEFAULTS = MeshSettings()


def mesh_settings(
    configs: Sequence[MeshConfig],
    config_maps: Sequence[ConfigMap],
    workload: Workload,
    annotated: Sequence[Deployment | Pod] = (),
    domain: str = "cluster.local",
) -> tuple[MeshSettings, list[Problem]]:
    """The settings of ``workload``, and what is to be said of the MeshConfigs that do not count. A trust domain that the
    workload was given counts before MeshConfig's. ``annotated``: its own Deployment and Pod, as far as they have the
    annotation proxy.istio.io/config."""
    settings, chosen, problems = _of_config(configs, config_maps, workload)
    if chosen is None and not annotated:
        return settings, problems
    defaults = None if chosen is None else chosen.spec.default_config
    said = None if defaults is None else defaults.proxy_headers
    topology = None if defaults is None else defaults.gateway_topology
    settings = replace(
        settings,
        proxy_headers=compile_proxy_headers([said, headers_of_annotation(annotated)]),
        edge=compile_topology([topology, topology_of_annotation(annotated)]),
    )
    exchanges = exchanges_metadata(said, annotated)
    if exchanges:
        w = workload
        own = own_metadata(w.name, w.namespace, w.labels, w.cluster, w.address, domain)
        settings = replace(settings, peer_metadata=own)
    return settings, problems


def _of_config(
    configs: Sequence[MeshConfig], config_maps: Sequence[ConfigMap], workload: Workload
) -> tuple[MeshSettings, MeshConfig | ConfigMap | None, list[Problem]]:
    if not configs and not config_maps:
        return MeshSettings(trust_domain=workload.trust_domain), None, []
    from meshlib.resources.mesh_choice import REVISION, choose

    chosen, problems = choose(configs, config_maps, workload.labels.get(REVISION, ""))
    if chosen is None:
        return MeshSettings(trust_domain=workload.trust_domain), None, problems
    spec = chosen.spec
    written = spec.trust_domain if spec.trust_domain and not workload.names_trust_domain else None
    normalization = spec.path_normalization.normalization if spec.path_normalization is not None else None
    outbound = spec.outbound_traffic_policy
    settings = MeshSettings(
        root_namespace=spec.root_namespace or ISTIO_SYSTEM,
        trust_domain=written or workload.trust_domain,
        trust_domain_aliases=tuple(sorted(set(spec.trust_domain_aliases or ()))),
        path_normalization="BASE" if normalization is None or normalization == "DEFAULT" else normalization,
        providers={p.name: found for p in spec.extension_providers or () if p.name and (found := _provider(p))},
        # a block without a mode means REGISTRY_ONLY: that is value 0 of Istio's enum
        allow_any=outbound is None or outbound.mode in ("ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"),
        retry=retry_of(spec.default_http_retry_policy, DEFAULT_RETRY),
        hashed_retry=retry_of(spec.default_http_retry_policy, HASHED_RETRY),
        resource=chosen.id,
        auto_mtls=spec.enable_auto_mtls is not False,
        inbound_retry=retry_of(spec.default_inbound_http_retry_policy, INBOUND_RETRY),
        ingress=_ingress(spec),
        tls13=spec.mesh_mtls is not None and spec.mesh_mtls.min_protocol_version == "TLSV1_3",
        protocol_detection_timeout=spec.protocol_detection_timeout or 0.0,
    )
    return settings, chosen, problems


def _ingress(spec: MeshConfigSpec) -> IngressSettings:
    service = spec.ingress_service or ""
    label = spec.ingress_selector or (INGRESS_GATEWAY if service in ("", "istio-ingressgateway") else service)
    return IngressSettings(
        spec.ingress_controller_mode or INGRESS_DEFAULTS.mode, spec.ingress_class or INGRESS_DEFAULTS.name, label
    )


# -- authorizers ------------------------------------------------------------------------------------------------------


def _provider(provider: ExtensionProvider) -> ExtAuthzProvider | None:
    """None of a provider that authorizes nothing."""
    from meshlib.resources.validation.mesh_config import provider_problems

    written: EnvoyExtAuthzHttp | EnvoyExtAuthzGrpc | None = provider.envoy_ext_authz_http
    written = written if written is not None else provider.envoy_ext_authz_grpc
    if written is None:
        return None
    unusable = "; ".join(problem.message for problem in provider_problems(provider))
    namespace, _, host = (written.service or "").rpartition("/")
    status = written.status_on_error or ""
    common = ExtAuthzProvider(
        name=provider.name or "",
        protocol="grpc",
        service=host,
        namespace=namespace,
        port=written.port or 0,
        timeout=written.timeout or EXT_AUTHZ_TIMEOUT,
        fail_open=bool(written.fail_open),
        status_on_error=int(status) if status and not unusable else 403,
        clear_route_cache=bool(written.clear_route_cache),
        body=_body(written.include_request_body_in_check),
        unusable=unusable,
    )
    http = provider.envoy_ext_authz_http
    return common if http is None else _over_http(common, http)


def _over_http(common: ExtAuthzProvider, http: EnvoyExtAuthzHttp) -> ExtAuthzProvider:
    return replace(
        common,
        protocol="http",
        path_prefix=http.path_prefix or "",
        # the older field counts only without the newer one
        request_headers=tuple(http.include_request_headers_in_check or http.include_headers_in_check or ()),
        additional_headers=tuple(sorted((http.include_additional_headers_in_check or {}).items())),
        upstream_headers_on_allow=tuple(http.headers_to_upstream_on_allow or ()),
        downstream_headers_on_deny=tuple(http.headers_to_downstream_on_deny or ()),
        downstream_headers_on_allow=tuple(http.headers_to_downstream_on_allow or ()),
    )


def _body(written: RequestBodyInCheck | None) -> BodyInCheck | None:
    if written is None:
        return None
    return BodyInCheck(written.max_request_bytes or 0, bool(written.allow_partial_message), bool(written.pack_as_bytes))
