"""Where an attempt connects, and how long it may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.cluster import BoundCluster
from meshlib.policy.endpoint import EndpointState
from meshlib.transport.upstream.mutual import MutualTls, asked_by
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.tls import Context, upstream_context

if TYPE_CHECKING:
    from meshlib.compiler.routes import TlsSettings
    from meshlib.policy.http_match import RequestView
from meshlib.transport.core.mesh_core import MeshCore
from meshlib.transport.upstream.client_settings import ClientSettings

MAX_TARGETS = 2048
"""Per cluster. Only pass-through to ever new hosts gets there."""
GUARDED, HTTP2 = "guarded", "HTTP/2"
IDLE_OF_ONE_CLIENT = 60.0
"""Seconds that a connection is kept which begins with the addresses of one client: no other one can use it."""
ISTIO_MUTUAL = "ISTIO_MUTUAL"


def find_target(
    core: MeshCore, cluster: BoundCluster, endpoint: EndpointState, view: RequestView, client: ClientSettings
) -> Target:
    """Where to connect for this endpoint, made once per cluster, endpoint and TLS need.

    TLS of an https URL verifies the URL's host. TLS that a DestinationRule begins verifies its ``sni``, else the host of the
    mesh that the request chose (Envoy's ``auto_sni``); an address that the URL names is verified by the URL's name too."""
    if cluster.straight and view.scheme != "https" and client.limits is None and not client.guarded:
        known = cluster.targets.get(endpoint)  # of nearly all calls in plain text: the key is made below
        if type(known) is Target and known.label == endpoint.key:
            return known
    settings = cluster.tls
    authority = ""
    key: object = endpoint
    if settings is not None and (settings is cluster.spec.tls or _takes_mutual(core, cluster, endpoint, view)):
        authority = view.dialled if cluster.spec.resolution == "passthrough" else view.authority
        key = (endpoint, settings.sni or authority)
    else:
        settings = None
        if view.scheme == "https":
            authority = view.dialled
            key = (endpoint, authority, client)
    preface = b""
    if cluster.spec.proxy_protocol:
        preface = _preface(cluster.spec.proxy_protocol, view)
        key = (key, preface)
    if client.limits is not None:
        key = (key, client.limits)
    as_client = cluster.spec.as_client and view.version == HTTP2
    if as_client:
        key = (key, HTTP2)
    if client.guarded:  # a connection of somebody who may go anywhere is none for it
        key = (key, GUARDED)
    found = cluster.targets.get(key)
    if type(found) is not Target or found.label != endpoint.key:
        if len(cluster.targets) >= MAX_TARGETS:
            oldest = next(iter(cluster.targets))
            core.forget_targets([cluster.targets.pop(oldest)])
        stale = found
        found = _make_target(core, cluster, endpoint, settings, view.scheme, authority, client, preface, as_client)
        if isinstance(found.tls, MutualTls) and cluster.spec.tls is None:
            _forget_plain(core, cluster, endpoint, client)
        cluster.targets[key] = found
        if stale is not None:
            core.forget_targets([stale])
        if cluster.has_left(endpoint):  # looked at after the target can be found by who takes the endpoint out
            cluster.targets.pop(key, None)
            found.retire()
    return found


def _preface(version: str, view: RequestView) -> bytes:
    """The header that tells of the connection that a request came by (PROXY protocol); requests of a proxy alone have one."""
    came_by = getattr(view, "came_by", None)
    if came_by is None:
        return b""
    from meshlib.transport.protocol.proxy_protocol import Version, address_of, header_for

    return header_for(Version(version), *map(address_of, came_by))


def _takes_mutual(core: MeshCore, cluster: BoundCluster, endpoint: EndpointState, view: RequestView) -> bool:
    """Whether auto mTLS is for this call: its endpoint takes it and we have (had) a certificate. A caller who says https has
    chosen their own TLS."""
    return endpoint.key in cluster.mutual and view.scheme != "https" and core.servers.ready


def _forget_plain(core: MeshCore, cluster: BoundCluster, endpoint: EndpointState, client: ClientSettings) -> None:
    """Our certificate has come: what was open to the endpoint in plain text is used no more."""
    plain: object = endpoint if client.limits is None else (endpoint, client.limits)
    for each in (plain, (plain, HTTP2)):
        gone = cluster.targets.pop((each, GUARDED) if client.guarded else each, None)
        if gone is not None:
            core.forget_targets([gone])


def _make_target(
    core: MeshCore,
    cluster: BoundCluster,
    endpoint: EndpointState,
    settings: TlsSettings | None,
    scheme: str,
    authority: str,
    client: ClientSettings,
    preface: bytes,
    over_http2: bool,
) -> Target:
    from meshlib.compiler.snapshot import split_authority

    limits, spec = cluster.spec.limits, endpoint.endpoint
    idle = min(limits.idle_timeout, IDLE_OF_ONE_CLIENT) if preface else limits.idle_timeout
    context: Context | MutualTls | None = None
    name = ""
    if settings is not None and settings.mode == ISTIO_MUTUAL:
        context = MutualTls(
            core.servers, settings.subject_alt_names, asked_by(cluster.spec), core.vouches_for(endpoint)
        )
        name = settings.sni or split_authority(authority)[0]
    elif settings is not None:
        context = upstream_context(settings)
        name = settings.sni or split_authority(authority)[0]
    elif scheme == "https":
        context = client.context()
        name = split_authority(authority)[0]
    return Target(
        host=spec.address,
        port=spec.port,
        tls=context,
        server_hostname=name,
        subject_alt_names=settings.subject_alt_names
        if settings is not None and not isinstance(context, MutualTls)
        else (),
        connect_timeout=limits.connect_timeout,
        idle_timeout=idle if client.limits is None or client.limits.expiry is None else min(idle, client.limits.expiry),
        max_requests=limits.max_requests_per_connection,
        max_duration=limits.max_connection_duration,
        keepalive=limits.tcp_keepalive,
        http2=cluster.spec.http2 or over_http2 or (settings is None and context is not None and client.http2),
        max_concurrent_streams=limits.max_concurrent_streams,
        limits=client.limits,
        guarded=client.guarded,
        label=endpoint.key,
        source=cluster.spec.source,
        preface=preface,
    )
