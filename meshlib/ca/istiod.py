"""istiod's certificate API on a port (``meshlib ca serve --istiod-address``): TLS by a certificate of this CA, callers by a
certificate of it or by a token."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TYPE_CHECKING

from meshlib.ca.certificates import CertificateService, Refused
from meshlib.ca.tls_front import TlsFront
from meshlib.identity.credentials import Credentials
from meshlib.problems import MeshError
from meshlib.security.certificate_messages import CREATE, SERVICE

if TYPE_CHECKING:
    import ssl

    import grpc

    from meshlib.ca.issued import Standing
    from meshlib.clock import Clock
    from meshlib.security.svid import Svid

NAMES = ("istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local", "localhost", "127.0.0.1")
"""In the server's certificate: what Istio's agents verify, and where a development dials."""
OURS = "/ns/istio-system/sa/istiod"
TTL = 86400.0
AT_ONCE = 64


class ServerCertificate:
    """The server's own: made anew at half of its life, and when the authority changes."""

    def __init__(self, standing: Callable[[], Standing], clock: Clock, names: Sequence[str] = NAMES) -> None:
        self._standing = standing
        self._clock = clock
        self._names = tuple(names)
        self._of: Standing | None = None
        self._svid: Svid | None = None

    def context(self) -> ssl.SSLContext:
        """For one connection: clients may show a certificate of the roots that are trusted now."""
        standing, now = self._standing(), self._clock.time()
        svid = self._svid
        if (
            svid is None
            or self._of is not standing
            or not svid.not_before <= now < (svid.not_before + svid.not_after) / 2
        ):
            domain = standing.signer.trust_domain
            svid = standing.signer.issue(f"spiffe://{domain}{OURS}", now, ttl=TTL, dns=self._names)
            self._svid, self._of = svid, standing
        return Credentials(svid, standing.bundles).server_context(["h2"], require_peer=False)


class CertificateServer:
    """Serves ``service`` at ``address``."""

    def __init__(self, address: str, service: CertificateService, certificate: ServerCertificate) -> None:
        self._service = service
        self._folder = tempfile.mkdtemp(prefix="meshlib-ca-")  # 0700: nobody comes in but through the front
        self._inner = f"{self._folder}/inner.sock"
        try:
            self._front = TlsFront(address, certificate.context, self._inner)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._server: grpc.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._front.port

    def start(self) -> None:
        """Serves when it returns. Raises ``MeshError`` without grpcio."""
        try:
            import grpc
        except ImportError as error:
            raise MeshError("serving istiod's API needs grpcio: pip install 'sidecarless[grpc]'") from error
        server = grpc.server(futures.ThreadPoolExecutor(AT_ONCE, "meshlib-ca"), options=[("grpc.so_reuseport", 0)])
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._create)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {CREATE: handler}),))
        server.add_insecure_port(f"unix:{self._inner}")
        server.start()
        self._server = server
        self._front.start()

    def close(self) -> None:
        """End all calls."""
        self._front.close()
        server, self._server = self._server, None
        if server is not None:
            server.stop(0).wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _create(self, raw: bytes, context: grpc.ServicerContext) -> bytes:
        import grpc

        try:
            leaf = self._front.leaf_of(context.peer())
        except KeyError:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")
        given = [str(value) for name, value in context.invocation_metadata() if name == "authorization"]
        try:
            return self._service.create(raw, leaf, given)
        except Refused as error:
            context.abort(grpc.StatusCode[error.code], str(error))
        raise AssertionError  # ``abort`` raises
