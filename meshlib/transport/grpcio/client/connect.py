"""The making of channels: a cluster's policies as grpcio's options and credentials."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import grpc

from meshlib.compiler.snapshot import split_authority
from meshlib.problems import MeshError
from meshlib.transport.grpcio.client.unpatched import make_channel
from meshlib.transport.grpcio.client.upstream import Upstream
from meshlib.transport.upstream.followed import Followed, UnusableFiles
from meshlib.transport.upstream.mutual import MutualTls, asked_by
from meshlib.transport.upstream.names import is_name
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.tls import load_context

if TYPE_CHECKING:
    import asyncio

    from meshlib.compiler.routes import TlsSettings
    from meshlib.engine.cluster import BoundCluster
    from meshlib.policy.endpoint import EndpointState
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.mutual import LocalTls, Mutual

ISTIO_MUTUAL = "ISTIO_MUTUAL"
FIRST_BACKOFF_MS = 100
LONGEST_BACKOFF_MS = 1000
"""Between attempts to reconnect. grpcio's own (1 s to 2 min) would keep an endpoint out long after it came back."""


class CannotConnect(MeshError):
    """What the policy asks of a connection cannot be had with grpcio, so none is made."""


class MeshGone(CannotConnect):
    """The mesh was closed meanwhile."""


class ChannelSettings:
    """What the caller said when it made its channel. Compared by identity; ``MeshCore`` keeps one object per content, so
    that channels made alike share their connections."""

    __slots__ = ("asks_for_retries", "authority", "compression", "credentials", "health_service", "options")

    def __init__(
        self,
        authority: str,
        credentials: grpc.ChannelCredentials | None,
        options: tuple[tuple[str, object], ...],
        compression: grpc.Compression | None,
    ) -> None:
        self.authority = authority
        self.credentials = credentials
        self.compression = compression
        self.health_service, self.asks_for_retries = _read(dict(options).get("grpc.service_config"))
        self.options = options


def _read(service_config: Any) -> tuple[str | None, bool]:
    """The service to ask grpc.health.v1 about (gRPC's own ``healthCheckConfig``), None for none; and whether the caller has
    given gRPC core a ``retryPolicy`` of their own."""
    if not service_config:
        return None, False
    try:
        config = json.loads(service_config)
        found = config.get("healthCheckConfig")
        service = None if found is None else str(found.get("serviceName", ""))
        retries = any("retryPolicy" in each for each in config.get("methodConfig") or ())
    except (ValueError, AttributeError, TypeError) as error:
        raise MeshError(f"the channel option grpc.service_config is not a JSON object: {error}") from error
    return service, retries


def mutual_tls(
    core: MeshCore, cluster: BoundCluster, endpoint: EndpointState, settings: ChannelSettings
) -> TlsSettings | None:
    """The settings by which a channel is over mTLS of the mesh: an explicit ISTIO_MUTUAL; or auto mTLS, where the endpoint
    takes it and we have (had) a certificate, unless the caller has brought TLS of their own."""
    tls = cluster.tls
    if tls is None or tls.mode != ISTIO_MUTUAL:
        return None
    if tls is cluster.spec.tls:
        return tls
    if settings.credentials is None and endpoint.endpoint.key in cluster.mutual and core.servers.ready:
        return tls
    return None


def connect(
    core: MeshCore,
    cluster: BoundCluster,
    endpoint: EndpointState,
    settings: ChannelSettings,
    authority: str,
    loop: asyncio.AbstractEventLoop | None,
    now: float,
    mutual: tuple[TlsSettings, Mutual] | None = None,
) -> Upstream:
    """A new channel to ``endpoint`` as the cluster's policies want it; ``mutual``: over mTLS of the mesh, by
    ``mutual_tls``. Raises ``CannotConnect``."""
    limits, tls = cluster.spec.limits, cluster.spec.tls
    options: dict[str, object] = {
        "grpc.default_authority": authority,
        "grpc.enable_http_proxy": 0,  # a proxy of the environment must not stand between the mesh and its endpoints
        "grpc.service_config_disable_resolution": 1,
        "grpc.initial_reconnect_backoff_ms": FIRST_BACKOFF_MS,
        "grpc.min_reconnect_backoff_ms": max(1, int(limits.connect_timeout * 1000)),
        "grpc.max_reconnect_backoff_ms": LONGEST_BACKOFF_MS,
        "grpc.client_idle_timeout_ms": max(1000, int(min(limits.idle_timeout, 2_000_000) * 1000)),
    }
    if not settings.asks_for_retries:
        # the mesh retries. gRPC core's own, once a server has told a connection to go away (GOAWAY), may try a call on it as
        # fast as it can until its deadline or for ever, with memory for each time (1.85: 100 MB a second)
        options["grpc.enable_retries"] = 0
    left = limits.max_requests_per_connection or None
    until = None if limits.max_connection_duration is None else now + limits.max_connection_duration
    if left is not None or until is not None:
        options["grpc.use_local_subchannel_pool"] = 1  # its connection must end with it
    credentials = settings.credentials
    followed: Followed[grpc.ChannelCredentials] | None = None
    local: LocalTls | None = None
    if tls is not None and _is_composite(credentials):
        raise CannotConnect(
            "the DestinationRule's tls replaces the channel's credentials, and the call credentials in them would be "
            "lost: give call credentials with each call (credentials=...), or set tls mode DISABLE"
        )
    if mutual is not None:
        local = _local(core, cluster, endpoint, authority, *mutual)
        credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)  # its calls may have credentials
    elif tls is not None:
        followed, name = _tls(tls, authority)
        try:
            credentials = followed.current()
        except UnusableFiles as error:
            raise CannotConnect(str(error)) from error
        if name:
            options["grpc.ssl_target_name_override"] = name
            host = split_authority(authority)[0]
            if name != host:  # gRPC core compares the call's authority, port and all, with the bare host then
                options["grpc.default_authority"] = host
    elif credentials is not None:
        # the certificate is for the host that the caller named (grpc.default_authority, if that is set, as in grpcio itself),
        # not for the endpoint's address
        options["grpc.ssl_target_name_override"] = split_authority(settings.authority)[0]
    options.update(settings.options)
    if local is not None:
        address = f"unix:{local.path}"
    else:
        address = _address(endpoint.endpoint.address, endpoint.endpoint.port)
    pairs = list(options.items())
    try:
        channel = make_channel(loop is not None, address, credentials, pairs, settings.compression)
    except BaseException:
        if local is not None:
            local.drop()
        raise
    made = Upstream(channel, loop, left, until)
    if followed is not None and credentials is not None and followed.files:
        made.follow(followed, credentials, now)
    if local is not None:
        made.over_mutual(local)
    elif cluster.tls is not None and tls is None and endpoint.endpoint.key in cluster.mutual:
        made.worn = True  # in plain text until there is a certificate: looked at by each call
    return made


