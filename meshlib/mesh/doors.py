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
        """A transport for ``httpx.Client`` and ``httpx2.Client``: each request gets responses and exceptions of its module.

        ``inner`` sends through any other httpx transport (MockTransport, WSGITransport ...): it gets the request with the
        endpoint's address in its URL and the mesh authority in Host. ``local_replies="respond"`` answers what Envoy would
        (503, 504) where the default raises httpx's exceptions. ``verify``, ``cert``, ``trust_env`` and ``http2`` are httpx's,
        for https URLs: over plaintext the mesh says who speaks HTTP/2. ``limits`` (httpx.Limits) bounds the connections of
        this transport beside the mesh's own limits; None: only those. What is said beside ``inner`` does not matter.
        ``module``, httpx or httpx2, is whose requests ``inner`` takes, where its class does not tell.
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
        """The same for ``httpx.AsyncClient``; one transport may serve several event loops."""
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
        """An ``httpx.Client`` whose calls go through the mesh; takes httpx.Client's own arguments. ``module=httpx2``: an
        ``httpx2.Client``, with that one's.

        ``transport`` is the ``inner`` of ``http_transport``. ``proxy``, ``mounts`` and the proxies of the environment
        (``trust_env``) act for hosts outside the registry, never for hosts of the mesh. Raises TypeError or ValueError for
        arguments that could not act (``http1=False``)."""
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
        """An ``httpx.AsyncClient`` whose calls go through the mesh; takes httpx.AsyncClient's own arguments, as ``client``."""
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
        """For ``grpc.server(pool, interceptors=mesh.grpc_server_interceptors())``, before interceptors of your own.

        Each call is identified (``inbound()``), may be refused or hit by a fault of an EnvoyFilter, is counted and traced.
        With ``propagate_deadline`` calls that its handler makes through the mesh end when the caller's deadline does.
        ``port`` is the port (of the container) that calls come to, which grpcio does not tell, for policies that say one;
        where it is not said, such a policy counts against callers. Needs the extra ``grpc``. Raises ValueError for a port
        that is none.
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
        """Have ``server`` (of ``grpc.server`` or ``grpc.aio.server``, with this mesh's interceptors, not started yet) serve
        at ``host:port``, such as ``0.0.0.0:50051``; the number of the port, which is chosen where it is 0.

        The PeerAuthentication of the port says what it accepts, and a reload changes that for new connections: STRICT mTLS
        alone, DISABLE plain text, PERMISSIVE both. Certificate and roots are those of the mesh's ``identity``, as they are
        when a connection is accepted; without a certificate there is no mTLS, and a STRICT port serves nobody, which the
        log says. Connections whose peer is not trusted any more (its root was dropped, its certificate has expired) are
        closed, with their streams. ``port`` is the port of policies where it differs (that of the container).
        ``reuse_port``: other processes may listen at the same address, as grpcio does it. Raises ``MeshError`` for an
        address where nothing can listen, for a server without interceptors of this mesh, and when the mesh is closed;
        ValueError for a port that is none.
        """
        _need_grpcio()
        from meshlib.serving.grpc_ports import grpc_ports_of
        from meshlib.transport.runtimes.serving import checked_port

        return grpc_ports_of(self._core).add(server, address, checked_port(port), reuse_port)

    def grpc_server_credentials(self) -> grpc.ServerCredentials:
        """For ``server.add_secure_port(address, mesh.grpc_server_credentials())``: mTLS with the mesh's certificate and
        roots as they are at each handshake. The server needs the mesh's interceptors, which judge the peer of each call.

        gRPC core serves such a port without anything in between: it is mTLS alone whatever PeerAuthentications say, and
        nobody closes its open connections when a root is dropped (the calls on them are refused); ``add_grpc_port`` does
        both. Raises ``MeshError`` when the mesh has no identity, and where its MeshConfig demands TLS 1.3
        (``meshMTLS.minProtocolVersion``), which grpcio cannot be told: ``add_grpc_port`` sees to it. When a reload demands it
        later, handshakes fail.
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
                "grpcio cannot be told to refuse TLS 1.2, as this mesh's MeshConfig demands "
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
        """The request that is being served right here (its peer, principal, path, headers), or None outside of a handler.
        Known in handlers, in what they call and in their response generators; not in threads that they start."""
        return inbound_context.here()

    def grpc_channel(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None = None,
        options: Options | None = None,
        *,
        compression: grpc.Compression | None = None,
    ) -> grpc.Channel:
        """A ``grpc.Channel`` to a host of the mesh, such as ``ratings:9080``: all four kinds of calls obey its resources.

        ``credentials``, ``options`` and ``compression`` are those of ``grpc.secure_channel``; without credentials the
        endpoints are spoken to in plaintext unless a DestinationRule has ``tls``. ``xds:///`` targets are grpcio's own
        business: they get its own channel. Raises ``MeshError`` when grpcio is not installed or the target is no host.
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
        """The same as a ``grpc.aio.Channel``; ``interceptors`` run around the mesh, once a call and not once an attempt."""
        _need_grpcio()
        if target.startswith("xds:"):
            import grpc

            if credentials is None:
                return grpc.aio.insecure_channel(target, options, compression, interceptors)
            return grpc.aio.secure_channel(target, credentials, options, compression, interceptors)
        from meshlib.transport.grpcio.client.aio_channel import AioMeshChannel

        return AioMeshChannel(self._core, target, credentials, options, compression, interceptors)

    def deadline(self, left: float | Mapping[str, str] | None) -> AbstractContextManager[None]:
        """Calls made inside ``with mesh.deadline(...)`` to services whose ResiliencePolicy has ``deadline`` end in time.

        ``left``: seconds, or the headers of the request being served (as of FastAPI or Flask), from which the time that is
        left is read. Works across ``await``; headers that say nothing change nothing.
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
