"""A port before an application as Envoy's listener and cluster: mTLS and plain text as PeerAuthentication says, who may come
in, and the application behind it, as a sidecar of Istio's inbound side.

What of security has no translation here (external authorizers, keys that are fetched) is ``Untranslatable``: at start the
proxy does not begin, and after a reload that brings it nobody is let in at that port until it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.compiler.clusters import is_name
from meshlib.compiler.routes import Cluster
from meshlib.envoy.clusters import cluster_of, endpoints_of
from meshlib.envoy.headers import FROM_PROXIES
from meshlib.envoy.inspectors import TLS_INSPECTOR
from meshlib.envoy.listeners import MANAGER, ROUTER, connection_manager
from meshlib.envoy.rbac import Untranslatable, nobody, rbac_filters
from meshlib.envoy.routes import retry_policy
from meshlib.envoy.tls import TLS12, Files, secret_config
from meshlib.envoy.tokens import token_filters
from meshlib.envoy.values import Json, listen_address, typed
from meshlib.policy.circuit_limits import CircuitLimits
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.registry.service import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlib.compiler.inbound import Inbound
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.compiler.snapshot import Snapshot

TLS13 = {"tls_minimum_protocol_version": "TLSv1_3"}
ALPN = ("h2", "http/1.1")


@dataclass(frozen=True, slots=True)
class InboundPort:
    """``host`` and ``port``: where it listens; ``app`` and ``app_port``: where the application does (``unix:///path``: no
    port); ``known_as``: the port by which policies know the application."""

    host: str
    port: int
    app: str
    app_port: int
    known_as: int

    @property
    def name(self) -> str:
        """Of the listener, and in metrics."""
        return f"inbound_{self.known_as}"


def inbound_cluster(port: InboundPort) -> tuple[Json, Json | None]:
    """The application: spoken to as its callers speak, without limits; and its endpoints, None where they are in the
    cluster."""
    spec = Cluster(
        key=f"inbound|{port.known_as}||",
        host="",
        subset="",
        port=port.known_as,
        endpoints=(Endpoint(port.app, port.app_port),),
        limits=CircuitLimits(),
        balancer="ROUND_ROBIN",
        protocol="sniffed",
        as_client=True,
        resolution="logical_dns" if is_name(port.app) else "static",
    )
    made = cluster_of(spec, False, Files())
    return made, endpoints_of(spec) if made.get("type") == "EDS" else None


def inbound_listener(port: InboundPort, snapshot: Snapshot, has_identity: bool) -> tuple[Json | None, str]:
    """The port, None where nobody could be served there; and why nobody is let in, "" where somebody may be."""
    inbound = snapshot.inbound.of(port.known_as)
    try:
        filters, why = checks(inbound, port.known_as), ""
    except Untranslatable as error:
        filters, why = [nobody()], str(error)
    manager = inbound_manager(port.name, f"inbound|{port.known_as}||", inbound.mesh, filters)
    chains: list[Json] = []
    if inbound.mtls is not MtlsMode.DISABLE and has_identity:
        chains.append(
            {
                "filter_chain_match": {"transport_protocol": "tls"},
                "filters": [manager],
                "transport_socket": mutual_tls(inbound.mesh),
            }
        )
    if inbound.mtls is not MtlsMode.STRICT:
        chains.append({"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [manager]})
    if not chains:
        return None, why or "PeerAuthentication is STRICT, and this process has no certificate yet"
    made: Json = {
        "name": port.name,
        "traffic_direction": "INBOUND",
        "address": listen_address(port.host, port.port),
        "listener_filters": [TLS_INSPECTOR],
        "filter_chains": chains,
    }
    return made, why


def checks(inbound: Inbound, port: int) -> list[Json]:
    """Raises ``Untranslatable`` for all that decides about who comes in and is not told Envoy."""
    if inbound.custom:
        names = ", ".join(sorted(each.provider for each in inbound.custom))
        raise Untranslatable(f"AuthorizationPolicies of action CUSTOM ({names}) have no translation to Envoy here")
    if inbound.checks:
        raise Untranslatable("checks of this workload have no translation to Envoy here")
    return [*token_filters(inbound.tokens), *rbac_filters(inbound.authorization, port)]


def inbound_manager(name: str, cluster: str, settings: MeshSettings, filters: list[Json]) -> Json:
    """The network filter that reads requests to the application, which is ``cluster``. ``name``: in metrics."""
    headers = settings.proxy_headers
    details = headers.details
    router = typed("filters.http.router.v3.Router", suppress_envoy_headers=not headers.debug)
    action: Json = {"cluster": cluster, "timeout": "0s"}
    if settings.inbound_retry.attempts:
        action["retry_policy"] = retry_policy(settings.inbound_retry)
    route = {"name": "default", "match": {"prefix": "/"}, "route": action}
    said: Json = {name: getattr(details, name) for name in ("cert", "chain", "dns", "uri")}
    made = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        route_config={
            "name": name,
            "validate_clusters": False,
            "request_headers_to_remove": FROM_PROXIES,
            "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}],
        },
        http_filters=[*filters, {"name": ROUTER, "typed_config": router}],
        **connection_manager(settings),
    )
    made["forward_client_cert_details"] = headers.client_cert.value
    made["set_current_client_cert_details"] = {**said, "subject": details.subject}
    if headers.server:
        made["server_name"] = headers.server
        made["server_header_transformation"] = "OVERWRITE"
    return {"name": MANAGER, "typed_config": made}


def mutual_tls(settings: MeshSettings, alpn: Sequence[str] = ALPN) -> Json:
    """mTLS of the mesh: our certificate, and callers' by our roots."""
    context = typed(
        "transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=True,
        common_tls_context={
            "tls_params": TLS13 if settings.tls13 else TLS12,
            "alpn_protocols": list(alpn),
            **secret_config(()),
        },
    )
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}
