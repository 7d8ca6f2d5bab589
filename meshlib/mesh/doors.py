"""The doors of a mesh: transports and clients of httpx, channels and interceptors of gRPC, and what handlers ask.

What needs a library of callers (httpx, httpx2, grpcio) is loaded by the door that is used.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from meshlib.engine import inbound_context
from meshlib.engine.deadlines import seconds_left, until
from meshlib.httpx_module import HttpxModule, imported, module_of_transport, typed, usual
from meshlib.mesh.client_options import (
    AsyncClientModule,
    AsyncClientOptions,
    AsyncTransportModule,
    ClientModule,
    ClientOptions,
    LocalReplies,
    TransportModule,
    TransportOptions,
)
from meshlib.problems import MeshError

if TYPE_CHECKING:
    import grpc
    import grpc.aio
    import httpx

    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.telemetry.observe import InboundTelemetry
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.contracts import Options
    from meshlib.transport.runtimes.serving import Server
    from meshlib.transport.upstream.client_limits import HttpxLimits
    from meshlib.transport.upstream.client_settings import ClientSettings
    from meshlib.transport.upstream.tls import Cert, Verify


T = TypeVar("T")


class Doors:
    """Mixed into ``Mesh``, which holds the core."""

    _core: MeshCore

    @overload
    def http_transport(
        self, inner: httpx.BaseTransport | None = None, *, module: None = None, **options: Unpack[TransportOptions]
    ) -> httpx.BaseTransport: ...
    @overload
    def http_transport(
        self, inner: T | None = None, *, module: TransportModule[T], **options: Unpack[TransportOptions]
    ) -> T: ...
    def http_transport(
        self,
        inner: Any = None,
        *,
        local_replies: LocalReplies = "raise",
        verify: Verify = True,
        cert: Cert = None,
        trust_env: bool = True,
        http2: bool = False,
        limits: HttpxLimits | None = None,
        module: object = None,
    ) -> object:
        """A transport for ``httpx.Client`` and ``httpx2.Client``: responses and exceptions are of the request's own module.

        ``inner`` is another httpx transport to send through (MockTransport, WSGITransport ...): it gets the request with the
        endpoint's address in its URL and the mesh authority in Host, and the options below about connections are ignored.
        With ``local_replies="respond"`` a call that fails in the mesh gets the response that Envoy would send (503, 504); by
        default it raises httpx's exceptions. ``verify``, ``cert``, ``trust_env`` and ``http2`` are httpx's, for https URLs; in
        plain text the mesh decides which endpoints speak HTTP/2. ``limits`` (httpx.Limits) bounds the connections of this
        transport in addition to the mesh's own limits. ``module``, httpx or httpx2, is the module whose requests ``inner``
        takes, if its class does not show it. Raises TypeError for any other module.
        """
        from meshlib.transport.httpx.through_inner import sync_runtime
        from meshlib.transport.httpx.transport import transports

        takes = _taken_by(inner, module)
        runtime = sync_runtime(self._core, inner, _settings(verify, cert, trust_env, http2, limits), takes)
        return transports(*_in_use(module)).sync(self._core, runtime, local_replies)

    @overload
    def async_http_transport(
        self, inner: httpx.AsyncBaseTransport | None = None, *, module: None = None, **options: Unpack[TransportOptions]
    ) -> httpx.AsyncBaseTransport: ...
    @overload
    def async_http_transport(
        self, inner: T | None = None, *, module: AsyncTransportModule[T], **options: Unpack[TransportOptions]
    ) -> T: ...
    def async_http_transport(
        self,
        inner: Any = None,
        *,
        local_replies: LocalReplies = "raise",
        verify: Verify = True,
        cert: Cert = None,
        trust_env: bool = True,
        http2: bool = False,
        limits: HttpxLimits | None = None,
        module: object = None,
    ) -> object:
        """The same for ``httpx.AsyncClient``; one transport can be used on several event loops."""
        from meshlib.transport.httpx.through_inner import async_runtime
        from meshlib.transport.httpx.transport import transports

        takes = _taken_by(inner, module)
        runtime = async_runtime(self._core, inner, _settings(verify, cert, trust_env, http2, limits), takes)
        return transports(*_in_use(module)).asynchronous(self._core, runtime, local_replies)

    @overload
    def client(
        self, *, module: None = None, local_replies: LocalReplies = "raise", **httpx_kwargs: Unpack[ClientOptions]
    ) -> httpx.Client: ...
    @overload
    def client(
        self, *, module: ClientModule[T], local_replies: LocalReplies = "raise", **httpx_kwargs: object
    ) -> T: ...
    def client(self, *, module: object = None, local_replies: LocalReplies = "raise", **httpx_kwargs: Any) -> object:
        """An ``httpx.Client`` whose calls go through the mesh. It takes httpx.Client's own arguments; with ``module=httpx2`` it
        is an ``httpx2.Client`` and takes that class's.

        ``transport`` and ``local_replies`` are ``inner`` and ``local_replies`` of ``http_transport``. ``proxy``, ``mounts`` and
        proxies from the environment (``trust_env``) are used for hosts outside the registry, never for hosts of the mesh.
        Raises TypeError or ValueError for arguments that could have no effect (``http1=False``)."""
        from meshlib.transport.httpx.client_arguments import arguments

        asked = _asked(module)
        made = arguments(self.http_transport, httpx_kwargs, asked.HTTPTransport, local_replies, asked)
        if asked.__name__ != "httpx":
            return asked.Client(**made)
        from meshlib.transport.httpx.clients import MeshClient

        return MeshClient(**made)

    @overload
    def async_client(
        self, *, module: None = None, local_replies: LocalReplies = "raise", **httpx_kwargs: Unpack[AsyncClientOptions]
    ) -> httpx.AsyncClient: ...
    @overload
    def async_client(
        self, *, module: AsyncClientModule[T], local_replies: LocalReplies = "raise", **httpx_kwargs: object
    ) -> T: ...
    def async_client(
        self, *, module: object = None, local_replies: LocalReplies = "raise", **httpx_kwargs: Any
    ) -> object:
        """An ``httpx.AsyncClient`` whose calls go through the mesh. It takes httpx.AsyncClient's own arguments, like
        ``client``."""
        from meshlib.transport.httpx.client_arguments import arguments

        asked = _asked(module)
        made = arguments(self.async_http_transport, httpx_kwargs, asked.AsyncHTTPTransport, local_replies, asked)
        if asked.__name__ != "httpx":
            return asked.AsyncClient(**made)
        from meshlib.transport.httpx.clients import AsyncMeshClient

        return AsyncMeshClient(**made)

    def grpc_server_interceptors(
        self, *, propagate_deadline: bool = True, port: int | None = None
    ) -> list[grpc.ServerInterceptor]:
        """Interceptors for ``grpc.server(pool, interceptors=mesh.grpc_server_interceptors())``, to put before your own.

        They identify the caller of each call (``inbound()``), enforce policies and an EnvoyFilter's faults, and record metrics
        and spans. With ``propagate_deadline``, calls that a handler makes through the mesh end by the deadline of its caller.
        ``port`` is the container's port that calls arrive at, which grpcio does not report. Policies that name a port need it;
        without it they count against the caller. Needs the extra ``grpc``. Raises ValueError for a port that is not valid,
        and ``MeshError`` if grpcio is not installed.
        """
        _need_grpcio()
        from meshlib.transport.grpcio.server.served import Served
        from meshlib.transport.grpcio.server.threads import MeshServerInterceptor
        from meshlib.transport.runtimes.serving import checked_port

        served = Served(self._core, self._telemetry_of_servers(), propagate_deadline, checked_port(port))
        return [MeshServerInterceptor(served)]

    def aio_grpc_server_interceptors(
        self, *, propagate_deadline: bool = True, port: int | None = None
    ) -> list[grpc.aio.ServerInterceptor]:
        """The same for ``grpc.aio.server(interceptors=...)``."""
        _need_grpcio()
        from meshlib.transport.grpcio.server.loop import MeshAioServerInterceptor
        from meshlib.transport.grpcio.server.served import Served
        from meshlib.transport.runtimes.serving import checked_port

        served = Served(self._core, self._telemetry_of_servers(), propagate_deadline, checked_port(port))
        return [MeshAioServerInterceptor(served)]

    def add_grpc_port(
        self,
        server: grpc.Server | grpc.aio.Server,
        address: str,
        *,
        port: int | None = None,
        reuse_port: bool = True,
    ) -> int:
        """Have ``server`` listen at ``address`` (``host:port``, such as ``0.0.0.0:50051``). Returns the port number; port 0
        picks a free one.

        ``server`` comes from ``grpc.server`` or ``grpc.aio.server``, has this mesh's interceptors and has not been started. The
        port's PeerAuthentication says what it accepts: STRICT only mTLS, DISABLE only plain text, PERMISSIVE both; a reload
        changes that for new connections. Each connection uses the certificate and roots of the mesh's ``identity`` at the time
        it is accepted. Without a certificate there is no mTLS: a STRICT port then refuses every connection, and the log says
        so. Connections whose peer is no longer trusted (its root was dropped, its certificate has expired) are closed,
        including their streams.

        ``port`` is the container's port, for policies, if it differs. ``reuse_port`` lets other processes listen at the same
        address, as in grpcio. Raises ``MeshError`` if it cannot listen at the address, for a server without this mesh's
        interceptors, and when the mesh is closed; ValueError for a port that is not valid.
        """
        _need_grpcio()
        from meshlib.serving.grpc_ports import grpc_ports_of
        from meshlib.transport.runtimes.serving import checked_port

        return grpc_ports_of(self._core).add(server, address, checked_port(port), reuse_port)

    def grpc_server_credentials(self) -> grpc.ServerCredentials:
        """Credentials for ``server.add_secure_port(address, mesh.grpc_server_credentials())``: mTLS with the mesh's current
        certificate and roots at each handshake. The server needs the mesh's interceptors, which check the peer of each call.

        gRPC core serves such a port directly. So it accepts only mTLS, whatever PeerAuthentications say, and open connections
        stay open when a root is dropped (calls on them are refused); ``add_grpc_port`` handles both. Raises ``MeshError`` if
        the mesh has no identity, and if its MeshConfig demands TLS 1.3 (``meshMTLS.minProtocolVersion``), which grpcio cannot
        enforce but ``add_grpc_port`` can. If a later reload demands it, handshakes fail.
        """
        _need_grpcio()
        from meshlib.serving.tls_minimum import tls13_alone
        from meshlib.transport.grpcio.server.credentials import server_credentials

        identity = self._core.identity
        if identity is None:
            raise MeshError(
                "this mesh has no identity, hence no certificate to show: Mesh(identity=meshlib.Identity...)"
            )
        demanded = functools.partial(tls13_alone, self._core)
        if demanded():
            raise MeshError(
                "grpcio has no way to refuse TLS 1.2, as this mesh's MeshConfig demands "
                "(meshMTLS.minProtocolVersion): use mesh.add_grpc_port(server, address), which does"
            )
        return server_credentials(identity, self._core.clock.time(), closed=demanded)

    def _server(self, propagate_deadline: bool = True) -> Server:
        """What serves requests, for middlewares."""
        from meshlib.transport.runtimes.serving import Server

        return Server(self._core, self._telemetry_of_servers(), propagate_deadline)

    def _telemetry_of_servers(self) -> InboundTelemetry:
        raise NotImplementedError

    def inbound(self) -> InboundRequest | None:
        """The request that the current handler is serving (its peer, principal, path, headers), or None outside a handler.
        Works in handlers, in functions that they call and in their response generators, but not in threads that they
        start."""
        return inbound_context.here()

    def grpc_channel(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None = None,
        options: Options | None = None,
        *,
        compression: grpc.Compression | None = None,
    ) -> grpc.Channel:
        """A ``grpc.Channel`` to a host of the mesh, such as ``ratings:9080``. All four kinds of calls obey its resources.

        ``credentials``, ``options`` and ``compression`` are those of ``grpc.secure_channel``; without credentials, endpoints
        are called in plain text unless a DestinationRule has ``tls``. An ``xds:///`` target gets
        grpcio's own channel. Raises ``MeshError`` if grpcio is not installed or the target is not a host.
        """
        _need_grpcio()
        if target.startswith("xds:"):
            import grpc

            if credentials is None:
                return grpc.insecure_channel(target, options, compression)
            return grpc.secure_channel(target, credentials, options, compression)
        from meshlib.transport.grpcio.client.channel import MeshChannel

        return MeshChannel(self._core, target, credentials, options, compression)

    def aio_grpc_channel(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None = None,
        options: Options | None = None,
        *,
        compression: grpc.Compression | None = None,
        interceptors: Sequence[grpc.aio.ClientInterceptor] | None = None,
    ) -> grpc.aio.Channel:
        """The same as a ``grpc.aio.Channel``. ``interceptors`` run outside the mesh, once per call and not once per attempt."""
        _need_grpcio()
        if target.startswith("xds:"):
            import grpc

            if credentials is None:
                return grpc.aio.insecure_channel(target, options, compression, interceptors)
            return grpc.aio.secure_channel(target, credentials, options, compression, interceptors)
        from meshlib.transport.grpcio.client.aio_channel import AioMeshChannel

        return AioMeshChannel(self._core, target, credentials, options, compression, interceptors)

    def deadline(self, left: float | Mapping[str, str] | None) -> AbstractContextManager[None]:
        """A context manager: calls made inside it, to services whose ResiliencePolicy has ``deadline``, end by this deadline.

        ``left`` is the time left in seconds, or the headers of the request being served (FastAPI's, Flask's), which the time
        left is read from; None, or headers without a deadline, change nothing. Works across ``await``.
        """
        if isinstance(left, Mapping):
            live = self._core.live
            policies = live.snapshot.resilience.values() if live is not None else ()
            left = seconds_left(left, [policy.deadline[0] for policy in policies if policy.deadline is not None])
        return until(None if left is None else self._core.clock.monotonic() + left)


def _asked(module: object) -> HttpxModule:
    """The module of a client. Raises TypeError for one that has no clients."""
    if module is None:
        return usual()
    if not isinstance(module, ModuleType) or not hasattr(module, "AsyncClient"):
        raise TypeError(f"module must be httpx or httpx2, not {module!r}")
    return typed(module)


def _taken_by(inner: object, module: object) -> HttpxModule | None:
    """Whose requests ``inner`` takes; None: whatever its callers use."""
    return module_of_transport(inner) or (None if module is None else _asked(module))


def _in_use(module: object) -> list[HttpxModule]:
    """The modules in whose eyes a transport is one: those that the program has imported."""
    if module is not None:
        _asked(module)
    return imported() or [usual()]


def _settings(verify: Verify, cert: Cert, trust_env: bool, http2: bool, limits: HttpxLimits | None) -> ClientSettings:
    from meshlib.transport.upstream.client_limits import ClientLimits
    from meshlib.transport.upstream.client_settings import ClientSettings

    return ClientSettings(verify, cert, trust_env, http2, None if limits is None else ClientLimits(limits))


def _need_grpcio() -> None:
    try:
        import grpc  # noqa: F401 (whether it is there)
    except ImportError as error:
        raise MeshError("gRPC needs grpcio: pip install 'sidecarless[grpc]'") from error
