"""One call of CreateCertificate: how it is authenticated, and what its failure means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.identity import grpc_process
from meshlib.security.certificate_messages import CREATE, SERVICE

if TYPE_CHECKING:
    import grpc

    from meshlib.security.svid import Svid

TIMEOUT = 10.0
"""Seconds for one call, with its connection; of the network's time."""
_ADVICE = {
    "UNAUTHENTICATED": "it does not accept our token: check its audience (istio-ca), issuer and age",
    "PERMISSION_DENIED": "it is not allowed to have this certificate",
    "INVALID_ARGUMENT": "it refused the request: its longest TTL may be shorter",
    "UNAVAILABLE": "is it running, and do the roots verify its certificate, and the name in it?",
    "DEADLINE_EXCEEDED": "it is slow, or not there",
    "UNIMPLEMENTED": "it is not a CA of Istio",
}


class Failed(Exception):
    """Why there is no certificate; ``kind``: what it is a case of."""

    def __init__(self, problem: str, kind: str) -> None:
        super().__init__(problem)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Way:
    """How a caller says who it is: by a certificate, or by a token, which is in no repr."""

    svid: Svid | None = None
    token: str = field(default="", repr=False)


class Call:
    """On a channel of its own: the roots and the certificate may be others the next time."""

    __slots__ = ("_channel", "_metadata")

    def __init__(self, address: str, server_name: str, roots: bytes, way: Way, cluster: str) -> None:
        library = grpc_process.library()
        svid = way.svid
        credentials = library.ssl_channel_credentials(
            roots, None if svid is None else svid.key_pem, None if svid is None else svid.chain_pem
        )
        options = [*grpc_process.OPTIONS, ("grpc.ssl_target_name_override", server_name)]
        self._channel: grpc.Channel = library.secure_channel(address, credentials, options)
        grpc_process.used()
        self._metadata: tuple[tuple[str, str], ...] = (("clusterid", cluster),)
        if way.token:
            self._metadata += (("authorization", f"Bearer {way.token}"),)

    def create(self, asked: bytes, what: str) -> bytes:
        """The response. Raises ``Failed``."""
        library = grpc_process.library()
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{SERVICE}/{CREATE}", None, None
        )
        try:
            found: bytes = method(asked, timeout=TIMEOUT, metadata=self._metadata)
        except library.RpcError as error:
            code, text = grpc_process.said(error)
        except ValueError:  # grpcio's, of a channel that ``stop`` has closed meanwhile
            code, text = "CANCELLED", ""
        else:
            return found
        advice = _ADVICE.get(code, "")
        raise Failed(
            f"{what} gives no certificate ({f'{code}: {text}' if text else code}){f': {advice}' if advice else ''}",
            code,
        )

    def stop(self) -> None:
        """From any thread; idempotent."""
        self._channel.close()