def _is_composite(credentials: grpc.ChannelCredentials | None) -> bool:
    return type(getattr(credentials, "_credentials", None)).__name__ == "CompositeChannelCredentials"


def _local(
    core: MeshCore,
    cluster: BoundCluster,
    endpoint: EndpointState,
    authority: str,
    settings: TlsSettings,
    mutual: Mutual,
) -> LocalTls:
    """What a channel over mTLS of the mesh connects to."""
    limits, spec = cluster.spec.limits, endpoint.endpoint
    wanted_by = asked_by(cluster.spec)
    try:
        core.servers.credentials(wanted_by)
        target = Target(
            host=spec.address,
            port=spec.port,
            tls=MutualTls(core.servers, settings.subject_alt_names, wanted_by, core.vouches_for(endpoint)),
            server_hostname=settings.sni or split_authority(authority)[0],
            connect_timeout=limits.connect_timeout,
            keepalive=limits.tcp_keepalive,
            http2=True,
            label=endpoint.key,
        )
        return mutual.listen(target)
    except (MeshError, OSError) as error:
        raise CannotConnect(str(error)) from error


def _address(host: str, port: int) -> str:
    """The endpoint as a gRPC target."""
    if host.startswith("unix:"):
        return host
    if is_name(host):
        return f"dns:///{host}:{port}"
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _tls(settings: TlsSettings, authority: str) -> tuple[Followed[grpc.ChannelCredentials], str]:
    """Credentials for a DestinationRule's ``tls`` and the name that the certificate must have. What grpcio cannot check
    is not left unchecked: such a connection is refused."""
    name = settings.sni or split_authority(authority)[0]
    if settings.insecure_skip_verify:
        raise CannotConnect(
            "tls.insecureSkipVerify: grpcio always verifies certificates; set caCertificates to the server's own CA"
        )
    if settings.ca_crl or settings.crl_pem:
        raise CannotConnect("tls.caCrl: the policy requires a revocation list, which grpcio does not check")
    wanted = settings.subject_alt_names
    if wanted:
        if len(wanted) > 1 or "://" in wanted[0]:
            raise CannotConnect(
                f"tls.subjectAltNames {', '.join(wanted)}: grpcio checks one DNS name and nothing else (a certificate with "
                "another SPIFFE ID would be accepted); name the one DNS name of the certificate, or use httpx"
            )
        if settings.sni and settings.sni != wanted[0]:
            raise CannotConnect(
                f"tls.sni {settings.sni} and subjectAltNames {wanted[0]} differ: grpcio uses one name for both"
            )
        if settings.named_too and name != wanted[0]:
            raise CannotConnect(
                f"subjectAltNames {wanted[0]} of the ServiceEntry in addition to the host {name}: grpcio checks one name; name "
                "it as tls.sni and subjectAltNames of the DestinationRule, or use httpx"
            )
        name = wanted[0]
    return _credentials(settings), name


@functools.lru_cache(maxsize=64)
def _credentials(settings: TlsSettings) -> Followed[grpc.ChannelCredentials]:
    """grpcio's credentials cannot change, and do not say when they are of no use: they are made anew when the files change,
    of contents that OpenSSL can read."""
    files = (settings.ca_certificates, settings.private_key, settings.client_certificate)

    def load() -> grpc.ChannelCredentials:
        load_context(settings)
        if settings.credential:
            pems = settings.ca_pem, settings.key_pem, settings.certificate_pem
            return grpc.ssl_channel_credentials(*(pem or None for pem in pems))
        contents: list[bytes | None] = []
        for file in files:
            if file:
                with open(file, "rb") as opened:
                    contents.append(opened.read())
            else:
                contents.append(None)
        return grpc.ssl_channel_credentials(*contents)

    return Followed(settings.credential or "the TLS files of a DestinationRule", files, load)
